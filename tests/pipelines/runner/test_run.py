"""The stage runner on a real local Ray: every id ends as one row or one reject, whatever happens to a worker."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import fake_stage
import numpy as np
import pytest
from fake_stage import FakeStage, First, Second
from ray import cloudpickle

from actors.base import check_actors
from cluster.session import RaySession
from pipelines.folder.images import IMAGES
from pipelines.runner.block import Block, decode_block, encode_block
from pipelines.runner.progress import Progress
from pipelines.runner.run import GraphRun, run_graph
from pipelines.runner.stage import StageSummary
from pipelines.runner.worker import SegmentWorker, segments
from sc3d.artefacts import KEPT, MISSING
from sc3d.config import RunConfig
from sc3d.config_file import load_config
from sc3d.errors import ConfigError, RejectBudgetError, WorkerError
from sc3d.records import ImageRecord, Orientation
from sc3d.shards import Shard, item_table

cloudpickle.register_pickle_by_value(fake_stage)


def stage_in(folder: Path, *overrides: str) -> FakeStage:
    return FakeStage(load_config(overrides=[f"run={folder}", *overrides]))


def name_images(stage: FakeStage, ids: Sequence[str], **inputs: str) -> None:
    """Write the manifest; ``inputs`` are those of images that were not made of the usual."""
    images = [ImageRecord(i, f"{i}.png", "car", inputs=inputs.get(i, "usual")) for i in ids]
    stage.run.write_records(ImageRecord, IMAGES, images)


def run(stage: FakeStage, ids: Sequence[str], **inputs: str) -> StageSummary:
    name_images(stage, ids, **inputs)
    [summary] = run_graph([stage], item_table(("car", i) for i in ids), Progress(), RaySession(stage.config.ray))
    return summary


def rows(stage: FakeStage) -> list[str]:
    files = stage.artefacts.files()
    return sorted(r.image_id for name in files for r in stage.run.read_records(stage.record, name))  # type: ignore[attr-defined]


@pytest.mark.usefixtures("ray_session")
def test_every_id_is_computed_once_and_a_second_run_does_nothing(tmp_path: Path) -> None:
    ids = [f"i{n:02}" for n in range(10)]
    stage = stage_in(tmp_path)
    first = run(stage, ids)
    assert (first.items, first.computed, first.rejects) == (10, 10, 0)
    assert rows(stage) == ids
    assert first.counters == {"loaded": 10}
    again = run(stage_in(tmp_path), ids)
    assert (again.items, again.computed, again.counters) == (10, 0, {})
    assert sorted((tmp_path / "calls").read_text().split()) == ids


@pytest.mark.usefixtures("ray_session")
def test_another_manifest_and_another_plan_compute_only_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [f"i{n:02}" for n in range(9)]
    stage = stage_in(tmp_path)
    assert run(stage, ids[1::2]).computed == 4
    shards = stage.artefacts.files()
    monkeypatch.setattr(FakeStage, "shard_size", 4)
    assert run(stage_in(tmp_path), ids).computed == 5
    assert rows(stage) == ids
    assert set(shards) < set(stage.artefacts.files())
    assert sorted((tmp_path / "calls").read_text().split()) == ids


@pytest.mark.usefixtures("ray_session")
def test_shards_that_one_process_gets_together_are_written_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeStage, "shards_per_task", 4)
    monkeypatch.setattr("pipelines.runner.graph._TASKS_PER_WORKER", 1)
    ids = [f"i{n:02}" for n in range(23)]
    stage = stage_in(tmp_path)
    summary = run(stage, ids)
    assert (summary.computed, summary.counters) == (23, {"loaded": 23})
    assert rows(stage) == ids
    assert len(stage.artefacts.files()) == 8


@pytest.mark.usefixtures("ray_session")
def test_another_configuration_is_computed_beside_the_old_one(tmp_path: Path) -> None:
    run(stage_in(tmp_path), ["a1"])
    other = stage_in(tmp_path, "seed=7")
    assert run(other, ["a1"]).computed == 1
    assert len(other.run.names("fakes", ".parquet")) == 2


@pytest.mark.usefixtures("ray_session")
def test_what_is_made_of_something_else_is_computed_again_alone(tmp_path: Path) -> None:
    ids = [f"i{n:02}" for n in range(7)]
    run(stage_in(tmp_path), ids)
    stage = stage_in(tmp_path)
    assert run(stage, ids, i03="another photo").computed == 1
    assert stage.catalogue().ids.to_pylist().count("i03") == 1
    assert sorted(stage.catalogue().ids.to_pylist()) == ids
    assert sorted((tmp_path / "calls").read_text().split()) == sorted([*ids, "i03"])
    # The photo of before is back, and so is what was made of it.
    assert run(stage_in(tmp_path), ids).computed == 0
    # What the manifest does not name does not count, and is not lost either.
    fewer = stage_in(tmp_path)
    assert run(fewer, ids[:2]).computed == 0
    assert sorted(fewer.catalogue().ids.to_pylist()) == ids[:2]
    assert run(stage_in(tmp_path), ids).computed == 0


@pytest.mark.usefixtures("ray_session")
def test_bad_rows_become_rejects_and_take_nobody_along(tmp_path: Path) -> None:
    stage = stage_in(tmp_path, "max_reject_fraction=0.5")
    summary = run(stage, ["a1", "a2", "bad1", "crash1", "exit1", "z1", "z2"])
    assert rows(stage) == ["a1", "a2", "z1", "z2"]
    rejects = {r.id: r for r in stage.rejects()}
    assert summary.rejects == 3
    assert set(rejects) == {"bad1", "crash1", "exit1"}
    assert rejects["bad1"].error_type == "InputError"
    assert "replace the file" in rejects["bad1"].message
    assert rejects["crash1"].error_type == "ZeroDivisionError"
    assert (rejects["exit1"].error_type, "exit(3)" in rejects["exit1"].message) == ("SystemExit", True)
    assert run(stage_in(tmp_path, "max_reject_fraction=0.5"), ["a1", "a2", "bad1", "crash1", "exit1", "z1", "z2"]).computed == 0


@pytest.mark.usefixtures("ray_session")
def test_too_many_rejects_stop_the_run_with_the_commonest_reasons(tmp_path: Path) -> None:
    with pytest.raises(RejectBudgetError, match=r"max_reject_fraction = 0.05.*bad\d cannot be read.*rejects/fake"):
        run(stage_in(tmp_path), [f"bad{n}" for n in range(4)] + ["a1"])


@pytest.mark.usefixtures("ray_session")
def test_what_an_earlier_stage_rejected_does_not_count_against_the_budget(tmp_path: Path) -> None:
    stage = stage_in(tmp_path)
    assert run(stage, ["a1", "orphan1", "orphan2", "orphan3"]).rejects == 3
    assert rows(stage) == ["a1"]


@pytest.mark.usefixtures("ray_session")
def test_a_killed_worker_loses_and_doubles_nothing(tmp_path: Path) -> None:
    ids = [f"i{n:02}" for n in range(8)] + ["kill1"]
    stage = stage_in(tmp_path)
    assert run(stage, ids).rejects == 0
    assert (tmp_path / "killed-kill1").exists()
    assert rows(stage) == sorted(ids)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_what_kills_its_process_each_time_is_rejected_and_takes_nobody_along(tmp_path: Path) -> None:
    stage = stage_in(tmp_path, "max_reject_fraction=0.5")
    assert run(stage, ["a1", "deadly1", "z1", "z2"]).rejects == 1
    assert rows(stage) == ["a1", "z1", "z2"]
    (reject,) = stage.rejects()
    assert (reject.id, reject.error_type) == ("deadly1", "ProcessDied")
    assert run(stage_in(tmp_path, "max_reject_fraction=0.5"), ["a1", "deadly1", "z1", "z2"]).computed == 0


@pytest.mark.usefixtures("ray_session")
def test_a_model_of_a_pool_that_leaves_without_a_word_is_rejected_alone_and_the_pool_goes_on(tmp_path: Path) -> None:
    stage = stage_in(tmp_path, "max_reject_fraction=0.9")
    left = {"exit": "SystemExit", "generator": "GeneratorExit", "memory": "MemoryError", "deep": "RecursionError"}
    ids = ["a1", *(f"pooled-{how}" for how in left), "z1", "z2"]
    assert run(stage, ids).rejects == len(left)
    assert rows(stage) == ["a1", "z1", "z2"]
    assert {reject.id.removeprefix("pooled-"): reject.error_type for reject in stage.rejects()} == left


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_what_ends_the_process_of_a_pool_is_rejected_alone_and_the_pool_goes_on(tmp_path: Path) -> None:
    stage = stage_in(tmp_path, "max_reject_fraction=0.9")
    left = ["vanish", "fault", "interrupt"]
    ids = ["a1", *(f"pooled-{how}" for how in left), "z1", "z2"]
    assert run(stage, ids).rejects == len(left)
    assert rows(stage) == ["a1", "z1", "z2"]
    assert {reject.id.removeprefix("pooled-"): reject.error_type for reject in stage.rejects()} == dict.fromkeys(
        left, "ProcessDied"
    )


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_a_category_is_through_only_when_what_killed_its_process_was_tried_again(tmp_path: Path) -> None:
    stage = stage_in(tmp_path, "max_reject_fraction=0.5")
    ids = ["a1", "a2", "deadly1", "z1", "z2", "z3"]
    settled: list[int] = []
    name_images(stage, ids)
    graph = GraphRun([stage], Progress(), RaySession(stage.config.ray))
    graph.compute(item_table(("car", i) for i in ids), lambda category: settled.append(len(rows(stage)) + len(stage.rejects())))
    assert settled == [len(ids)]


@pytest.mark.usefixtures("ray_session")
def test_an_actor_that_cannot_start_ends_the_run_with_its_own_words(tmp_path: Path) -> None:
    stage = stage_in(tmp_path, "seed=13")
    with pytest.raises(WorkerError, match="WeightsError: the weights are gone; fetch them again"):
        run(stage, ["a1", "a2"])
    assert rows(stage) == []
    assert stage.rejects() == []


@pytest.mark.usefixtures("ray_session")
def test_a_committed_shard_is_not_computed_again_by_a_retried_task(tmp_path: Path) -> None:
    stage = stage_in(tmp_path)
    name_images(stage, ("a1", "a2"))
    shard = Shard("car", ("a1", "a2"), ("usual", "usual"))
    stage.artefacts.commit(shard, [Orientation(i, "car", 0, np.zeros(8), False) for i in shard.ids], [])
    worker = SegmentWorker(FakeStage, stage.whole, 0, 0)
    row = encode_block(Block.of("car", shard.ids, [[MISSING, MISSING]], {}))
    block = decode_block({key: value[0] for key, value in worker({key: [value] for key, value in row.items()}).items()})
    assert block.states == [[KEPT, KEPT]]
    assert block.files == {"fake": [stage.artefacts.file(shard)]}
    assert not (tmp_path / "calls").exists()


def test_actors_that_need_something_of_their_own_get_their_own_pool() -> None:
    assert segments([First, First, Second, First], RunConfig()) == [[First, First], [Second], [First]]


def test_an_actor_whose_needs_nobody_provides_is_refused_before_the_run() -> None:
    with pytest.raises(ConfigError, match=r"Second needs numbers \(array\)"):
        check_actors([Second], ["image_id"])
    check_actors([First, Second], ["image_id"])

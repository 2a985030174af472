"""What counts is what manifest and plan name and what was made from today's photos: all readers of labels, over changes of a data set."""

from __future__ import annotations

import contextvars
import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipelines.folder.configuration import stored_values
from pipelines.folder.manifest import read_images, read_pairs
from pipelines.jobs import adapter_search, clean, compare, evaluate, export, import_labels, label, relabel, sweep, train
from pipelines.jobs.relabel import count_labels
from pipelines.report.summary import summarise
from pipelines.runner.stage import Stage
from pipelines.stages.adapter import trained_labels
from pipelines.stages.describe import DescribeStage
from pipelines.stages.label import LabelStage, label_catalogue
from pipelines.stages.leftovers import find_leftovers
from pipelines.stages.match import MatchStage
from pipelines.stages.orient import OrientStage
from pipelines.stages.reconstruct import ReconstructStage
from pipelines.stages.registry import STAGES
from sc3d.config import RunConfig
from sc3d.config_file import load_config, parse_config
from sc3d.errors import InputError, RunBusyError, StoreError
from sc3d.lease import RunLease
from sc3d.pair_ids import split_pair_id
from sc3d.store import RunFolder


@dataclasses.dataclass(frozen=True)
class Copy:
    """A finished run and its data set, both in another place."""

    root: Path
    run: Path
    configure: Callable[..., RunConfig]

    def config(self, *overrides: str) -> RunConfig:
        return self.configure(self.run, self.root, *overrides)


@pytest.fixture
def copy(tmp_path: Path, finished: RunConfig, toys: Path, configure: Callable[..., RunConfig]) -> Copy:
    found = Copy(tmp_path / "data", tmp_path / "run", configure)
    shutil.copytree(toys, found.root)
    shutil.copytree(finished.run, found.run)
    return found


def computed(run: Path) -> dict[str, int]:
    """Stage -> how many rows its last run has made."""
    return {
        path.stem: json.loads(path.read_text())["computed"]
        for path in (run / "timings").glob("*.json")
        if path.stem in {kind.name for kind in STAGES if kind.command == "label"}
    }


def files_of(run: Path) -> dict[Path, int]:
    """The artefacts of a run and when they were written."""
    files = [path for path in run.rglob("*") if path.suffix in (".parquet", ".safetensors") and path.parent != run]
    return {path: path.stat().st_mtime_ns for path in files}


def places_of(stage: Stage) -> dict[str, tuple[str, int]]:
    """Id -> file and row of what counts of a stage."""
    found = stage.catalogue()
    places = zip(found.ids.to_pylist(), found.file_of.tolist(), found.row_of.tolist(), strict=True)
    return {one: (found.files[file], row) for one, file, row in places}


def labelled_ids(config: RunConfig) -> set[str]:
    return set(label_catalogue(config).ids.to_pylist())


def planned(config: RunConfig) -> set[str]:
    return {pair.pair_id for pair in read_pairs(RunFolder(config.run), labelled=True)}


def drop_image(copy: Copy, image_id: str) -> None:
    """Take an image, and the pairs that it is in, out of the data set."""
    for path in (copy.root / "PairAnnotation").rglob("*.json"):
        pair = json.loads(path.read_text())
        if image_id in (Path(pair["src_imname"]).stem, Path(pair["trg_imname"]).stem):
            path.unlink()
            for listed in (copy.root / "Layout").rglob("*.txt"):
                lines = [line for line in listed.read_text().splitlines() if path.stem not in line]
                listed.write_text("\n".join(lines) + "\n")


def readers(config: RunConfig, out: Path) -> dict[str, set[str]]:
    """The pairs that each reader of labels takes."""
    exported = export.export_labels(config, str(out))
    table = pq.read_table(f"{exported.uri}/data", partitioning=None)
    return {
        "summary": set(summarise(config).labels["pair_id"].tolist()),
        "training": set(trained_labels(config).ids.to_pylist()),
        "export": set(table["pair_id"].to_pylist()),
    }


def test_data_and_run_that_moved_are_the_same_run(copy: Copy, finished: RunConfig) -> None:
    before = files_of(copy.run)
    label.run(copy.config())
    assert set(computed(copy.run).values()) == {0}
    assert files_of(copy.run) == before
    assert stored_values(str(copy.run))["dataset"]["root"] == str(copy.root)
    assert labelled_ids(copy.config()) == labelled_ids(finished)
    assert len(LabelStage(copy.config()).catalogue()) == 16


def test_an_overwritten_photo_and_nothing_else_is_done_again(copy: Copy) -> None:
    config = copy.config()
    changed = next(image for image in read_images(RunFolder(config.run)) if image.split == "trn")
    path = next((copy.root / "JPEGImages" / changed.category).glob(f"*{Path(changed.path).name}"))
    kinds = (ReconstructStage, OrientStage, DescribeStage, MatchStage, LabelStage)
    before = {kind: places_of(kind(config)) for kind in kinds}
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    label.run(config)
    pairs = {pair_id for pair_id in planned(config) if changed.image_id in split_pair_id(pair_id)}
    made = computed(copy.run)
    assert {name: made[name] for name in ("reconstruct", "orient", "describe")} == {"reconstruct": 1, "orient": 1, "describe": 1}
    assert made["match"] == made["label"] == len(pairs) > 0
    for kind in kinds:
        after = places_of(kind(config))
        assert after.keys() == before[kind].keys()
        anew = {one for one, place in after.items() if place != before[kind][one]}
        assert anew == ({changed.image_id} if kind.key == "image_id" else pairs)
    assert labelled_ids(config) == planned(config)
    assert sum(one.rows for one in find_leftovers(config)) >= 3 + 2 * len(pairs)


def test_a_photo_that_is_gone_is_gone_for_everybody(copy: Copy, tmp_path: Path) -> None:
    config = copy.config()
    gone = next(image for image in read_images(RunFolder(config.run)) if image.split == "trn")
    train.run(config)
    drop_image(copy, Path(gone.path).stem)
    label.run(config)
    left = planned(config)
    assert left
    assert all(gone.image_id not in split_pair_id(pair_id) for pair_id in left)
    assert not [image for image in read_images(RunFolder(config.run)) if image.image_id == gone.image_id]
    found = readers(config, tmp_path / "out")
    with_labels = {pair_id for pair_id in left if LabelStage(config).known.read([pair_id])[pair_id].n_kept}
    assert found == {"summary": left, "training": left, "export": with_labels}
    evaluate.run(config)


def test_fewer_targets_leave_fewer_pairs_for_everybody(copy: Copy, tmp_path: Path) -> None:
    before = planned(copy.config())
    config = copy.config("pairs.targets=1")
    label.run(config)
    left = planned(config)
    assert left < before
    assert readers(config, tmp_path / "out")["training"] == left
    assert count_labels(config).pairs == len(left)
    relabelled = copy.config("pairs.targets=1", "label.tau_geo=0.02")
    relabel.run(relabelled)
    assert labelled_ids(relabelled) == left


def test_imported_labels_count_between_images_that_are_there_to_be_labelled(copy: Copy, tmp_path: Path) -> None:
    config = copy.config()
    export.export_labels(config, str(tmp_path / "diy"), export.ExportOptions(format="diy-sc", names="id"))
    recipe = import_labels.import_labels(config, str(tmp_path / "diy")).recipe
    before = set(label_catalogue(config, recipe).ids.to_pylist())
    assert before
    gone = split_pair_id(min(before))[0]
    drop_image(copy, Path(next(i.path for i in read_images(RunFolder(config.run)) if i.image_id == gone)).stem)
    label.run(config)
    there = {image.image_id for image in read_images(RunFolder(config.run)) if image.split == "trn"}
    left = {pair_id for pair_id in before if set(split_pair_id(pair_id)) <= there}
    assert gone not in there
    assert set(label_catalogue(config, recipe).ids.to_pylist()) == left < before


def test_leftovers_are_listed_and_removed_and_nothing_that_counts(copy: Copy) -> None:
    config = copy.config("pairs.targets=1")
    label.run(config)
    wanted = {pair_id: LabelStage(config).known.read([pair_id])[pair_id].cosine.tobytes() for pair_id in planned(config)}
    found, removed = clean.run(config)
    assert found
    assert removed == 0
    _, removed = clean.run(config, delete=True)
    assert removed > 0
    again, _ = clean.run(config)
    assert not [one for one in again if not one.other]
    known = LabelStage(config).catalogue()
    assert {pair_id: known.read([pair_id])[pair_id].cosine.tobytes() for pair_id in known.ids.to_pylist()} == wanted
    label.run(config)
    assert set(computed(copy.run).values()) == {0}


def test_a_mistyped_folder_does_not_claim_the_run(tmp_path: Path, configure: Callable[..., RunConfig]) -> None:
    with pytest.raises(InputError, match="nowhere"):
        label.run(configure(tmp_path / "run", tmp_path / "nowhere"))
    assert stored_values(str(tmp_path / "run")) == {}


def test_another_data_set_is_refused_and_a_relative_path_is_not(
    copy: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(copy.root / "JPEGImages/car", photos)
    with pytest.raises(StoreError, match="holds a run on"):
        label.run(load_config(None, [f"run={copy.run}", f"dataset.root={photos}", "dataset.category=car"]))
    monkeypatch.chdir(tmp_path)
    label.run(dataclasses.replace(copy.config(), run="run", dataset=dataclasses.replace(copy.config().dataset, root="data")))
    assert set(computed(copy.run).values()) == {0}


JOBS = {
    "label": lambda config: label.run(config),
    "relabel": lambda config: relabel.run(config),
    "train": lambda config: train.run(config),
    "evaluate": lambda config: evaluate.run(config),
    "compare": lambda config: compare.run(config, "2d"),
    "sweep": lambda config: sweep.run(config),
    "search": lambda config: adapter_search.run(config),
    "import": lambda config: import_labels.import_labels(config, f"{config.run}-diy"),
    "clean": lambda config: clean.run(config),
}


@pytest.mark.parametrize("command", sorted(JOBS))
def test_every_command_that_writes_is_refused_beside_another(command: str, copy: Copy) -> None:
    config = copy.config("sweep.trials=1", "sweep.trial_steps=1")
    if command == "import":
        export.export_labels(config, f"{config.run}-diy", export.ExportOptions(format="diy-sc", names="id"))
    writer = RunLease(RunFolder(config.run))
    # In a context of its own, so that this thread's other leases do not join it.
    other = contextvars.Context()
    other.run(writer.__enter__)
    try:
        with pytest.raises(RunBusyError):
            JOBS[command](config)
    finally:
        other.run(writer.__exit__, None, None, None)


@pytest.mark.parametrize("command", ["train", "evaluate", "compare", "relabel"])
def test_every_command_notes_what_it_was_run_with_and_how_far_it_is(command: str, copy: Copy) -> None:
    config = copy.config("train.steps=5")
    JOBS[command](config)
    run = RunFolder(config.run)
    assert parse_config(stored_values(config.run)).train.steps == 5
    assert run.read_json("status.json")["state"] == "finished"
    assert run.read_json("status.json")["command"] in (command, "train")


def test_an_adapter_trained_with_other_options_is_found_by_evaluate(copy: Copy) -> None:
    train.run(copy.config("train.steps=5"))
    later = parse_config({**stored_values(str(copy.run)), "run": str(copy.run)})
    metrics = evaluate.run(later).read_json("report/metrics.json")
    assert "adapter" in metrics["methods"]

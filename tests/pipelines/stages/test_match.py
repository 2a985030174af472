"""Matching in tiles: reads are counted, and other shard sizes and manifests lose and double nothing."""

from __future__ import annotations

import dataclasses
import io
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from actors.match import MatchActor, MatchOnGpu
from pipelines.folder.manifest import read_pair_table
from pipelines.jobs import label
from pipelines.report.summary import print_labels
from pipelines.runner.stage import Stage
from pipelines.stages.label import LabelStage
from pipelines.stages.match import MatchStage
from pipelines.stages.pairs import IMAGE_READS
from sc3d.config import PairsConfig, RunConfig
from sc3d.console import PlainConsole
from sc3d.shards import ITEMS
from sc3d.store import RunFolder


def table_of(stage: Stage) -> pa.Table:
    tables = [stage.run.read_table(stage.record, name) for name in stage.artefacts.files()]
    return pa.concat_tables(tables).sort_by("pair_id")


def test_reads_of_features_are_counted_and_shown(finished: RunConfig) -> None:
    values = RunFolder(finished.run).read_json("timings/match.json")
    n_pairs, n_images = 16, 8
    assert values["counted"] == n_pairs
    # Each of the images is read at least once, and less often than if each pair read both of its images.
    assert n_images <= values["counters"][IMAGE_READS] < 2 * n_pairs
    shown = io.StringIO()
    print_labels(finished, "page", PlainConsole(file=shown, width=200))
    line = next(line for line in shown.getvalue().splitlines() if line.startswith("reads per pair"))
    assert f" {values['counters'][IMAGE_READS] / n_pairs:.2f} " in line


@pytest.mark.usefixtures("ray_session")
def test_lost_shards_other_sizes_and_more_pairs_lose_and_double_nothing(finished: RunConfig, tmp_path: Path) -> None:
    shutil.copytree(finished.run, tmp_path / "run")
    config = dataclasses.replace(finished, run=str(tmp_path / "run"))
    expected = table_of(LabelStage(config))
    matches = MatchStage(config).artefacts.files()
    (tmp_path / "run" / matches[0]).unlink()
    kept = {name: (tmp_path / "run" / name).stat().st_mtime_ns for name in matches[1:]}
    resized = dataclasses.replace(config, ray=dataclasses.replace(config.ray, pairs_per_shard=3))
    label.run(resized)
    assert {name: (tmp_path / "run" / name).stat().st_mtime_ns for name in kept} == kept
    assert table_of(LabelStage(resized)).equals(expected)
    more = dataclasses.replace(resized, pairs=PairsConfig(strategy="all"))
    label.run(more)
    rows = table_of(LabelStage(more))
    ids = rows["pair_id"].to_pylist()
    assert len(ids) == len(set(ids)) == 2 * 4 * 3
    assert table_of(MatchStage(more))["pair_id"].to_pylist() == ids
    before = expected["pair_id"].to_pylist()
    assert rows.filter(pa.array([i in set(before) for i in ids])).equals(expected)


def test_the_gpu_actor_gives_the_matches_of_the_other(finished: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    # The code of the GPU on a device that every machine has.
    monkeypatch.setattr(MatchOnGpu, "device", "cpu")
    stage = MatchStage(finished)
    items = read_pair_table(stage.run, labelled=True).select(["category", "pair_id"]).rename_columns(ITEMS.names)
    rows = [row for shard in stage.cut(items) for row in stage.load(shard)]
    rows = [row for row in rows if row["category"] == rows[0]["category"]]
    expected = [MatchActor(finished).process(row)["record"] for row in rows]
    found = [row["record"] for row in MatchOnGpu(finished).process_batch(rows)]
    assert sum(map(len, expected)) > 0
    for mine, theirs in zip(found, expected, strict=True):
        assert (mine.pair_id, len(mine), mine.n_cycle) == (theirs.pair_id, len(theirs), theirs.n_cycle)
        np.testing.assert_array_equal(mine.target_xy, theirs.target_xy)
        np.testing.assert_allclose(mine.geodesic_error, theirs.geodesic_error, atol=1e-6)


def test_a_gpu_is_asked_for_where_the_configuration_says_so(finished: RunConfig) -> None:
    config = dataclasses.replace(finished, match=dataclasses.replace(finished.match, device="cuda"))
    (actor,) = MatchStage(config).actors()
    assert actor.resources.num_gpus > 0
    with pytest.raises(ValueError, match="CPU alone"):
        dataclasses.replace(config.match, transfer="transport")

"""The labels of a run as other programs take them: what counts and nothing else, on a disk and in a bucket, without the stages."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.utils.data import DataLoader

from pipelines.runner.stage import StageSummary
from pipelines.runner.timings import record_summary
from pipelines.stages.label import LabelStage, label_catalogue
from sc3d.config import LabelConfig, RunConfig
from sc3d.counted_labels import label_artefacts, made_from, origin_file
from sc3d.errors import ConfigError, DamagedFileError, InputError, SchemaError
from sc3d.label_reader import labels
from sc3d.manifests import IMAGES, PAIRS
from sc3d.matching.thresholds import apply_thresholds
from sc3d.records import ImageRecord, Pair
from sc3d.shards import Shard
from sc3d.store import RunFolder
from tests.pipelines.commit_rows import commit_rows
from tests.pipelines.label_run import make_run, stored

CATEGORIES = ("bus", "dining table")


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return make_run(str(tmp_path / "run"), tmp_path / "photos")


def relabelled(config: RunConfig) -> RunConfig:
    """The run with labels of another threshold beside those that it has."""
    other = dataclasses.replace(config, label=LabelConfig(tau_geo=0.02))
    for category in CATEGORIES:
        rows = [apply_thresholds(row, other.label) for row in stored(config).values() if row.category == category]
        commit_rows(LabelStage(other), category, rows)
    return other


def test_every_match_is_a_row_and_every_pair_is(config: RunConfig) -> None:
    found = labels(config.run)
    expected = stored(config)
    assert len(found) == len(expected) == 24
    pairs = {row["pair_id"]: row for row in found.pairs().to_pylist()}
    assert pairs.keys() == expected.keys()
    matches = found.matches().to_pandas()
    for pair_id, row in expected.items():
        assert pairs[pair_id]["n_kept"] == len(row)
        np.testing.assert_array_equal(np.float32(pairs[pair_id]["source_xy"]).reshape(-1, 2), row.source_xy)
        mine = matches[matches["pair_id"] == pair_id]
        np.testing.assert_array_equal(mine[["source_x", "source_y"]], row.source_xy)
        np.testing.assert_array_equal(mine[["target_x", "target_y"]], row.target_xy)
        for name in ("cosine", "cycle_error", "geodesic_error"):
            np.testing.assert_array_equal(mine[name], getattr(row, name))
        assert set(mine["category"]) <= {row.category}
        assert set(mine["source_id"]) <= {row.source_id}
    assert len(matches) == sum(len(row) for row in expected.values())
    assert found.images()["path"].to_pylist() == [one.path for one in RunFolder(config.run).read_records(ImageRecord, IMAGES)]


def test_parts_are_the_whole_a_file_at_a_time(config: RunConfig) -> None:
    found = labels(config.run)
    parts = list(found.parts())
    assert len(parts) == len(LabelStage(config).artefacts.files()) > 2
    assert pa.concat_tables(parts).equals(found.pairs())


def test_one_category_alone(config: RunConfig) -> None:
    found = labels(config.run, category="dining table")
    assert set(found.pairs()["category"].to_pylist()) == {"dining table"}
    assert len(found) == 12
    with pytest.raises(InputError, match=r"holds no labels of the recipe \w+ and the category chair that count"):
        labels(config.run, category="chair")


def test_only_what_the_plan_names_and_what_was_made_from_the_photos_of_now_counts(config: RunConfig) -> None:
    """The same as for the commands, which have the stages at hand."""
    run = RunFolder(config.run)
    planned = run.read_records(Pair, PAIRS)
    run.write_records(Pair, PAIRS, planned[2:])
    images = [
        image.replace(inputs="another photo") if image.image_id == planned[-1].source_id else image
        for image in run.read_records(ImageRecord, IMAGES)
    ]
    run.write_records(ImageRecord, IMAGES, images)
    replaced = planned[-1].source_id
    expected = {pair.pair_id for pair in planned[2:] if replaced not in (pair.source_id, pair.target_id)}
    found = labels(config.run)
    assert set(found.pairs()["pair_id"].to_pylist()) == expected == set(label_catalogue(config).ids.to_pylist())
    assert 0 < len(expected) < len(planned) - 2


def test_imported_labels_count_as_long_as_their_photos_stay(config: RunConfig) -> None:
    run, row = RunFolder(config.run), next(row for row in stored(config).values() if len(row))
    artefacts = label_artefacts(run, "imported")
    run.write_json(origin_file(artefacts), {"origin": "elsewhere"})
    run.write_records(Pair, PAIRS, [])
    made = made_from(run, pa.array([row.pair_id]), "photo")
    artefacts.commit(Shard(row.category, (row.pair_id,), tuple(made["inputs"].to_pylist())), [row], [])
    assert labels(config.run, "imported").pairs()["pair_id"].to_pylist() == [row.pair_id]
    images = [image.replace(photo="another") for image in run.read_records(ImageRecord, IMAGES)]
    run.write_records(ImageRecord, IMAGES, images)
    with pytest.raises(InputError, match="holds no labels of the recipe imported that count"):
        labels(config.run, "imported")


def test_the_labels_that_were_made_last_are_read(config: RunConfig) -> None:
    other = relabelled(config)
    recipes = sorted(LabelStage(one).recipe for one in (config, other))
    with pytest.raises(InputError, match=rf"holds labels of 2 recipes; name one of them: {recipes[0]}, {recipes[1]}"):
        labels(config.run)
    for one in (other, config):
        stage = LabelStage(one)
        record_summary(stage.run, StageSummary(stage.name, 24, 24, 0, 1.0, recipe=stage.recipe))
        found = labels(config.run)
        assert found.recipe == stage.recipe
        assert set(found.pairs()["tau_geo"].to_pylist()) == {one.label.tau_geo}
    named = labels(config.run, LabelStage(other).recipe)
    assert len(named.matches()) < len(labels(config.run).matches())


def test_in_a_bucket(bucket: str, tmp_path: Path) -> None:
    config = make_run(f"{bucket}/runs/one", tmp_path / "photos")
    assert set(labels(config.run).pairs()["pair_id"].to_pylist()) == set(stored(config))


def test_a_data_loader_reads_the_pairs_that_have_labels(config: RunConfig) -> None:
    data = labels(config.run).torch()
    expected = {row.pair_id: row for row in stored(config).values() if len(row)}
    assert len(data) == len(expected) == 22  # type: ignore[arg-type]
    items = list(DataLoader(data, batch_size=None))
    for item in items:
        row = expected.pop(f"{item['source_id']}~{item['target_id']}")
        torch.testing.assert_close(item["target_xy"], torch.tensor(row.target_xy))
        torch.testing.assert_close(item["geodesic_error"], torch.tensor(row.geodesic_error))
        assert Path(item["source_path"]).is_file()
        assert item["category"] == row.category
    assert not expected
    assert data[-1]["source_id"] == items[-1]["source_id"]
    with pytest.raises(IndexError, match="pair 22 of 22"):
        data[22]


def test_what_is_no_run_or_damaged_is_told(config: RunConfig, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no labels; is it the folder of a run\? sc3d label makes them"):
        labels(tmp_path / "nothing")
    with pytest.raises(ConfigError, match=r"'\.\./x' is no recipe"):
        labels(config.run, "../x")
    run = RunFolder(config.run)
    run.write_json("timings/label.json", {"recipe": "../../elsewhere"})
    with pytest.raises(SchemaError, match="recipe"):
        labels(config.run)
    run.write_json("timings/label.json", {})
    name = LabelStage(config).artefacts.files()[0]
    run.write_bytes(name, run.read_bytes(name)[:-20])
    with pytest.raises(DamagedFileError, match="is damaged"):
        labels(config.run)


def test_neither_ray_nor_the_stages_are_needed(config: RunConfig) -> None:
    code = (
        "import sys, sc3d\n"
        f"print(len(sc3d.labels({config.run!r}).matches()))\n"
        "print([m for m in sys.modules if m.partition('.')[0] in ('ray', 'pipelines', 'actors', 'training')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == [str(sum(len(row) for row in stored(config).values())), "[]"]

"""What the joint orientation of a category keeps: one compass for all workers, and turns that stay when photos come."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from commit_rows import commit_rows

from actors.base import run_actors
from pipelines.folder.images import IMAGES
from pipelines.stages.orient import OrientStage
from pipelines.stages.render import RenderStage
from sc3d.config import RunConfig
from sc3d.config_file import load_config
from sc3d.geometry.orientation.category import decode_category
from sc3d.geometry.orientation.pooling import turned
from sc3d.records import ImageRecord, MeshViews, Orientation
from sc3d.shards import Shard
from sc3d.store import RunFolder

IDS = [f"car{i:02}" for i in range(24)]


def views(image_id: str, quarters: int = 0, numbering: str = "") -> MeshViews:
    """What cars have in common, and what is this one's own; turned by so many quarters."""
    common, own = np.random.default_rng(0), np.random.default_rng([1, IDS.index(image_id)])
    found = common.normal(size=(8, 64)) + 0.6 * own.normal(size=(8, 64))
    return MeshViews(image_id, "car", turned(found / np.linalg.norm(found), quarters), 14.0, numbering)


def configured(folder: Path, *overrides: str) -> RunConfig:
    return load_config(None, [f"run={json.dumps(str(folder))}", *overrides])


def manifest(config: RunConfig, ids: list[str], changed: str = "") -> None:
    records = [ImageRecord(i, f"{i}.jpg", "car", inputs=f"{changed if i == 'car00' else ''}those of {i}") for i in ids]
    RunFolder(config.run).write_records(ImageRecord, IMAGES, records)


def oriented(config: RunConfig, rows: list[MeshViews], ids: list[str] | None = None) -> dict[str, Orientation]:
    """What a worker of its own makes of some meshes, all of which are rendered."""
    render, stage = RenderStage(config), OrientStage(config)
    shard = commit_rows(render, "car", rows)
    mine = tuple(ids or shard.ids)
    inputs = dict(zip(shard.ids, shard.inputs, strict=True))
    work = Shard("car", mine, tuple(inputs[i] for i in mine), {"render": (render.artefacts.file(shard),)})
    outcomes = run_actors([actor(config) for actor in stage.actors()], stage.load(work), "image_id", "orient")
    assert not any(one.reject for one in outcomes)
    return {one.row["image_id"]: stage.finish(one.row, 0.1) for one in outcomes}


def compasses(config: RunConfig) -> dict[str, bytes]:
    run = RunFolder(config.run)
    return {name: run.read_bytes(name) for name in run.names(f"{OrientStage(config).artefacts.prefix}/compasses/car")}


def test_wrong_turns_are_undone_by_anchors_and_by_what_they_have_taught(tmp_path: Path) -> None:
    config = configured(tmp_path, "orient.anchors=12")
    manifest(config, IDS)
    wrong = {"car03": 1, "car10": 2, "car21": 3}
    found = oriented(config, [views(i, wrong.get(i, 0)) for i in IDS])
    assert {i: one.turn for i, one in found.items()} == {i: -90 * wrong.get(i, 0) % 360 for i in IDS}
    assert not any(one.uncertain for one in found.values())
    assert all(one.posterior is not None and one.posterior.max() > 0.8 for one in found.values())
    assert [name.rpartition("/")[2][:6] for name in compasses(config)] == ["000012"]


def test_whichever_worker_comes_first_the_same_comes_out(tmp_path: Path) -> None:
    once, twice = configured(tmp_path / "a", "orient.anchors=12"), configured(tmp_path / "b", "orient.anchors=12")
    rows = [views(i, int(i == "car05")) for i in IDS]
    for config in (once, twice):
        manifest(config, IDS)
    whole = oriented(once, rows)
    parts = oriented(twice, rows, IDS[:9]) | oriented(twice, rows, IDS[9:])
    assert list(compasses(once).values()) == list(compasses(twice).values())
    for image_id in IDS:
        np.testing.assert_array_equal(whole[image_id].posterior, parts[image_id].posterior)


def test_a_photo_more_changes_nothing_of_what_was_learned(tmp_path: Path) -> None:
    config = configured(tmp_path)
    manifest(config, IDS[:9])
    before = oriented(config, [views(i) for i in IDS[:9]])
    kept = compasses(config)
    manifest(config, IDS[:10])
    after = oriented(config, [views(i, int(i == "car09")) for i in IDS[:10]])
    assert compasses(config) == kept
    assert after["car09"].turn == 270
    for image_id, one in before.items():
        np.testing.assert_array_equal(after[image_id].posterior, one.posterior)


def test_a_category_that_grows_is_not_turned_round(tmp_path: Path) -> None:
    config = configured(tmp_path)
    manifest(config, IDS[:8])
    oriented(config, [views(i) for i in IDS[:8]])
    manifest(config, IDS)
    # Twice as many join, and all of them face the other way.
    after = oriented(config, [views(i, 0 if i in IDS[:8] else 2) for i in IDS])
    assert {after[i].turn for i in IDS[:8]} == {0}
    assert len(compasses(config)) == 2


def test_of_an_anchor_whose_photo_was_changed_nothing_is_known(tmp_path: Path) -> None:
    config = configured(tmp_path)
    manifest(config, IDS[:9])
    oriented(config, [views(i) for i in IDS[:9]])
    manifest(config, IDS[:9], changed="no longer ")
    after = oriented(config, [views(i, int(i == "car00")) for i in IDS[:9]])
    assert after["car00"].turn == 270


def test_a_damaged_compass_is_made_again(tmp_path: Path) -> None:
    config = configured(tmp_path)
    manifest(config, IDS[:9])
    rows = [views(i) for i in IDS[:9]]
    oriented(config, rows)
    kept = compasses(config)
    (name,) = kept
    RunFolder(config.run).write_bytes(name, b"damaged")
    oriented(config, rows)
    assert compasses(config) == kept


def test_meshes_that_were_posed_as_templates_are_never_turned(tmp_path: Path) -> None:
    config = configured(tmp_path, "orient.anchors=16")
    manifest(config, IDS)
    rows = [views(i, 0 if i in IDS[:6] else 2, "template" if i in IDS[:6] else "") for i in IDS]
    found = oriented(config, rows)
    assert {found[i].turn for i in IDS[:6]} == {0}
    assert not any(found[i].uncertain for i in IDS[:6])


@pytest.mark.parametrize(("least", "uncertain"), [(0.8, True), (0.0, False)])
def test_unsure_meshes_do_not_count_unless_all_do(least: float, uncertain: bool, tmp_path: Path) -> None:
    config = configured(tmp_path, f"orient.min_certainty={least}", "orient.anchors=12")
    manifest(config, IDS)
    rows = {i: views(i) for i in IDS}
    oriented(config, list(rows.values()))
    ((name, data),) = compasses(config).items()
    category = decode_category(data, name)
    other = next(i for i in IDS if not any(anchor.startswith(f"{i} ") for anchor in category.anchors))
    # One car and the same turned round, on top of each other: as much of each as leaves it open.
    straight, round_ = rows[other].descriptor, turned(rows[other].descriptor, 2)
    blends = [straight + share * round_ for share in np.linspace(0.5, 3, 100, dtype=np.float16)]
    rows[other] = rows[other].replace(descriptor=min(blends, key=lambda one: category.compass.posterior(one).max()))
    found = oriented(config, list(rows.values()))
    assert found[other].posterior is not None
    assert found[other].posterior.max() < 0.6
    assert (found[other].uncertain, found[other].counts) == (uncertain, not uncertain)
    assert all(found[i].counts for i in IDS if i != other)

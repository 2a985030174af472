"""The posed meshes of a run: those that the run itself works with, on a disk and in a bucket, and why there is none."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from pipelines.runner.stage import Stage, StageSummary
from pipelines.runner.timings import record_summary
from pipelines.stages.describe import DescribeStage
from pipelines.stages.orient import OrientStage
from pipelines.stages.reconstruct import ReconstructStage
from sc3d.config import RunConfig
from sc3d.config_file import load_config
from sc3d.errors import InputError, SchemaError
from sc3d.geometry.posed_mesh import PosedMesh
from sc3d.manifests import IMAGES
from sc3d.matching.pixels import verify
from sc3d.mesh_reader import MeshReader, meshes
from sc3d.records import LOW_CONFIDENCE, ImageRecord, Orientation
from sc3d.shards import Shard
from sc3d.store import RunFolder
from tests.pipelines.commit_rows import commit_rows
from tests.pipelines.label_run import TURN, make_run
from tests.posed_toys import posed_toy, shown_in_both

POSED = {"bus-1": posed_toy(0, 40), "bus-2": posed_toy(0, 65)}


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return make_run(str(tmp_path / "run"), tmp_path / "photos", posed=POSED)


def finished(*stages: Stage) -> None:
    """Note that these stages ran, in this order."""
    for stage in stages:
        record_summary(stage.run, StageSummary(stage.name, 4, 4, 0, 1.0, recipe=stage.recipe, upstream=stage.upstream_recipes))


def other_settings(config: RunConfig) -> RunConfig:
    """The same run with meshes of another kind."""
    return load_config(
        overrides=[
            f"run={json.dumps(config.run)}",
            f"dataset.root={json.dumps(config.dataset.root)}",
            "reconstruct.max_vertices=123",
        ]
    )


def test_they_are_those_that_the_run_describes(config: RunConfig) -> None:
    found, stage = meshes(config.run), DescribeStage(config)
    rows = {row["image_id"]: row for row in stage.load(Shard("bus", tuple(POSED), upstream=_files(config)))}
    for image_id, row in rows.items():
        posed = found[image_id]
        np.testing.assert_array_equal(np.float32(posed.mesh.vertices), row["vertices"])
        np.testing.assert_array_equal(posed.mesh.faces, row["faces"])
        np.testing.assert_allclose(posed.pose.R, row["rotation"], atol=1e-12)
        assert (posed.pose.scale, posed.pose.t.tolist()) == (row["scale"], row["translation"].tolist())
        np.testing.assert_array_equal(posed.camera.K, row["intrinsics"])
        np.testing.assert_array_equal(posed.mask, row["mask"])


def _files(config: RunConfig) -> dict[str, tuple[str, ...]]:
    return {kind.name: tuple(kind(config).artefacts.files()) for kind in (ReconstructStage, OrientStage)}


def test_true_matches_are_verified_on_them(config: RunConfig) -> None:
    found = meshes(config.run)
    xy = shown_in_both(*POSED.values())
    right = verify(found["bus-1"], found["bus-2"], *xy, transfer="template").keep
    # Places were rounded to float32, and some of the vertices lie on the outline.
    assert (right == verify(*POSED.values(), *xy, transfer="template").keep).mean() > 0.95
    wrong = verify(found["bus-1"], found["bus-2"], xy[0], xy[1][::-1], transfer="template").keep
    assert right.mean() > 0.8 > 0.2 > wrong.mean()


def test_they_are_read_from_a_bucket(bucket: str, tmp_path: Path) -> None:
    make_run(f"{bucket}/run", tmp_path / "photos", posed=POSED)
    assert isinstance(meshes(f"{bucket}/run")["bus-1"], PosedMesh)


def test_it_knows_what_it_has(config: RunConfig) -> None:
    found = meshes(RunFolder(config.run))
    assert "bus-1" in found
    assert "bus-0" not in found
    assert "no such" not in found


def test_an_unknown_image_is_told_with_those_that_are_near(config: RunConfig) -> None:
    with pytest.raises(InputError, match=r"has no image 'bsu-1' \(did you mean 'bus-1'"):
        meshes(config.run)["bsu-1"]


def test_a_rejected_image_is_told_with_the_reason(config: RunConfig) -> None:
    with pytest.raises(InputError, match=r"no mesh of 'bus-4': reconstruct rejected it \(InputError: the file is empty\)"):
        meshes(config.run)["bus-4"]


def test_an_image_that_the_run_has_not_come_to_is_told(config: RunConfig) -> None:
    with pytest.raises(InputError, match="no mesh of 'bus-0' yet: the same sc3d label"):
        meshes(config.run)["bus-0"]


def test_the_mesh_of_a_photo_that_was_replaced_does_not_count(config: RunConfig) -> None:
    run = RunFolder(config.run)
    images = [
        dataclasses.replace(one, inputs="another photo") if one.image_id == "bus-1" else one
        for one in run.read_records(ImageRecord, IMAGES)
    ]
    run.write_records(ImageRecord, IMAGES, images)
    with pytest.raises(InputError, match="no mesh of 'bus-1' yet"):
        meshes(run)["bus-1"]


@pytest.mark.parametrize("why", ["orientation", "template"])
def test_a_mesh_of_which_nobody_knows_which_way_it_faces_is_given_only_if_asked_for(config: RunConfig, why: str) -> None:
    if why == "orientation":
        posterior = np.float32([0.4, 0.4, 0.1, 0.1])
        row = Orientation("bus-1", "bus", TURN, np.zeros(8, np.int32), True, posterior=posterior)
        _replace(OrientStage(config), row)
    else:
        (found,) = ReconstructStage(config).catalogue().read(["bus-1"]).values()
        _replace(ReconstructStage(config), dataclasses.replace(found, flags=(LOW_CONFIDENCE,)))
    with pytest.raises(InputError, match=r"not sure which way the mesh of 'bus-1' faces.*sc3d orient .*unsure=True"):
        meshes(config.run)["bus-1"]
    np.testing.assert_allclose(meshes(config.run, unsure=True)["bus-1"].pose.R, POSED["bus-1"].pose.R, atol=1e-6)


def _replace(stage: Stage, row: Orientation) -> None:
    for name in stage.artefacts.files():
        if row.image_id in stage.run.read_table(stage.record, name)["image_id"].to_pylist():
            kept = [one for one in stage.run.read_records(stage.record, name) if one.image_id != row.image_id]
            stage.run.delete(name)
            commit_rows(stage, row.category, [*kept, row])


def test_a_mesh_and_its_turn_are_of_one_recipe(config: RunConfig) -> None:
    """Other settings have made other meshes, which were not turned yet: those of before go on to be given."""
    finished(ReconstructStage(config), OrientStage(config))
    other, row = other_settings(config), ReconstructStage(config).catalogue().read(["bus-1"])["bus-1"]
    commit_rows(ReconstructStage(other), "bus", [dataclasses.replace(row, vertices=2 * row.vertices)])
    finished(ReconstructStage(other))
    before = meshes(config.run)["bus-1"].mesh.diagonal
    assert before == pytest.approx(POSED["bus-1"].mesh.diagonal, rel=1e-5)
    commit_rows(OrientStage(other), "bus", [Orientation("bus-1", "bus", TURN, np.zeros(8, np.int32), False)])
    finished(OrientStage(other))
    assert meshes(config.run)["bus-1"].mesh.diagonal == pytest.approx(2 * before, rel=1e-5)


def test_nobody_guesses_which_of_several_were_made_last(config: RunConfig) -> None:
    row = ReconstructStage(config).catalogue().read(["bus-1"])["bus-1"]
    commit_rows(ReconstructStage(other_settings(config)), "bus", [row])
    with pytest.raises(InputError, match="holds reconstructions of 2 recipes, and nobody noted which were made last"):
        meshes(config.run)


def test_a_folder_without_meshes_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no meshes that were turned to their fronts; sc3d label makes them"):
        meshes(tmp_path)


def test_a_damaged_file_is_told(config: RunConfig) -> None:
    (name,) = [
        name
        for name in ReconstructStage(config).artefacts.files()
        if "bus-1" in ReconstructStage(config).catalogue().table(name)["image_id"].to_pylist()
    ]
    Path(config.run, name).write_bytes(b"PAR1")
    with pytest.raises(SchemaError):
        MeshReader(RunFolder(config.run))["bus-1"]

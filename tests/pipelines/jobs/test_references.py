"""References of a run: chosen once for a category, kept whatever becomes of their photos, and part of what pairs are made from."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipelines.folder.manifest import read_images
from pipelines.jobs import label
from pipelines.jobs.references import assign_references
from pipelines.stages.describe import DescribeStage
from pipelines.stages.match import MatchStage
from pipelines.stages.orient import OrientStage
from pipelines.stages.register import RegisterStage
from pipelines.stages.verifying import described_images
from sc3d.config import RunConfig
from sc3d.config_file import load_config
from sc3d.matching.transfer import RegistrationTransfer, transfers_between
from sc3d.store import RunFolder


@pytest.fixture
def copied(finished: RunConfig, tmp_path: Path) -> RunConfig:
    shutil.copytree(finished.run, tmp_path / "run")
    return dataclasses.replace(finished, run=str(tmp_path / "run"))


def references(config: RunConfig) -> list[Path]:
    return list((Path(config.run) / "references").glob("*.parquet"))


def test_every_mesh_is_registered_to_the_references_of_its_category(finished: RunConfig) -> None:
    stage = RegisterStage(finished)
    assert stage.recipe == references(finished)[0].stem
    for category in ("car", "chair"):
        chosen = stage.book.get(category)
        assert chosen is not None
        assert len(chosen.meshes) == 3
    for image in read_images(RunFolder(finished.run)):
        places = stage.known.read([image.image_id])[image.image_id].by_reference
        assert places.shape == (3, len(stage.meshes([image.image_id])[image.image_id].vertices), 6)
        chosen = stage.book.get(image.category)
        assert chosen is not None
        # A registered mesh fills the box of each reference.
        for mesh, found in zip(chosen.meshes, places, strict=True):
            sides = np.ptp(mesh.vertices, axis=0) / mesh.diagonal
            assert np.abs(np.ptp(found[:, :3], axis=0) - sides).max() < 0.1


def test_labels_are_verified_by_them(finished: RunConfig) -> None:
    match = MatchStage(finished)
    images = described_images(match.other(DescribeStage), finished.match, 100)
    pair = match.known.read(match.known.ids.to_pylist()[:1]).popitem()[1]
    source, target = images.get(pair.source_id).mesh, images.get(pair.target_id).mesh
    assert source is not None
    assert target is not None
    asked = transfers_between(source, target, RegistrationTransfer())
    assert len(asked) == len(source.place_trees) == 3


def test_they_stay_when_they_are_there(copied: RunConfig) -> None:
    stage = RegisterStage(copied)
    before = references(copied)[0].stat().st_mtime_ns
    assign_references(stage, OrientStage(copied).items())
    assert references(copied)[0].stat().st_mtime_ns == before


@pytest.mark.usefixtures("ray_session")
def test_without_them_no_registration_counts_and_all_are_made_again(copied: RunConfig) -> None:
    before = len(RegisterStage(copied).catalogue())
    kept = RegisterStage(copied).book.get("car")
    references(copied)[0].unlink()
    assert len(RegisterStage(copied).catalogue()) == 0
    label.run(copied)
    again = RegisterStage(copied).book.get("car")
    assert kept is not None
    assert again is not None
    # The same meshes, so what there was counts again.
    assert again.key == kept.key
    assert len(RegisterStage(copied).catalogue()) == before


def test_registrations_to_others_do_not_count_in_that_category(copied: RunConfig) -> None:
    stage = RegisterStage(copied)
    images = {image.image_id: image.category for image in read_images(RunFolder(copied.run))}
    before = set(stage.catalogue().ids.to_pylist())
    others = {image_id: mesh for image_id, mesh in stage.meshes(sorted(images)).items() if images[image_id] == "car"}
    stage.book.store({"car": dict(list(others.items())[-2:])})
    after = set(RegisterStage(copied).catalogue().ids.to_pylist())
    assert {images[image_id] for image_id in before - after} == {"car"}
    assert {images[image_id] for image_id in after} == {"chair"}


def test_the_papers_transfer_needs_none(tmp_path: Path) -> None:
    config = load_config(None, [f"run={tmp_path}", "match.transfer=nearest"])
    assert RegisterStage not in MatchStage(config).upstream
    assert (
        RegisterStage
        in MatchStage(dataclasses.replace(config, match=dataclasses.replace(config.match, transfer="registration"))).upstream
    )

"""The foundation profile from photos to labels, with small random models of the same architectures: the whole graph, on a CPU."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.jobs import label
from pipelines.report.summary import summarise
from pipelines.stages.describe import DescribeStage
from pipelines.stages.label import LabelStage
from pipelines.stages.orient import OrientStage
from pipelines.stages.reconstruct import ReconstructStage
from sc3d.config import RunConfig
from sc3d.config_file import load_config


def photo(path: Path, seed: int) -> None:
    """A disc on noise: a random model sees nothing in either."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 80, (96, 128, 3)).astype(np.uint8)
    rows, columns = np.mgrid[:96, :128]
    pixels[(rows - 48) ** 2 + (columns - 64) ** 2 < 900 + 200 * seed] = (200, 160, 40 * seed)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(2):
        photo(folder / f"bus{seed}.png", seed)
    options = [
        f"run={tmp_path / 'run'}",
        f"dataset.root={folder}",
        "dataset.category=bus",
        "profile=foundation",
        "models.variant=tiny",
    ]
    return load_config(overrides=[*options, "describe.ball_radius=0.2", "match.tau_geo=0.1"])


@pytest.mark.timeout(400)
@pytest.mark.usefixtures("ray_session")
def test_photos_become_labels(config: RunConfig) -> None:
    label.run(config)
    assert summarise(config).rejects == []
    reconstructions = ReconstructStage(config).catalogue().read_all()
    orientations = OrientStage(config).catalogue().read_all()
    assert len(reconstructions) == len(orientations) == 2
    assert all(len(one.votes) == config.orient.views for one in orientations)
    features = DescribeStage(config).read_features(reconstructions[0].image_id)
    # The layers of the paper's models, on their own grids.
    assert {name: layer.shape[1:] for name, layer in features.sources.items()} == {
        "dino": (60, 60),
        "sd.s3": (60, 60),
        "sd.s4": (30, 30),
        "sd.s5": (15, 15),
    }
    assert features.shape is not None
    assert np.isfinite(features.shape).all()
    labels = LabelStage(config).catalogue().read_all()
    assert len(labels) == 2
    assert all(row.n_candidates > 0 for row in labels)
    other = dataclasses.replace(config, models=dataclasses.replace(config.models, sd_timestep=100))
    assert DescribeStage(other).recipe != DescribeStage(config).recipe
    assert ReconstructStage(other).recipe == ReconstructStage(config).recipe

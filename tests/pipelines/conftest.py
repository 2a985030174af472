"""A small finished run on generated images, made once and copied by the tests that change it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sc3d.config import RunConfig
from sc3d.config_file import load_config
from sc3d.datasets.toys import ToysConfig, generate_toys

# The helpers beside this file, for the tests of all folders below it.
sys.path.insert(0, str(Path(__file__).resolve().parent))

SMALL: dict[str, Any] = {
    "dataset": {"kind": "toys"},
    "pairs": {"targets": 2},
    "train": {"steps": 4, "pairs_per_step": 2, "channels": 32},
    "ray": {"images_per_shard": 4, "pairs_per_shard": 4},
    "max_reject_fraction": 0.5,
    "sweep": {"steps": 2, "pairs_per_category": 2},
    "evaluate": {"max_pairs_per_category": 3},
}


@pytest.fixture(scope="session")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two categories, four images to label, two to validate and two to test in each."""
    root = tmp_path_factory.mktemp("toys") / "data set"
    images = {"trn": 4, "val": 2, "test": 2}
    generate_toys(root, ToysConfig(categories=("car", "chair"), images=images, occlusion=0.0, truncation=0.0, workers=1))
    return root


def small_config(run: str | Path, root: Path, *overrides: str) -> RunConfig:
    """The small configuration on a run folder and a data set."""
    paths = [f"run={json.dumps(str(run))}", f"dataset.root={json.dumps(str(root))}"]
    return load_config(None, [*paths, *overrides], SMALL)


@pytest.fixture(scope="session")
def configure() -> Callable[..., RunConfig]:
    """:func:`small_config`, for tests in folders below."""
    return small_config


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, toys: Path, ray_session: None) -> RunConfig:
    """Every stage of the pipeline on the small benchmark. Do not change it: copy it."""
    from pipelines.jobs import evaluate, label, train
    from pipelines.report import page as report

    config = small_config(tmp_path_factory.mktemp("runs") / "finished", toys)
    label.run(config)
    train.run(config)
    evaluate.run(config)
    report.run(config)
    return config

"""Fixtures of the evaluation tests."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from sc3d.features import Features


@pytest.fixture(scope="session")
def make_features() -> Callable[..., Features]:
    """``random_features`` of the matching tests' ``scene.py`` (tests are no package)."""
    path = Path(__file__).resolve().parents[1] / "matching" / "scene.py"
    spec = importlib.util.spec_from_file_location("matching_scene_for_evaluation", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function: Callable[..., Features] = module.random_features
    return function

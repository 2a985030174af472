"""Fixtures of the matching tests: small described images, and the plain reference of the label step."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from sc3d.features import Features


def _load(name: str) -> ModuleType:
    """A module beside this file (tests are no package)."""
    spec = importlib.util.spec_from_file_location(f"matching_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def make_features() -> Callable[..., Features]:
    """``scene.random_features``."""
    function: Callable[..., Features] = _load("scene").random_features
    return function


@pytest.fixture(scope="session")
def reference() -> ModuleType:
    """``reference_label.py``."""
    return _load("reference_label")

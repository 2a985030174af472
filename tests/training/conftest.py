"""Fixtures of the training tests: a tiny training set."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def toy_pairs() -> ModuleType:
    """The module ``pairs.py`` beside this file (tests are no package)."""
    spec = importlib.util.spec_from_file_location("toy_pairs", Path(__file__).with_name("pairs.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

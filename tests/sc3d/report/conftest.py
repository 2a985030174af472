"""The scenes beside this file, which are in no package, for all tests that need them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def scene() -> ModuleType:
    """The module scene.py; another folder has one of that name."""
    spec = importlib.util.spec_from_file_location("report_scene", Path(__file__).with_name("scene.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["report_scene"] = module
    spec.loader.exec_module(module)
    return module

"""A mistake in a pure function is noticed by its tests: see tests/mutations.py."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sc3d_mutations", Path(__file__).with_name("mutations.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_what_is_mutated_is_in_the_code() -> None:
    mutations = load()
    assert mutations.misplaced() == []
    assert len(mutations.MUTATIONS) == len({one.file for one in mutations.MUTATIONS}) == 20


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_mutation_is_noticed() -> None:
    assert load().main() == 0

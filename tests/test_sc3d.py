"""The front door: everything that ``import sc3d`` offers is there, documented, quick to import, and apart from Ray."""

from __future__ import annotations

import ast
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import sc3d

HEAVY = {"numpy", "scipy", "torch", "pyarrow", "open3d", "numba", "ray"}


def loaded_by(code: str) -> set[str]:
    """The top-level packages that a fresh process has loaded after some code."""
    code += "\nprint(' '.join({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", f"import sys\n{code}"], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("name", sc3d.__all__)
def test_what_is_offered_is_there_and_says_what_it_is(name: str) -> None:
    assert name in dir(sc3d)
    assert inspect.getdoc(getattr(sc3d, name))


def test_type_checkers_see_the_same_names_at_the_same_places() -> None:
    tree = ast.parse(Path(sc3d.__file__).read_text(encoding="utf-8"))
    checked = {
        one.asname: node.module
        for block in tree.body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for one in node.names
    }
    assert checked == sc3d._HOMES


def test_no_name_hides_a_module() -> None:
    """A module of the same name would take its place when somebody imports it."""
    modules = {one.name for one in pkgutil.iter_modules(sc3d.__path__)}
    assert not modules & set(sc3d.__all__)


def test_the_import_loads_nothing_heavy() -> None:
    assert not HEAVY & loaded_by("import sc3d")


def test_nothing_that_is_offered_loads_ray_or_the_other_rooms() -> None:
    rooms = {"ray", "actors", "pipelines", "training", "cluster"}
    assert not rooms & loaded_by("import sc3d\nfor name in sc3d.__all__: getattr(sc3d, name)")
    assert "ray" not in loaded_by("from training.adapter import load_adapter")


def test_an_unknown_name_is_told() -> None:
    with pytest.raises(AttributeError, match="module 'sc3d' has no attribute 'verifi'"):
        sc3d.verifi  # noqa: B018

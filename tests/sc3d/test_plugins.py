"""Names of one's own: of a module on the path, of an installed package, and what is said where they do not lead anywhere."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sc3d.errors import ConfigError
from sc3d.plugins import code_of, find, names

GROUP = "sc3d.tests"
KNOWN = {"seven": 7, "join": "os.path:join", "lame": "a_library_that_is_not_installed.part:Name"}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, install: Callable[[str, str, str], Path]) -> Path:
    """A folder like site-packages: a package with entry points, and its module, which nobody has imported."""
    (tmp_path / "lacking_of_tests.py").write_text("import a_library_that_is_not_installed\n")
    monkeypatch.delitem(sys.modules, "lacking_of_tests", raising=False)
    install(
        "birds_of_tests",
        "WINGS = 2\n\nclass Bird:\n    legs = 2\n",
        f"[{GROUP}]\nwings = birds_of_tests:WINGS\nseven = birds_of_tests:WINGS\nlost = birds_of_tests:Nest\nwhole = birds_of_tests\n"
        "[sc3d.other]\nelsewhere = birds_of_tests:WINGS\n",
    )
    return tmp_path


def look(name: str) -> object:
    return find(GROUP, name, KNOWN, "thing", "pip install 'sc3d[all]'")


@pytest.mark.usefixtures("site")
def test_a_name_is_known_or_of_a_module_or_of_a_package() -> None:
    import os.path

    assert look("seven") == 7, "a package cannot replace what is known"
    assert look("join") is os.path.join
    assert "birds_of_tests" not in sys.modules
    assert look("wings") == look("birds_of_tests:WINGS") == look("birds_of_tests:Bird.legs") == 2
    assert names(GROUP, KNOWN) == ("seven", "join", "lame", "wings", "lost", "whole")


def test_without_packages_there_is_what_is_known() -> None:
    assert names("sc3d.nothing", KNOWN) == tuple(KNOWN)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("wing", r"no thing named 'wing' \(did you mean wings\?\); there are seven, join, lame, wings, .*module:Name.*sc3d\.tests"),
        ("quite another", "no thing named 'quite another'; there are seven"),
        ("elsewhere", "no thing named 'elsewhere'"),
        (
            "no_module_of_tests:X",
            "thing 'no_module_of_tests:X' cannot be loaded: there is no module 'no_module_of_tests'.*PYTHONPATH",
        ),
        ("sc3d.nowhere:X", r"there is no module 'sc3d\.nowhere'"),
        ("lacking_of_tests:X", "the module lacking_of_tests cannot be imported .*'a_library_that_is_not_installed'"),
        ("birds_of_tests:Nest", "<module 'birds_of_tests' from '.*'> has no Nest"),
        ("lost", "thing 'lost' cannot be loaded: .* has no Nest"),
        ("whole", "must look like module:Name"),
        ("birds_of_tests:", "must look like module:Name"),
        (":WINGS", "must look like module:Name"),
        ("C:\\birds", "must look like module:Name"),
        ("lame", r"there is no module 'a_library_that_is_not_installed'; pip install 'sc3d\[all\]'"),
    ],
)
@pytest.mark.usefixtures("site")
def test_a_name_that_leads_nowhere_says_why(name: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        look(name)


def test_a_fault_in_our_own_modules_is_not_taken_for_a_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sc3d.grid", None)
    with pytest.raises(ModuleNotFoundError, match=r"sc3d\.grid"):
        find(GROUP, "grid", {"grid": "sc3d.grid:Letterbox"}, "thing")


def test_code_is_told_apart_by_its_file(site: Path) -> None:
    digest = hashlib.sha256((site / "birds_of_tests.py").read_bytes()).hexdigest()
    assert code_of(GROUP, "wings", KNOWN, "thing") == code_of(GROUP, "birds_of_tests:Bird", KNOWN, "thing") == digest
    assert code_of(GROUP, "seven", KNOWN, "thing") == code_of(GROUP, "lame", KNOWN, "thing") == ""
    assert code_of(GROUP, "sys:path", KNOWN, "thing") == "", "without a file"
    with pytest.raises(ConfigError, match="no thing named 'eight'"):
        code_of(GROUP, "eight", KNOWN, "thing")

"""``tests/X/test_Y.py`` tests ``X/Y.py`` or what is in ``X/Y/``; the few that are about more than one module are listed in the README."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent


def files_of_tests() -> list[Path]:
    """All test files under their names in the folder of tests."""
    return sorted(path.relative_to(TESTS) for path in TESTS.rglob("test_*.py"))


def mirrors(path: Path) -> bool:
    """Whether there is a module, a package or a folder that a test file has the name of."""
    tested = ROOT / path.parent / path.stem.removeprefix("test_")
    return tested.with_suffix(".py").is_file() or tested.is_dir()


def listed_files() -> list[Path]:
    """The files that the README lists as being about more than one module."""
    text = (TESTS / "README.md").read_text(encoding="utf-8")
    return [Path(name) for name in re.findall(r"^- `(\S*test_\w+\.py)`", text, re.MULTILINE)]


def test_every_test_file_has_the_name_of_what_it_tests_or_is_listed() -> None:
    misplaced = [path.as_posix() for path in files_of_tests() if not mirrors(path) and path not in listed_files()]
    assert not misplaced


def test_only_files_that_are_there_and_mirror_nothing_are_listed() -> None:
    assert listed_files()
    superfluous = [path.as_posix() for path in listed_files() if path not in files_of_tests() or mirrors(path)]
    assert not superfluous

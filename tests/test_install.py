"""Which Pythons sc3d is for is said in several files, and everywhere the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from install.fits import HIGHEST, LOWEST, as_text
from install.lock import PYTHONS, extras

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
OURS = [as_text(python) for python in PYTHONS]


def requirements(section: str) -> list[Requirement]:
    """All quoted requirements of a part of pyproject.toml."""
    lines = (re.match(r'\s+"(.+)",$', line) for line in section.splitlines())
    return [Requirement(line[1]) for line in lines if line]


def needed() -> list[Requirement]:
    """What sc3d needs, and what its extras add."""
    (always,) = re.findall(r"^dependencies = \[\n(.*?)^\]", PYPROJECT, re.MULTILINE | re.DOTALL)
    optional = PYPROJECT.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    inline = [
        Requirement(text) for text in re.findall(r'"([^"]+)"', "\n".join(re.findall(r"^\S+ = \[(.+)\]$", optional, re.MULTILINE)))
    ]
    return requirements(always) + requirements(optional) + inline


def test_requires_python_is_what_make_takes() -> None:
    (wanted,) = re.findall(r'^requires-python = "(.+)"$', PYPROJECT, re.MULTILINE)
    after = (HIGHEST[0], HIGHEST[1] + 1)
    assert SpecifierSet(wanted) == SpecifierSet(f">={as_text(LOWEST)},<{as_text(after)}")


def test_classifiers_name_each() -> None:
    assert re.findall(r"Programming Language :: Python :: (3\.\d+)", PYPROJECT) == OURS


@pytest.mark.parametrize("name", ["README.md", "Makefile", "install/find_python.sh"])
def test_ranges_in_words(name: str) -> None:
    ranges = re.findall(r"(3\.\d+) to (3\.\d+)", (ROOT / name).read_text(encoding="utf-8"))
    assert ranges
    assert set(ranges) == {(OURS[0], OURS[-1])}


def test_make_looks_for_each() -> None:
    script = (ROOT / "install" / "find_python.sh").read_text(encoding="utf-8")
    assert re.findall(r"python(3\.\d+)", script.partition("set -- ")[2].partition("\n")[0]) == OURS[::-1]


def test_tools_read_the_code_as_the_lowest_does() -> None:
    assert f'target-version = "py{LOWEST[0]}{LOWEST[1]}"' in PYPROJECT
    assert f'python_version = "{as_text(LOWEST)}"' in PYPROJECT


@pytest.mark.parametrize("python", OURS)
@pytest.mark.parametrize(("system", "machine"), [("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64")])
def test_constraints_have_one_version_of_everything(python: str, system: str, machine: str) -> None:
    platform = {"sys_platform": system, "platform_machine": machine, "python_version": python, "python_full_version": f"{python}.0"}
    environment = {**platform, "implementation_name": "cpython", "platform_python_implementation": "CPython", "extra": ""}
    lines = [line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    pins: dict[str, SpecifierSet] = {}
    for pin in map(Requirement, lines):
        if pin.marker is None or pin.marker.evaluate(environment):
            assert pin.name not in pins, "two versions at once"
            pins[pin.name] = pin.specifier
    for wanted in needed():
        if wanted.marker is None or wanted.marker.evaluate(environment):
            (pin,) = pins[canonicalize_name(wanted.name)]
            assert wanted.specifier.contains(pin.version), f"{wanted}: constraints.txt has {pin}; say make lock"
    assert len([name for name in ("open3d", "open3d-cpu") if name in pins]) == 1


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_no_document_takes_sc3d_from_an_index_that_does_not_have_it(path: Path) -> None:
    assert not re.search(
        r"(pip|uv|uvx|pipx)\b[^\n`]*\s(install|add|run)?\s*['\"]?sc3d(\[|['\"`\s]|$)", path.read_text(encoding="utf-8")
    )


def test_extras_that_documents_name() -> None:
    named = {
        name
        for path in DOCUMENTS
        for found in re.findall(r"'\.\[([\w,-]+)\]'", path.read_text(encoding="utf-8"))
        for name in found.split(",")
    }
    assert {"foundation", "view"} <= named <= set(extras())

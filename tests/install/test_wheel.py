"""A wheel that is built from the tree works outside the clone, with what it says it needs and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from email import message_from_string
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("sc3d", "actors", "pipelines", "training", "cluster")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

# The packages of this environment serve as the index; those that nothing asked for are not there.
EMPTY = """
import sys
from importlib.metadata import packages_distributions
allowed, owners = set({allowed!r}), packages_distributions()
class Absent:
    def find_spec(self, name, path=None, target=None):
        owner = {{o.lower().replace("_", "-").replace(".", "-") for o in owners.get(name.partition(".")[0], [])}}
        if owner and not owner & allowed:
            raise ModuleNotFoundError(f"{{name}} of {{sorted(owner)}} is not among the dependencies", name=name)
sys.meta_path.insert(0, Absent())
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of what the build reads."""
    tree = tmp_path_factory.mktemp("tree")
    for name in ROOMS:
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    out = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-I",
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(out),
        str(tree),
    ]
    subprocess.run(command, check=True, timeout=300)
    (built,) = out.glob("*.whl")
    return built


def needs(requirements: list[str]) -> Iterator[tuple[str, set[str]]]:
    """The distributions that hold here, with the extras that are asked of them."""
    for requirement in map(Requirement, requirements):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield canonicalize_name(requirement.name), requirement.extras


def closure(requirements: list[str]) -> set[str]:
    """All distributions that an index would give for some requirements."""
    found: set[tuple[str, str]] = set()
    waiting = [(name, extra) for name, extras in needs(requirements) for extra in ("", *extras)]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in found:
            continue
        found.add((name, extra))
        try:
            asked = [Requirement(line) for line in distribution(name).requires or []]
        except PackageNotFoundError:
            continue
        here = [r for r in asked if r.marker is None or r.marker.evaluate({"extra": extra})]
        waiting += [(canonicalize_name(r.name), more) for r in here for more in ("", *r.extras)]
    return {name for name, _ in found}


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` of a new environment with the wheel in it."""
    environment = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True, timeout=300)
    python = environment / "bin" / "python"
    # Isolated: a clone on PYTHONPATH would count as installed.
    subprocess.run(
        [python, "-I", "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True, timeout=300
    )
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (archive.read(name).decode() for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    allowed = closure(message_from_string(metadata).get_all("Requires-Dist", [])) | {"sc3d", "pip"}
    (site,) = environment.glob("lib/python*/site-packages")
    # The lines of a .pth are places to look in; this environment's own .pth, which names the clone, is not read.
    others = [path for path in sys.path if path.endswith("site-packages")]
    (site / "index.pth").write_text("\n".join([*others, "import empty_environment"]) + "\n")
    (site / "empty_environment.py").write_text(EMPTY.format(allowed=sorted(allowed)))
    return environment / "bin"


def outside(folder: Path, *command: str) -> str:
    """What a command prints that is run outside the clone."""
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "RAY_ADDRESS")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, f"{done.stdout[-1000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def test_it_holds_every_module_and_every_file_that_pages_are_made_of(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {Path(name) for name in archive.namelist()}
    modules = {path.relative_to(ROOT) for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    # The files of cluster/ beside its code are for clones.
    files = (path for room in ROOMS[:-1] for path in (ROOT / room).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    read = {path.relative_to(ROOT) for path in files if path.suffix != ".py"}
    assert len(read) > 10
    assert modules | read <= held
    assert {path.parts[0] for path in held if path.suffix == ".py"} == set(ROOMS)


def test_it_runs_outside_the_clone(installed: Path, tmp_path: Path) -> None:
    sc3d = str(installed / "sc3d")
    where = outside(
        tmp_path, str(installed / "python"), "-c", "import sc3d, pipelines; print(sc3d.__file__); print(pipelines.__file__)"
    )
    assert all(Path(line).is_relative_to(installed.parent) for line in where.splitlines()), where
    sources = (ROOT / "sc3d" / "__init__.py").read_text()
    version = outside(tmp_path, sc3d, "--version").split()[1]
    assert f'"{version}"' in sources
    outside(tmp_path, sc3d, "sample", "photos", "--count", "2", "--category", "car")
    outside(tmp_path, sc3d, "label", "--images", "photos", "--run", "run", "--set", "ray.workers=1")
    assert list((tmp_path / "run" / "labels").rglob("*.parquet"))
    assert "<html" in (tmp_path / "run" / "report" / "index.html").read_text()


def test_what_is_not_asked_for_is_not_there(installed: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [installed / "python", "-c", "import hypothesis"], cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    assert "is not among the dependencies" in done.stderr

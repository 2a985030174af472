"""All compiled loops of sc3d are compiled ahead, with the types of a run, for any processor; images do so."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# All compiled functions of sc3d, and whether each has code in the folder.
FOUND = """
import importlib, json, pkgutil
import sc3d
from numba.core.registry import CPUDispatcher
found = {}
for module in pkgutil.walk_packages(sc3d.__path__, "sc3d."):
    for name, value in vars(importlib.import_module(module.name)).items():
        if isinstance(value, CPUDispatcher):
            found[value.py_func.__module__ + "." + value.py_func.__qualname__] = len(value._cache._cache_file._load_index())
print(json.dumps(found))
"""


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "NUMBA_CACHE_DIR": str(folder), "NUMBA_CPU_NAME": "generic", "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def ahead(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("image") / "kernels"
    command = [sys.executable, "-m", "sc3d.kernels_ahead", str(folder)]
    subprocess.run(command, env=environment(folder), cwd=ROOT, check=True, timeout=1200)
    return folder


def machine_code(folder: Path) -> set[Path]:
    return set(folder.rglob("*.nbc"))


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_every_compiled_function_is_there(ahead: Path) -> None:
    command = [sys.executable, "-c", FOUND]
    done = subprocess.run(command, env=environment(ahead), cwd=ROOT, capture_output=True, text=True, check=True, timeout=200)
    found = json.loads(done.stdout)
    assert len(found) > 20
    assert [name for name, versions in found.items() if not versions] == []


def test_every_decorator_is_the_one_that_finds_them() -> None:
    users = [
        path.name for path in (ROOT / "sc3d").rglob("*.py") if re.search(r"^\s*(import|from) numba", path.read_text(), re.MULTILINE)
    ]
    assert sorted(users) == ["kernels.py", "kernels_ahead.py"]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_code_is_for_no_processor_in_particular(ahead: Path) -> None:
    from sc3d.kernels import numba

    host = numba.core.registry.cpu_target.target_context.codegen().magic_tuple()[1]
    indices = [path.read_bytes() for path in ahead.rglob("*.nbi")]
    assert indices
    assert all(b"generic" in index and host.encode() not in index for index in indices)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_run_compiles_nothing_more(ahead: Path, tmp_path: Path) -> None:
    before = machine_code(ahead)
    for command in (
        ["sample", str(tmp_path / "photos"), "--count", "2", "--category", "car"],
        ["label", "--images", str(tmp_path / "photos"), "--run", str(tmp_path / "run"), "--set", "ray.workers=1"],
    ):
        command = [sys.executable, "-m", "pipelines.cli", *command]
        subprocess.run(command, env=environment(ahead), cwd=ROOT, check=True, timeout=1200, capture_output=True)
    assert machine_code(ahead) == before


def test_a_folder_must_be_named() -> None:
    done = subprocess.run([sys.executable, "-m", "sc3d.kernels_ahead"], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 2
    assert done.stderr.startswith("usage")


def test_the_image_compiles_them_where_its_user_finds_them() -> None:
    text = re.sub(r"\\\n\s*", " ", (ROOT / "cluster" / "images" / "main.Dockerfile").read_text())
    (settings,) = re.findall(r"^ENV (.*SC3D_KERNELS=.*)$", text, re.MULTILINE)
    assert "NUMBA_CPU_NAME=generic" in settings.split()
    compiles = text.index('python -m sc3d.kernels_ahead "$SC3D_KERNELS"')
    assert text.index('"/opt/sc3d[') < text.index(settings) < compiles < text.index("USER 1000")

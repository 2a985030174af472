"""Kernels compiled ahead are copied once to where numba may write, and are no condition of anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Compiles a kernel, unless it is there; prints where numba keeps it and whether it was.
CALL = """
import os
import numpy as np
from sc3d.matching.tiles import count_reads
count_reads(np.arange(4), np.arange(4), 2)
print(os.environ.get("NUMBA_CACHE_DIR", "-"), sum(count_reads.stats.cache_hits.values()), sum(count_reads.stats.cache_misses.values()))
"""


def call(home: Path, **environment: str) -> list[str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("NUMBA_", "SC3D_"))}
    done = subprocess.run(
        [sys.executable, "-c", CALL],
        env={**inherited, "HOME": str(home), **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=200,
    )
    return done.stdout.split()


@pytest.fixture
def ahead(tmp_path: Path) -> Path:
    """A folder of compiled kernels, as an image has it."""
    folder = tmp_path / "image"
    assert call(tmp_path, NUMBA_CACHE_DIR=str(folder)) == [str(folder), "0", "1"]
    return folder


def files(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_nothing_is_compiled_that_the_image_has(tmp_path: Path, ahead: Path) -> None:
    home = tmp_path / "home"
    before = files(ahead)
    for _ in range(2):
        kept, hits, misses = call(home, SC3D_KERNELS=str(ahead))
        assert (hits, misses) == ("1", "0")
        assert Path(kept).parent == home / ".cache" / "sc3d"
        assert files(Path(kept)) == before == files(ahead)
    assert [path.name for path in Path(kept).parent.iterdir()] == [Path(kept).name], "nothing half copied is left"


def test_another_image_has_its_own_copy(tmp_path: Path, ahead: Path) -> None:
    first = call(tmp_path / "home", SC3D_KERNELS=str(ahead))
    os.utime(ahead, ns=(1, 1))
    second = call(tmp_path / "home", SC3D_KERNELS=str(ahead))
    assert first[0] != second[0]
    assert second[1:] == ["1", "0"]


def test_a_folder_that_was_set_stays(tmp_path: Path, ahead: Path) -> None:
    own = tmp_path / "own"
    assert call(tmp_path / "home", SC3D_KERNELS=str(ahead), NUMBA_CACHE_DIR=str(own)) == [str(own), "0", "1"]
    assert not (tmp_path / "home" / ".cache").exists()


@pytest.mark.parametrize("there", ["nothing", "no home"])
def test_what_cannot_be_copied_is_compiled(tmp_path: Path, ahead: Path, there: str) -> None:
    home = tmp_path / "home"
    if there == "no home":
        home.write_text("a file, in which no folder can be made")
    kept, *counts = call(home, SC3D_KERNELS=str(ahead if there == "no home" else tmp_path / "gone"))
    assert kept == "-"
    assert counts in (["0", "1"], ["1", "0"])

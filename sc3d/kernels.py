"""The decorators of compiled loops, and where their compiled form is kept.

numba compiles a loop when it is first called and keeps the result on disk, but only in a folder that it may write to. An image comes with
kernels compiled ahead (:mod:`sc3d.kernels_ahead`) in a folder that containers must not write to. ``SC3D_KERNELS`` names it; what it holds
is copied to the home of the user once, and numba goes on from there.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import numba

AHEAD = "SC3D_KERNELS"
KEPT = "NUMBA_CACHE_DIR"


def use_kernels_ahead() -> None:
    """Let numba keep compiled loops in a copy of the folder that the environment names, unless a folder is set. Without space or a home,
    loops are compiled when they are called, as without such a folder."""
    ahead = os.environ.get(AHEAD)
    if not ahead or os.environ.get(KEPT) or not os.path.isdir(ahead):
        return
    # Those of another image, in a home that outlives it, are left alone.
    copy = Path("~/.cache/sc3d").expanduser() / f"kernels-{os.stat(ahead).st_mtime_ns}"
    try:
        if not copy.is_dir():
            _copy(ahead, copy)
    except OSError:
        return
    os.environ[KEPT] = str(copy)
    numba.config.reload_config()


def _copy(ahead: str, copy: Path) -> None:
    """Whole or not at all, whoever else does it at the same time."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=copy.parent) as folder:
        fresh = Path(folder, "kernels")
        # Not the rights: those of the image let nobody write.
        for file in Path(ahead).rglob("*.nb?"):
            place = fresh / file.relative_to(ahead)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
        try:
            fresh.rename(copy)
        except OSError:
            if not copy.is_dir():
                raise


use_kernels_ahead()

# Neither uses fast-math: a value is the same to the last bit wherever it is computed.
compiled = numba.njit(cache=True, nogil=True)
# NumPy's error model: a division by zero gives inf or nan, not an exception.
compiled_as_numpy = numba.njit(cache=True, nogil=True, error_model="numpy")

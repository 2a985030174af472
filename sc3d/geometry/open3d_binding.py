"""Open3D's compiled module without the package around it.

``import open3d`` also imports its visualiser and its machine-learning tools (dash, plotly, pandas, scikit-learn): 5 s and 150 MB in
every worker process. Ray casting and decimation need the compiled module alone: 1.3 s, of which most is mapping the library, and 25 MB.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

from sc3d.errors import InstallError

# Up to Open3D 0.19, and since.
_NAMES = ("open3d.cpu.pybind", "open3d.pybind")
_ADVICE = (
    "it is linked with libraries of the system: on Debian and Ubuntu, apt-get install libgl1 libegl1 libx11-6 libudev1 libidn2-0 libgomp1; "
    "on macOS with Python 3.13 or later, brew install libusb"
)
_lock = threading.Lock()


def open3d_binding() -> Any:
    """Open3D's compiled module (``core``, ``geometry``, ``t``, ``utility``), loaded on first use.

    A later ``import open3d`` still works and finds the same compiled module.

    Raises:
        InstallError: Open3D is not installed, or a library of the system that it needs is missing.
    """
    with _lock:
        for name in _NAMES:
            if name in sys.modules:
                return sys.modules[name]
        spec = importlib.util.find_spec("open3d")
        if spec is None or not spec.submodule_search_locations:
            raise InstallError("Open3D is not installed; install sc3d with its dependencies")
        folders = list(spec.submodule_search_locations)
        name = _NAMES[0] if any(Path(folder, "cpu").is_dir() for folder in folders) else _NAMES[1]
        # Open3D's own __init__ sets this: its OpenMP and PyTorch's may meet in one process.
        os.environ.setdefault("KMP_DUPLICATE_LIB_OK", "True")
        try:
            _load_libusb()
            return importlib.import_module(name) if "open3d" in sys.modules else _import_alone(name, folders)
        except (ImportError, OSError) as error:
            raise InstallError(f"Open3D cannot be loaded ({error}); {_ADVICE}") from error


def _load_libusb() -> None:
    """Load the libusb that came as a wheel: Open3D's library then finds it by its name, and the system needs none."""
    try:
        import libusb_package
    except ImportError:  # only installed where Open3D is linked with libusb
        return
    path = libusb_package.get_library_path()
    if path is not None:
        ctypes.CDLL(str(path))


def _import_alone(name: str, folders: list[str]) -> ModuleType:
    """Import a module of the package in ``folders``. A bare package in the real one's place keeps its __init__ from running."""
    bare = ModuleType("open3d")
    bare.__path__ = folders
    sys.modules["open3d"] = bare
    try:
        return importlib.import_module(name)
    finally:
        for package in ("open3d", "open3d.cpu"):
            sys.modules.pop(package, None)

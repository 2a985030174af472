"""Open3D's compiled module without the package around it.

``import open3d`` also imports its visualiser and its machine-learning tools (dash, plotly, pandas, scikit-learn): 5 s and 150 MB in
every worker process. Ray casting and decimation need the compiled module alone: 1.3 s, of which most is mapping the library, and 25 MB.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import threading
from types import ModuleType
from typing import Any

_NAME = "open3d.cpu.pybind"
_lock = threading.Lock()


def open3d_binding() -> Any:
    """The module ``open3d.cpu.pybind`` (``core``, ``geometry``, ``t``, ``utility``), loaded on first use.

    A later ``import open3d`` still works and finds the same compiled module.

    Raises:
        ImportError: Open3D is not installed.
    """
    with _lock:
        loaded = sys.modules.get(_NAME)
        if loaded is not None:
            return loaded
        if "open3d" in sys.modules:
            return importlib.import_module(_NAME)
        spec = importlib.util.find_spec("open3d")
        if spec is None or spec.submodule_search_locations is None:
            raise ImportError("Open3D is not installed; install sc3d with its dependencies")
        # Open3D's own __init__ sets this: its OpenMP and PyTorch's may meet in one process.
        os.environ.setdefault("KMP_DUPLICATE_LIB_OK", "True")
        # A bare package in the real one's place keeps its __init__ from running while the import system resolves the dotted name.
        bare = ModuleType("open3d")
        bare.__path__ = list(spec.submodule_search_locations)
        sys.modules["open3d"] = bare
        try:
            return importlib.import_module(_NAME)
        finally:
            for name in ("open3d", "open3d.cpu"):
                sys.modules.pop(name, None)

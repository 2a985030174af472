"""Open3D's compiled module, of whichever version there is, and what is said where it does not load."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import pytest

from sc3d.errors import InstallError, Sc3dError, concerns_the_run
from sc3d.geometry.open3d_binding import open3d_binding

# The linker misses a library of the system.
REFUSED = """
import sys
class Refuses:
    def find_spec(self, name, path=None, target=None):
        if name in ("open3d.pybind", "open3d.cpu.pybind"):
            raise ImportError("libGL.so.1: cannot open shared object file")
sys.meta_path.insert(0, Refuses())
from sc3d.errors import InstallError
from sc3d.geometry.open3d_binding import open3d_binding
for _ in range(2):
    try:
        open3d_binding()
    except InstallError as error:
        print(error)
assert not [name for name in sys.modules if name.startswith("open3d")]
"""


def test_one_module_for_everybody() -> None:
    scene = open3d_binding().t.geometry.RaycastingScene(nthreads=1)
    core = open3d_binding().core
    scene.add_triangles(core.Tensor(np.float32([[0, 0, 1], [1, 0, 1], [0, 1, 1]])), core.Tensor(np.uint32([[0, 1, 2]])))
    answer = scene.cast_rays(core.Tensor(np.float32([[0.2, 0.2, 0, 0, 0, 2], [0.8, 0.8, 0, 0, 0, 2]])), nthreads=1)
    assert answer["t_hit"].numpy().tolist() == pytest.approx([0.5, np.inf])


def test_libusb_comes_with_the_open3d_that_is_linked_with_it() -> None:
    if sys.platform != "linux" or sys.version_info < (3, 13):
        with pytest.raises(PackageNotFoundError):
            version("libusb-package")
    else:
        open3d_binding()
        with open("/proc/self/maps", encoding="utf-8") as maps:
            assert "libusb_package/libusb-1.0" in maps.read()


def test_a_machine_without_its_libraries_is_told_which() -> None:
    done = subprocess.run([sys.executable, "-c", REFUSED], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == second
    assert all(words in first for words in ("libGL.so.1", "apt-get install libgl1", "brew install libusb")), first


def test_that_concerns_the_run_and_rejects_no_photo() -> None:
    assert issubclass(InstallError, Sc3dError)
    assert concerns_the_run(InstallError("Open3D cannot be loaded"))

"""Which Pythons can have the wheels, and what is said of the others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from install import fits

FILE = Path(fits.__file__)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Sets what the Python seems to be; a good one on Linux unless told otherwise."""

    def seems(
        version=(3, 12), system="linux", processor="x86_64", libc=("glibc", "2.36"), macos="14.2", implementation="cpython", gil=0
    ):
        python = SimpleNamespace(version_info=(*version, 1), platform=system, implementation=SimpleNamespace(name=implementation))
        monkeypatch.setattr(fits, "sys", python)
        below = SimpleNamespace(machine=lambda: processor, libc_ver=lambda: libc, mac_ver=lambda: (macos, ("", "", ""), processor))
        monkeypatch.setattr(fits, "platform", below)
        monkeypatch.setattr(
            fits, "sysconfig", SimpleNamespace(get_config_var=lambda name: gil if name == "Py_GIL_DISABLED" else None)
        )
        monkeypatch.setattr(fits, "HOMEBREW_LIBUSB", str(tmp_path / "libusb"))
        return fits.problem()

    return seems


def test_this_python_fits() -> None:
    done = subprocess.run([sys.executable, FILE], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("version", [(3, 10), (3, 11), (3, 12), (3, 13), (3, 14)])
def test_each_of_ours_fits(machine, version) -> None:
    assert machine(version) == ""
    assert machine(version, processor="aarch64") == ""


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"version": (3, 9)}, "is Python 3.9"),
        ({"version": (3, 15)}, "is Python 3.15"),
        ({"implementation": "pypy"}, "not CPython"),
        ({"version": (3, 14), "gil": 1}, "free-threaded"),
        ({"processor": "i686"}, "is for i686"),
        ({"libc": ("", "")}, "Alpine"),
        ({"libc": ("glibc", "2.30")}, "needs glibc 2.31; this is 2.30"),
        ({"version": (3, 13), "libc": ("glibc", "2.34")}, "needs glibc 2.35; this is 2.34"),
        ({"processor": "aarch64", "libc": ("glibc", "2.34")}, "needs glibc 2.35"),
        ({"system": "darwin", "processor": "x86_64"}, "Intel"),
        ({"system": "darwin", "processor": "arm64", "macos": "13.6"}, "needs macOS 14 for PyTorch; this is 13.6"),
        ({"system": "darwin", "processor": "arm64", "version": (3, 13)}, "brew install libusb"),
        ({"system": "win32"}, "WSL"),
    ],
)
def test_what_is_wrong_is_said(machine, found, words) -> None:
    assert words in machine(**found)


def test_a_mac_needs_libusb_for_new_pythons_only(machine, tmp_path) -> None:
    assert machine((3, 12), system="darwin", processor="arm64") == ""
    (tmp_path / "libusb").touch()
    assert machine((3, 14), system="darwin", processor="arm64") == ""


def test_an_older_linux_has_the_older_pythons(machine) -> None:
    assert machine((3, 12), libc=("glibc", "2.34")) == ""


def test_a_python_without_venv_names_the_package(machine, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    assert "apt-get install python3.12-venv" in machine()

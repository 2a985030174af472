"""Whether this Python can have sc3d's dependencies as wheels: prints why not and exits with 1. Runs on Python 3.6 and later."""

import os
import platform
import sys
import sysconfig

LOWEST, HIGHEST = (3, 10), (3, 14)
MACOS = (14, 0)
"""PyTorch's wheels need it."""
HOMEBREW_LIBUSB = "/opt/homebrew/opt/libusb/lib/libusb-1.0.0.dylib"
"""What Open3D 0.20 is linked with on macOS."""


def glibc_needed(version: tuple, machine: str) -> tuple:
    """What Open3D's wheels need: 0.19 for Python up to 3.12 on x86-64, 0.20 for all else."""
    return (2, 31) if version < (3, 13) and machine == "x86_64" else (2, 35)


def problem() -> str:
    """What is wrong with this Python, to be read after its name; empty if nothing is."""
    version = sys.version_info[:2]
    if sys.implementation.name != "cpython":
        return f"is {sys.implementation.name}, not CPython"
    if not LOWEST <= version <= HIGHEST:
        return f"is Python {as_text(version)}"
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return "is a free-threaded build, for which not all packages have wheels"
    wrong = {"linux": linux_problem, "darwin": macos_problem}.get(sys.platform, other_problem)(version, platform.machine())
    return wrong or venv_problem(version)


def linux_problem(version: tuple, machine: str) -> str:
    """Another processor, musl, or a C library that is too old."""
    if machine not in ("x86_64", "aarch64"):
        return f"is for {machine}, for which PyTorch and Open3D have no wheels"
    library, number = platform.libc_ver()
    if library != "glibc":
        return "is not linked with glibc (Alpine?), and Open3D has no wheels for that"
    needed = glibc_needed(version, machine)
    return "" if as_numbers(number) >= needed else f"(Python {as_text(version)}) needs glibc {as_text(needed)}; this is {number}"


def macos_problem(version: tuple, machine: str) -> str:
    """Intel, an old macOS, or no libusb."""
    if machine != "arm64":
        return "is for Intel Macs (or runs under Rosetta), for which PyTorch has no wheels"
    found = platform.mac_ver()[0]
    if as_numbers(found) < MACOS:
        return f"needs macOS {MACOS[0]} for PyTorch; this is {found}"
    if version >= (3, 13) and not os.path.exists(HOMEBREW_LIBUSB):
        return f"(Python {as_text(version)}) needs libusb for Open3D: brew install libusb; up to Python 3.12 it needs none"
    return ""


def other_problem(version: tuple, machine: str) -> str:
    """Windows and others."""
    return f"is for {sys.platform}; sc3d runs on Linux and macOS, and on Windows in WSL"


def venv_problem(version: tuple) -> str:
    """A Python of which a part is in another package."""
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        return f"has no venv; on Debian and Ubuntu: apt-get install python{as_text(version)}-venv"
    return ""


def as_text(version: tuple) -> str:
    """The usual way to write a version."""
    return ".".join(map(str, version))


def as_numbers(version: str) -> tuple:
    """Of a version, what can be compared."""
    return tuple(int(part) for part in version.split(".") if part.isdigit())


if __name__ == "__main__":
    wrong = problem()
    if wrong:
        print(wrong)
        sys.exit(1)

"""``make lock``: writes constraints.txt and asks the package index whether all of it has wheels for every Python and system.

Versions that constraints.txt has stay where they can; a line that is taken out of it is chosen anew. ``--upgrade`` chooses all anew.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from install.fits import HIGHEST, LOWEST, MACOS, as_text, glibc_needed

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = tuple((3, minor) for minor in range(LOWEST[1], HIGHEST[1] + 1))
# shellcheck and pygeodesic, with which the tests are run, have no wheels for Linux on ARM.
NOT_ON_ARM = ("dev",)


def extras() -> list[str]:
    """The names of the extras in pyproject.toml."""
    section = (
        (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    )
    return re.findall(r"^([\w-]+) = \[", section, re.MULTILINE)


def targets() -> Iterator[tuple[tuple[int, int], str, list[str]]]:
    """Python, the platform as uv names it, and the extras that have wheels there."""
    for python in PYTHONS:
        for machine, without in (("x86_64", ()), ("aarch64", NOT_ON_ARM)):
            glibc = "_".join(map(str, glibc_needed(python, machine)))
            yield python, f"{machine}-manylinux_{glibc}", [name for name in extras() if name not in without]
        yield python, "aarch64-apple-darwin", extras()


def compile_(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """``uv pip compile`` on pyproject.toml, for macOS from the version on that PyTorch needs."""
    command = ["uv", "pip", "compile", "--quiet", "--no-annotate", *arguments, "pyproject.toml"]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    environment["MACOSX_DEPLOYMENT_TARGET"] = as_text(MACOS)
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def lock(arguments: Sequence[str]) -> str:
    """Write constraints.txt, one file for all Pythons and systems; returns why that cannot be done, or nothing."""
    options = ["--universal", "--all-extras", "--python-version", as_text(LOWEST), "--custom-compile-command", "make lock"]
    done = compile_([*options, *arguments, "--output-file", "constraints.txt"])
    return done.stderr.strip() if done.returncode else ""


def missing_wheels(python: tuple[int, int], platform: str, names: Sequence[str]) -> str:
    """Why the versions of constraints.txt cannot be installed from wheels there, or nothing."""
    chosen = [f"--extra={name}" for name in names]
    done = compile_(
        [
            *chosen,
            "--python-version",
            as_text(python),
            "--python-platform",
            platform,
            "--only-binary=:all:",
            "-c",
            "constraints.txt",
        ]
    )
    return done.stderr.strip() if done.returncode else ""


def main(arguments: Sequence[str]) -> int:
    """Lock, then look at each target; 1 if one lacks a wheel."""
    if problem := lock(arguments):
        print(f"constraints.txt is as it was:\n{problem}", file=sys.stderr)
        return 1
    failed = 0
    for python, platform, names in targets():
        problem = missing_wheels(python, platform, names)
        failed += bool(problem)
        print(f"Python {as_text(python):5} {platform:24} {'lacks wheels:' if problem else 'wheels for all'}", flush=True)
        if problem:
            print(problem, file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The Python that make takes: the first on the path that fits, uv's where none does, and one message where there is neither."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "install" / "find_python.sh"
GOOD = "exit 0"
OLD = """case "$1" in -c) exit 0;; esac; echo "is Python 3.9"; exit 1"""
ANCIENT = """case "$1" in -c) exit 0;; esac; echo "SyntaxError" >&2; exit 1"""
DEAD = "echo 'version manager: not installed' >&2; exit 127"
UV = """case "$2" in install) exit 0;; find) [ "$UV_PYTHON_PREFERENCE" = only-managed ] && echo "$(dirname "$0")/managed";; esac"""
NO_UV = "exit 1"


@pytest.fixture
def find(tmp_path: Path):
    """Runs the script on a path that holds nothing but the given programs and the few that the script uses."""
    for name in ("sh", "dirname", "cat"):
        (tmp_path / name).symlink_to(Path("/bin", name).resolve())

    def found(programs: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
        for name, body in programs.items():
            (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
            (tmp_path / name).chmod(0o755)
        environment = {"PATH": str(tmp_path)}
        return subprocess.run(["/bin/sh", SCRIPT, *arguments], env=environment, capture_output=True, text=True, timeout=60)

    return found


def name_of(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return os.path.basename(done.stdout.strip())


def test_the_usual_one_comes_first(find) -> None:
    assert name_of(find({"python3": GOOD, "python3.14": GOOD})) == "python3"


def test_the_newest_that_fits_is_next(find) -> None:
    assert name_of(find({"python3": OLD, "python3.14": DEAD, "python3.13": GOOD, "python3.10": GOOD})) == "python3.13"


def test_uv_fetches_one_where_none_fits(find) -> None:
    done = find({"python3": OLD, "uv": UV, "managed": GOOD})
    assert name_of(done) == "managed"
    assert "uv fetches 3.12" in done.stderr


@pytest.mark.parametrize("more", [{}, {"uv": NO_UV}], ids=["without uv", "uv cannot"])
def test_one_message_where_there_is_none(find, more) -> None:
    done = find({"python3": OLD, "python3.12": ANCIENT, "python3.11": DEAD, **more})
    assert done.returncode == 1
    assert done.stdout == ""
    for words in ("sc3d needs Python 3.10 to 3.14", "/python3 is Python 3.9", "/python3.12 is too old", "uv gets one", "PYTHON="):
        assert words in done.stderr
    assert "python3.11" not in done.stderr
    assert "Error" not in done.stderr
    assert all(len(line) <= 80 for line in done.stderr.splitlines() if "/" not in line or "astral" in line)


def test_the_one_that_is_named_and_no_other(find) -> None:
    assert name_of(find({"python3": OLD, "mine": GOOD}, "mine")) == "mine"
    done = find({"python3": GOOD, "mine": OLD, "uv": UV, "managed": GOOD}, "mine")
    assert done.returncode == 1
    assert "mine is not one" in done.stderr
    assert "/mine is Python 3.9" in done.stderr


def test_a_name_that_is_nothing(find) -> None:
    done = find({"python3": GOOD}, "gone")
    assert done.returncode == 1
    assert "gone is not one" in done.stderr
    assert "no Python is found by that name" in done.stderr

"""The pins are written for all Pythons at once, and each Python and system is looked at by itself."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from install import lock

# Writes down what it is asked; has no wheels where it is told so.
UV = """#!/bin/sh
echo "$MACOSX_DEPLOYMENT_TARGET $@" >> "$ASKED"
case "$*" in *"$LACKS"*) echo "pygeodesic has no usable wheels" >&2; exit 1;; esac
"""


@pytest.fixture
def uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A uv beside the Python that runs; returns the file of what it was asked."""
    (tmp_path / "uv").write_text(UV)
    (tmp_path / "uv").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("ASKED", str(tmp_path / "asked"))
    monkeypatch.setenv("LACKS", "nothing")
    return tmp_path / "asked"


def test_every_python_on_every_system(uv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lock.main([]) == 0
    first, *others = uv.read_text().splitlines()
    assert "--universal --all-extras --python-version 3.10" in first
    assert "--output-file constraints.txt" in first
    assert len(others) == 15
    for minor in range(10, 15):
        asked = [line for line in others if f"--python-version 3.{minor} " in line]
        old = "2_31" if minor < 13 else "2_35"
        assert [line.split("--python-platform ")[1].split()[0] for line in asked] == [
            f"x86_64-manylinux_{old}",
            "aarch64-manylinux_2_35",
            "aarch64-apple-darwin",
        ]
        assert all(line.startswith("14.0 ") and "--only-binary=:all: -c constraints.txt" in line for line in asked)
        assert ["--extra=dev" in line for line in asked] == [True, False, True]
    assert capsys.readouterr().out.count("wheels for all") == 15


def test_a_missing_wheel_is_named_and_fails(uv: Path, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("LACKS", "--python-version 3.14 --python-platform aarch64-apple")
    assert lock.main([]) == 1
    told = capsys.readouterr()
    assert told.out.count("wheels for all") == 14
    assert [line.split()[:3] for line in told.out.splitlines() if "lacks" in line] == [["Python", "3.14", "aarch64-apple-darwin"]]
    assert "pygeodesic" in told.err


def test_what_cannot_be_locked_is_not_looked_at(uv: Path, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("LACKS", "--universal")
    assert lock.main(["--upgrade"]) == 1
    assert "--upgrade" in uv.read_text()
    assert len(uv.read_text().splitlines()) == 1
    assert "constraints.txt is as it was" in capsys.readouterr().err


def test_the_extras() -> None:
    assert {"dev", "s3", "foundation", "view"} <= set(lock.extras())

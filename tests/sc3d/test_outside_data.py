"""Files from outside, broken in many ways: each ends in an error for people or in a right result, in bounded memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.outside_data import READERS, fuzz

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", READERS)
def test_broken_files_are_refused_or_read(name: str, tmp_path: Path) -> None:
    count = fuzz(name, 25, tmp_path / "data")
    assert count.refused + count.read >= 25


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", READERS)
def test_ten_thousand_broken_files_in_a_process_with_little_memory(name: str) -> None:
    """In a process of its own: a reader that takes too much memory or time, or crashes, ends that and not this."""
    command = [sys.executable, "-m", "tests.outside_data", name, "--cases", "10000"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "refused" in done.stdout

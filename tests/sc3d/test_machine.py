"""Which process of which machine: a process id alone says nothing, since ids are used again."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sc3d import machine
from sc3d.machine import cores_here, is_running, memory_here, process_start, processes_here, this_machine


def test_a_process_is_known_by_its_start() -> None:
    mine = process_start(os.getpid())
    assert is_running(os.getpid(), mine)
    assert not is_running(os.getpid(), "1" if mine else "")
    child = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.DEVNULL)
    start_of_child = process_start(child.pid)
    deadline = time.monotonic() + 60
    while is_running(child.pid, start_of_child):  # it is not collected yet
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child.wait()
    assert not is_running(child.pid, start_of_child)


def test_a_machine_is_the_same_for_its_processes() -> None:
    command = [sys.executable, "-c", "from sc3d.machine import this_machine; print(this_machine())"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == this_machine()


@pytest.fixture
def limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the control group's limits are read from: none yet, on a machine of 64 cores and 256 GiB."""
    monkeypatch.setattr(machine, "Path", lambda *parts: tmp_path / parts[-1])
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    monkeypatch.setattr(machine.os, "sysconf", {"SC_PAGE_SIZE": 2**12, "SC_PHYS_PAGES": 2**26}.__getitem__)
    return tmp_path


def test_a_large_machine_is_used_as_far_as_its_cores_go(limits: Path) -> None:
    assert (cores_here(), memory_here(), processes_here()) == (64, 2**38, 64)


def test_a_container_counts_for_what_it_may_use(limits: Path) -> None:
    (limits / "cpu.max").write_text("350000 100000\n")
    (limits / "memory.max").write_text("max\n")
    assert (cores_here(), processes_here()) == (3, 3)
    (limits / "cpu.max").write_text("max 100000\n")
    (limits / "memory.max").write_text(f"{16 * 2**30}\n")
    assert (cores_here(), processes_here()) == (64, 10)


@pytest.mark.parametrize("text", ["", "nonsense", "50000 100000"])
def test_there_is_always_one_process(limits: Path, text: str) -> None:
    (limits / "cpu.max").write_text(text)
    (limits / "memory.max").write_text("1000")
    assert cores_here() >= 1
    assert processes_here() == 1


def test_a_process_that_may_use_one_core_gets_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: {3}, raising=False)
    assert cores_here() == 1

"""Which process of which machine: a process id alone says nothing, since ids are used again."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from sc3d.machine import is_running, process_start, this_machine


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

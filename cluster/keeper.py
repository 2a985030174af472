"""The process beside a driver that has its last word. When Ray dies, its native code ends the driver without Python being asked, so
somebody else has to say what happened; the same process then cleans up.

It watches the raylet and the GCS of the driver's own Ray, or the raylet and the GCS's port of the cluster that the driver has joined, and
the driver itself. If one of them goes without a word before, one line goes to standard error, and the driver is told to end. Only the
standard library is used: it is there for as long as a run, so it is to be small. Linux only. The driver's side is :mod:`cluster.watch`.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from cluster.folders import NATIVE_LOG, RAY, clean

READY, DEAD, CLOSING = "ready", "dead", "closing"
"""Answers to the driver: the keeper is there; Ray is dead, and it was said; Ray is alive and may be shut down."""

GCS_SILENCE_S = 40.0
"""How long the GCS of a joined cluster may be away. Ray itself gives up, silently, after 60 s."""

CLOSING_S = 60.0
"""How long Ray may take to end."""

_LOOK_S, _PROBE_S, _END_S, _NOTE_S = 0.1, 2.0, 45.0, 60.0
_PARTS = {"raylet": "raylet", "gcs_server": "GCS"}


class Keeper:
    """The keeper of this process's parent.

    Args:
        folder: the driver's own (:class:`~cluster.folders.LockedFolder`).
        note: see :class:`cluster.watch.Watch`.
    """

    def __init__(self, folder: Path, note: Sequence[str] = ()) -> None:
        self._folder, self._driver, self._note = folder, os.getppid(), note
        self._handle = os.pidfd_open(self._driver)
        self._watched: dict[int, tuple[str, int]] = {}
        self._is_own = False
        self._gcs: tuple[str, int] | None = None
        self._gcs_seen = self._closing_since = 0.0
        self._closed = self._told = False
        self._said = ""

    def serve(self) -> None:
        """Follow the driver's commands, a line each, until it has closed Ray, or Ray or the driver has died."""
        self._answer(READY)
        buffered = b""
        while True:
            ready, _, _ = select.select([0, self._handle, *self._watched], [], [], self._patience())
            received = os.read(0, 4096) if 0 in ready else b""
            died = self._dead_part(ready)
            if self._handle in ready or (0 in ready and not received) or (died and self._driver_is_ending()):
                self._say(self._driver_died(died))
                return
            if died:
                self._end(died)
                return
            *lines, buffered = (buffered + received).split(b"\n")
            if any(self._follow(*line.decode().split("\t")) for line in lines):
                return

    def clean(self) -> None:
        """See that the driver ends, and clean its folder and those of earlier ones. What it says goes nowhere any more."""
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            # Whoever reads the driver's output to its end is not kept waiting.
            os.dup2(nowhere, number)
        if not self._closed:
            ended, _, _ = select.select([self._handle], [], [], _END_S)
            if self._told and not ended:
                # Native code keeps it from hearing that it is to end.
                with suppress(OSError):
                    signal.pidfd_send_signal(self._handle, signal.SIGKILL)
        if self._note and self._said:
            with suppress(OSError, subprocess.TimeoutExpired):
                subprocess.run([*self._note, self._said], timeout=_NOTE_S, check=False)
        clean(self._folder.parent)

    def _patience(self) -> float | None:
        if self._closing_since:
            return CLOSING_S
        if self._is_own:
            return None if len(self._watched) == len(_PARTS) else _LOOK_S
        return _PROBE_S if self._gcs else None

    def _follow(self, command: str, *values: str) -> bool:
        """Do what the driver asks for; whether that was the last."""
        if command == "own":
            self._is_own = True
        elif command == "joined":
            raylet, host, port = values
            self._gcs, self._gcs_seen = (host, int(port)), time.monotonic()
            self._look(lambda pid: f"--raylet_socket_name={raylet}" in _command_of(pid))
        elif command == "closing":
            # An error of the driver's may be about what has just died.
            died = self._dead_part(select.select([*self._watched], [], [], 0)[0], suspect=values == ("failed",))
            if died:
                self._end(died)
                return True
            self._closing_since = time.monotonic()
            self._watched.clear()
            self._answer(CLOSING)
        self._closed = command == "closed"
        return self._closed

    def _dead_part(self, ready: list[int], suspect: bool = False) -> str:
        """What is dead, in words; nothing if all that can be seen is alive."""
        if self._closing_since:
            return "Ray could not be ended" if time.monotonic() - self._closing_since > CLOSING_S else ""
        for handle in ready:
            if handle in self._watched:
                name, pid = self._watched[handle]
                whose = "Ray's" if self._is_own else "this node's"
                return f"{whose} {_PARTS[name]} (process {pid}) died. Its log: {self._log_of(name)}"
        if self._is_own and len(self._watched) < len(_PARTS):
            self._look(lambda pid: _parent_of(pid) == self._driver)
        if self._gcs:
            host, port = self._gcs
            if _listens(host, port):
                self._gcs_seen = time.monotonic()
            elif suspect or time.monotonic() - self._gcs_seen > GCS_SILENCE_S:
                return f"the cluster's GCS at {host}:{port} is gone. Its log: logs/gcs_server.* in Ray's folder on the head node"
        return ""

    def _look(self, belongs: Callable[[int], bool]) -> None:
        """Watch the raylet, and the GCS, that belong to the driver's Ray."""
        known = {pid for _, pid in self._watched.values()}
        for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
            name, _, _ = _stat_of(pid)
            if name in _PARTS and pid not in known and belongs(pid):
                with suppress(OSError):
                    self._watched[os.pidfd_open(pid)] = name, pid

    def _log_of(self, name: str) -> str:
        if not self._is_own:
            return f"logs/{name}.* in the folder of Ray's session"
        found = sorted((self._folder / RAY).glob(f"session_*_*/logs/{name}.err"))
        return str(found[-1] if found else self._folder)

    def _driver_is_ending(self) -> bool:
        """Whether its first thread has ended. Its Ray is told then, and its files are closed only when the last one has ended."""
        return _stat_of(self._driver)[1] in "ZX"

    def _driver_died(self, died: str) -> str:
        if died:
            return f"{died}. The run (process {self._driver}) ended at the same moment"
        what = "while it ended Ray" if self._closing_since else "from outside, or by native code"
        return f"the run (process {self._driver}) was ended {what}. Its native log: {self._folder / NATIVE_LOG}"

    def _end(self, died: str) -> None:
        self._told = True
        self._say(died)
        self._answer(DEAD)

    def _say(self, what: str) -> None:
        self._said = f"RayDiedError: {what}"
        # A live display may have hidden the cursor and left half a line.
        error = "\r\x1b[J\x1b[?25h\x1b[1;31merror:\x1b[0m" if os.isatty(2) else "error:"
        with suppress(OSError):
            os.write(2, f"{error} {self._said}. What is finished is kept; the same command goes on where it was\n".encode())

    def _answer(self, word: str) -> None:
        with suppress(OSError):
            os.write(1, f"{word}\n".encode())


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=_PROBE_S).close()
    except OSError:
        return False
    return True


def _stat_of(pid: int) -> tuple[str, str, int]:
    """The name of a process's program, its state and its parent; the state of one that is gone is X."""
    try:
        head, _, tail = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
    except OSError:
        return "", "X", 0
    state, parent = tail.split()[:2]
    return head.partition("(")[2], state, int(parent)


def _parent_of(pid: int) -> int:
    return _stat_of(pid)[2]


def _command_of(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []


def main() -> None:
    """``keeper FOLDER [NOTE...]``, started by :class:`cluster.watch.Watch`."""
    keeper = Keeper(Path(sys.argv[1]), sys.argv[2:])
    try:
        keeper.serve()
    finally:
        keeper.clean()

"""The folders of the Rays that this program starts: private, and cleaned once their run has ended, however it ended.

All lie in one folder that nobody else can enter. Each is locked by its driver for as long as that lives, so whoever gets the lock knows
that the run has ended; then what is left of its Ray is ended, and the folder is emptied. The logs of the newest stay. Nothing
but the standard library is imported here: the process of :mod:`cluster.keeper` is to stay small.
"""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

KEPT_LOGS = 5
"""Ended runs whose logs are kept."""

NATIVE_LOG = "driver.err"
RAY = "r"
"""Where Ray's sessions lie in a folder. Short, since socket paths must stay below 108 bytes."""

_PREFIX, _LOCK, _LOGS = "run-", "lock", "logs"
_END_SECONDS = 10.0


def parent_folder() -> Path:
    """The folder of all: ``sc3d-<uid>`` in ``RAY_TMPDIR`` or ``/tmp``, made if it is not there, and closed to everybody else.

    Raises:
        PermissionError: somebody else has put something there.
    """
    # The temporary folders of macOS and of tests are too long for sockets.
    above = os.environ.get("RAY_TMPDIR") or ("/tmp" if os.access("/tmp", os.W_OK) else tempfile.gettempdir())  # noqa: S108
    folder = Path(above) / f"sc3d-{os.geteuid()}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        folder.mkdir(0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise PermissionError(f"{folder} is not a folder of yours; set RAY_TMPDIR to a folder where nobody else can write")
    if found.st_mode & 0o077:
        folder.chmod(0o700)
    return folder


class LockedFolder:
    """A fresh folder, locked until it is released or this process ends.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, parent: Path) -> None:
        with _alone(parent):
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
            self._lock = _locked(self.path)

    def release(self) -> None:
        """From now on anybody may clean it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def clean(parent: Path) -> None:
    """End what is left of the Rays of ended runs, and empty their folders but for the logs of the newest. Folders of runs that are
    alive, what is somebody else's, and what was not made by :class:`LockedFolder` are left alone."""
    with _alone(parent):
        ended = []
        for folder in parent.glob(f"{_PREFIX}*"):
            if _is_ours(folder) and (lock := _locked(folder)) is not None:
                os.close(lock)
                ended.append(folder)
        ended.sort(key=lambda folder: (folder / _LOCK).lstat().st_mtime_ns, reverse=True)
        for age, folder in enumerate(ended):
            # Not what its driver has started itself: that may live on.
            if end_processes(folder / RAY):
                _empty(folder, keep_logs=age < KEPT_LOGS)


def end_processes(folder: Path) -> bool:
    """SIGKILL every process of this user whose output goes to a file of ``folder``; whether none is left. Only on Linux."""
    deadline = time.monotonic() + _END_SECONDS
    while time.monotonic() < deadline:
        handles = []
        for pid in _processes_of(folder):
            with suppress(OSError):
                handles.append(handle := os.pidfd_open(pid))
                # The id may have gone to another process since it was looked at; the handle cannot.
                if _writes_to(pid, folder):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
        if not handles:
            return True
        for handle in handles:
            select.select([handle], [], [], 1.0)
            os.close(handle)
    return False


def _processes_of(folder: Path) -> list[int]:
    if not hasattr(os, "pidfd_open"):
        return []
    pids = (int(name) for name in os.listdir("/proc") if name.isdigit())
    return [pid for pid in pids if pid != os.getpid() and _writes_to(pid, folder)]


def _writes_to(pid: int, folder: Path) -> bool:
    for number in (1, 2):
        with suppress(OSError):
            if os.readlink(f"/proc/{pid}/fd/{number}").startswith(f"{folder}/"):
                return True
    return False


def _empty(folder: Path, keep_logs: bool) -> None:
    if not keep_logs:
        shutil.rmtree(folder, ignore_errors=True)
        return
    for session in (folder / RAY).glob("*"):
        if session.is_symlink():
            session.unlink(missing_ok=True)
        else:
            for part in [part for part in session.glob("*") if part.name != _LOGS]:
                shutil.rmtree(part, ignore_errors=True) if part.is_dir() and not part.is_symlink() else part.unlink(missing_ok=True)


def _is_ours(folder: Path) -> bool:
    with suppress(OSError):
        found = folder.lstat()
        return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    return False


def _locked(folder: Path) -> int | None:
    """The lock of a folder, which lasts until it is closed; none if somebody has it."""
    lock = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


@contextmanager
def _alone(parent: Path) -> Iterator[None]:
    """One process at a time makes or cleans folders: one that is made and not yet locked would look ended."""
    handle = os.open(parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)

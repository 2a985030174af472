"""Files that the processes of a node share: each is fetched once, and the folder stays below a size."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from sc3d.errors import StoreError

_LOCKS = 64
_SUFFIX = ".cached"
_ABANDONED_SECONDS = 24 * 3600.0


class NodeCache:
    """A folder of cached files below ``max_bytes``, of which the longest unused go first. Any number of processes may share it.

    Raises:
        StoreError: the folder cannot be written.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        try:
            (folder / "locks").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot keep files in {folder}: {error.strerror}; choose another folder with train.cache") from None

    def read(self, key: str, fetch: Callable[[], bytes]) -> bytes:
        """The bytes that ``fetch`` gives for ``key``, from the folder if any process has fetched them before.

        Whatever ``fetch`` raises goes to the caller, and nothing is kept. A folder that is full does not keep anything, either.
        """
        digest = hashlib.sha256(key.encode()).hexdigest()
        path = self.folder / f"{digest[:32]}{_SUFFIX}"
        found = _read(path)
        if found is not None:
            return found
        with FileLock(self.folder / "locks" / f"{int(digest[:8], 16) % _LOCKS}.lock"):
            found = _read(path)
            if found is not None:
                return found
            data = fetch()
            if len(data) <= self.max_bytes:
                with contextlib.suppress(OSError):
                    _write(path, data)
        self._shrink()
        return data

    def _shrink(self) -> None:
        """Delete the longest unused files until the rest is below the bound, and what killed processes left."""
        with FileLock(self.folder / "locks" / "shrink.lock"):
            files = []
            for entry in os.scandir(self.folder):
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat()
                    if entry.name.endswith(_SUFFIX):
                        files.append((status.st_mtime_ns, status.st_size, entry.path))
                    elif entry.is_file() and time.time() - status.st_mtime > _ABANDONED_SECONDS:
                        Path(entry.path).unlink(missing_ok=True)
            total = sum(size for _, size, _ in files)
            for _, size, path in sorted(files):
                if total <= self.max_bytes:
                    break
                Path(path).unlink(missing_ok=True)
                total -= size


def _read(path: Path) -> bytes | None:
    """The file's bytes, after marking it as used; ``None`` if it is not there, or was deleted just now."""
    try:
        os.utime(path)
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _write(path: Path, data: bytes) -> None:
    handle, temporary = tempfile.mkstemp(prefix="writing-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise

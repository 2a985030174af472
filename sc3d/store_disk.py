"""Files of a run folder on a disk, local or shared: written under a temporary name, flushed, and renamed."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs

from sc3d.local_files import open_regular, read_bounded

TEMPORARY = ".writing-"
"""How the names of files begin that are being written. A writer that is killed leaves one behind."""

LEFTOVER_AFTER_S = 86_400.0
"""A temporary file that nobody has written to for so long has no writer any more."""

_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class DiskStore:
    """Absolute paths to bytes. Raises OSError as the operating system does."""

    def __init__(self, root: str) -> None:
        self.root = root

    def arrow(self) -> pafs.FileSystem:
        """The disk, as pyarrow's file system."""
        return pafs.LocalFileSystem()

    def exists(self, path: str) -> bool:
        """Whether there is a file of that path."""
        try:
            return stat.S_ISREG(os.stat(path).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def files(self, folder: str) -> list[str]:
        """Paths of all files below a folder, also of temporary ones; none if it is not there."""
        selector = pafs.FileSelector(folder, recursive=True, allow_not_found=True)
        return [i.path for i in pafs.LocalFileSystem().get_file_info(selector) if i.type == pafs.FileType.File]

    def read(self, path: str, max_bytes: int | None = None) -> bytes:
        """The whole content of a file.

        Raises:
            InputError: it is larger than ``max_bytes``, of which no more is read, or no regular file.
        """
        with open_regular(path, max_bytes) as stream:
            return read_bounded(stream, path, max_bytes)

    def open(self, path: str) -> pa.NativeFile:
        """A file of which parts can be read.

        Raises:
            InputError: it is no regular file.
        """
        return pa.PythonFile(open_regular(path), "r")

    def write(self, path: str, data: bytes, check: Callable[[], None] = lambda: None) -> None:
        """Write a file whole, replacing an older one in one step. It survives a power cut after this returns.

        ``check`` is called right before that step, and raises what forbids it.
        """
        temporary = _write_temporary(path, data)
        try:
            check()
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        _flush_folder(os.path.dirname(path))

    def create(self, path: str, data: bytes) -> bool:
        """Write a file whole unless there is one of that path; False if there is. Of several writers at once, one succeeds."""
        temporary = _write_temporary(path, data)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return _create_in_place(path, data)
        finally:
            Path(temporary).unlink(missing_ok=True)
        _flush_folder(os.path.dirname(path))
        return True

    def delete(self, path: str) -> None:
        """Delete a file if it is there."""
        Path(path).unlink(missing_ok=True)

    def remove_leftovers(self, older_than_s: float = LEFTOVER_AFTER_S) -> int:
        """Delete temporary files that have not been written to for so long, and say how many.

        Their age is measured by the clock of the disk, which for a shared one is not this machine's.
        """
        with suppress(FileNotFoundError, PermissionError), tempfile.NamedTemporaryFile(prefix=TEMPORARY, dir=self.root) as fresh:
            now = os.stat(fresh.name).st_mtime
            leftovers = [p for p in self.files(self.root) if os.path.basename(p).startswith(TEMPORARY) and p != fresh.name]
            removed = 0
            for path in leftovers:
                with suppress(FileNotFoundError):
                    if now - os.stat(path).st_mtime > older_than_s:
                        os.unlink(path)
                        removed += 1
            return removed
        return 0


def _write_temporary(path: str, data: bytes) -> str:
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=TEMPORARY, dir=folder)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return temporary


def _create_in_place(path: str, data: bytes) -> bool:
    # Some file systems have no links. A reader may then see the file before it is whole.
    try:
        with open(path, "xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    except FileExistsError:
        return False
    return True


def _flush_folder(folder: str) -> None:
    # Not every file system can flush a folder; the file is whole either way.
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

"""The one way in which local files are opened that data name: photos, masks, annotations, meshes.

A path in a list of photos may name anything: a pipe that nobody writes to, which would be waited for; a device that has no end; a sparse
file of 20 GB. So only regular files are read, without waiting, and no more of them than the caller allows. Symbolic links are followed:
whoever can make one in a data set can copy the file as well.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit
from urllib.request import url2pathname

from sc3d.errors import InputError

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def plain_path(path: str | Path) -> str:
    """A local path, or what a ``file://`` address means."""
    text = os.fspath(path)
    return url2pathname(urlsplit(text).path) if text[:7].lower() == "file://" else text


def is_file(path: str | Path) -> bool:
    """Whether there is a regular file of that name, which may be none that a file can have."""
    return os.path.isfile(path)


def open_local(path: str | Path, max_bytes: int | None = None, hint: str = "") -> BinaryIO:
    """Open a regular file for reading.

    Args:
        path: local path, or ``file://`` address.
        max_bytes: its size at most; ``None``: the caller reads it piece by piece.
        hint: what to do about a file that is too large.

    Raises:
        InputError: missing, unreadable, no regular file, or too large.
    """
    try:
        return open_regular(plain_path(path), max_bytes, hint, shown=str(path))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path}: cannot be read ({reason}); check that it exists and may be read") from None


def open_regular(path: str, max_bytes: int | None = None, hint: str = "", shown: str = "") -> BinaryIO:
    """As :func:`open_local`, for those who ask the operating system what its errors mean: these are raised as they are."""
    shown = shown or path
    handle = os.open(path, _FLAGS)
    try:
        seen = os.fstat(handle)
        if not stat.S_ISREG(seen.st_mode):
            kind = next((name for is_kind, name in _KINDS if is_kind(seen.st_mode)), "something else")
            raise InputError(f"{shown}: cannot be read (it is {kind}, not a file); correct the path or remove it")
        if max_bytes is not None and seen.st_size > max_bytes:
            raise too_large(shown, seen.st_size, max_bytes, hint)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_local(path: str | Path, max_bytes: int, hint: str = "") -> bytes:
    """The content of a regular file; see :func:`open_local`."""
    with open_local(path, max_bytes, hint) as stream:
        try:
            return read_bounded(stream, path, max_bytes, hint)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); copy it again") from None


def read_bounded(stream: BinaryIO, path: str | Path, max_bytes: int | None, hint: str = "") -> bytes:
    """What is in a file that was opened: its size at that moment is not binding, since it may grow, and those of the kernel have none."""
    data = stream.read(-1 if max_bytes is None else max_bytes + 1)
    if max_bytes is not None and len(data) > max_bytes:
        raise too_large(path, len(data), max_bytes, hint)
    return data


def too_large(where: str | Path, size: int, most: int, hint: str = "") -> InputError:
    """The error for a file of ``size`` bytes."""
    return InputError(f"{where}: the file of {size / 1e6:,.1f} MB is larger than {most / 1e6:,g} MB{hint and f'; {hint}'}")

"""Weights in an S3 bucket: listed, and copied once a node into a folder that is named after their content."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
from filelock import FileLock, Timeout

from sc3d.display import shown
from sc3d.errors import StoreError, WeightsError
from sc3d.s3_addresses import parse_s3
from sc3d.store_s3 import S3Store

logger = logging.getLogger(__name__)

_CHUNK = 1 << 23
_STREAMS = 4
_SECONDS_BETWEEN_LINES = 10.0


@dataclass(frozen=True)
class Listing:
    """The wanted objects below a URI. ``entries``: name, path, bytes and time (ns) of each; ``is_file``: the URI is that one object."""

    filesystem: pafs.FileSystem
    entries: tuple[tuple[str, str, int, int], ...]
    is_file: bool

    @property
    def digest(self) -> str:
        """SHA-256 of names, sizes and times of modification."""
        return hashlib.sha256(json.dumps([(name, size, time) for name, _, size, time in self.entries]).encode()).hexdigest()

    @property
    def n_bytes(self) -> int:
        return sum(size for _, _, size, _ in self.entries)


def identity(uri: str, files: Sequence[str] = ()) -> str:
    """A hash of names, sizes and times of modification of the objects below ``uri``. Raises WeightsError if there are none."""
    return list_objects(uri, files).digest


def list_objects(uri: str, files: Sequence[str] = ()) -> Listing:
    """The objects below ``uri`` whose names match one of ``files`` (none: all).

    Raises:
        WeightsError: nothing is there, one of ``files`` is not, or the bucket cannot be read.
    """
    try:
        location = parse_s3(uri)
    except ValueError as error:
        raise WeightsError(f"{shown(uri)}: {error}") from None
    root = location.root
    try:
        filesystem = S3Store(location).arrow()
        own = filesystem.get_file_info(root)
        is_file = own.type == pafs.FileType.File
        found = [own] if is_file else filesystem.get_file_info(pafs.FileSelector(root, recursive=True, allow_not_found=True))
    except (OSError, pa.ArrowException, StoreError) as error:
        raise WeightsError(
            f"cannot list {uri}: {error}; check the name, the endpoint and the credentials of this machine"
        ) from None
    strip = len(root.rpartition("/")[0] if is_file else root) + 1
    entries = sorted((i.path[strip:], i.path, i.size, i.mtime_ns or 0) for i in found if i.type == pafs.FileType.File)
    if not entries:
        raise WeightsError(f"{uri} holds no files; is it the right bucket and prefix?")
    if files and not is_file:
        missing = [f for f in files if not any(fnmatchcase(name, f) for name, *_ in entries)]
        if missing:
            raise WeightsError(f"{uri} has no {', '.join(missing)}; is it the right model?")
        entries = [e for e in entries if any(fnmatchcase(e[0], f) for f in files)]
    return Listing(filesystem, tuple(entries), is_file)


def fetch(uri: str, files: Sequence[str], cache: Path) -> Path:
    """Copy the objects to ``cache`` unless they are there, and return the folder, or the file where ``uri`` is one.

    The folder is named after the URI and the listing, so changed weights are another folder. It appears in one step when it is complete.
    Only one process of a node copies; the others wait.

    Raises:
        WeightsError: the bucket cannot be read, an object changes meanwhile, or the cache cannot be written.
    """
    listing = list_objects(uri, files)
    folder = _folder(uri, listing, cache)
    result = folder / listing.entries[0][0] if listing.is_file else folder
    if folder.is_dir():
        return result
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{folder}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            logger.info("waiting for another process of this node, which fetches %s", uri)
            lock.acquire()
        try:
            if not folder.is_dir():
                _copy(uri, files, listing, folder)
        finally:
            lock.release()
    except OSError as error:
        raise WeightsError(
            f"cannot copy {uri} to {cache}: {error}; is there space, may this user write there? (models.cache)"
        ) from None
    return result


def find(uri: str, files: Sequence[str], cache: Path) -> Path | None:
    """What :func:`fetch` would return, if it is in ``cache``. Raises WeightsError if the bucket cannot be listed."""
    listing = list_objects(uri, files)
    folder = _folder(uri, listing, cache)
    return (folder / listing.entries[0][0] if listing.is_file else folder) if folder.is_dir() else None


def _folder(uri: str, listing: Listing, cache: Path) -> Path:
    return cache / hashlib.sha256(f"{uri.rstrip('/')}\0{listing.digest}".encode()).hexdigest()[:32]


def _copy(uri: str, files: Sequence[str], listing: Listing, folder: Path) -> None:
    partial = folder.with_name(f"{folder.name}.partial")
    # Left behind by a process that was killed: the lock is ours, so nobody writes to it. Its space is needed.
    shutil.rmtree(partial, ignore_errors=True)
    free = shutil.disk_usage(folder.parent).free
    if free < listing.n_bytes:
        raise WeightsError(
            f"{uri} takes {listing.n_bytes / 1e9:.1f} GB, and {folder.parent} has {free / 1e9:.1f} GB left: "
            "make space, or set models.cache to a folder on a larger disk"
        )
    try:
        progress = _Progress(uri, listing.n_bytes)
        with ThreadPoolExecutor(_STREAMS) as pool:
            list(pool.map(lambda entry: _copy_object(listing.filesystem, entry, partial, progress), listing.entries))
        if list_objects(uri, files).digest != listing.digest:
            raise WeightsError(f"{uri} changed while it was read; try again when it is complete")
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _copy_object(filesystem: pafs.FileSystem, entry: tuple[str, str, int, int], folder: Path, progress: _Progress) -> None:
    name, path, size, _ = entry
    target = folder / name
    if not target.resolve().is_relative_to(folder.resolve()):
        raise WeightsError(f"'{name}' would be written outside of the cache")
    target.parent.mkdir(parents=True, exist_ok=True)
    with filesystem.open_input_stream(path) as stream, open(target, "wb") as sink:
        while chunk := stream.read(_CHUNK):
            sink.write(chunk)
            progress.add(len(chunk))
        sink.flush()
        os.fsync(sink.fileno())
    if target.stat().st_size != size:
        raise WeightsError(f"{path} was cut short: {target.stat().st_size} of {size} bytes; try again")


class _Progress:
    """A log line at the start, every few seconds and at the end of a copy."""

    def __init__(self, uri: str, total: int) -> None:
        self._uri, self._total, self._done = uri, total, 0
        self._lock = threading.Lock()
        self._started = self._line = time.monotonic()
        logger.info("fetching %s: %.2f GB", uri, total / 1e9)

    def add(self, n_bytes: int) -> None:
        with self._lock:
            self._done += n_bytes
            now = time.monotonic()
            if now - self._line >= _SECONDS_BETWEEN_LINES or self._done == self._total:
                self._line = now
                rate = self._done / 1e6 / max(now - self._started, 1e-9)
                logger.info("%s: %.2f of %.2f GB, %.0f MB/s", self._uri, self._done / 1e9, self._total / 1e9, rate)

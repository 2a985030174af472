"""What files hold, as short hashes: so that a run sees when a photo or a mask was replaced under its name.

Files on a disk are read once; their size and times are remembered, and as long as these stay, so does the hash. Objects of a bucket go by
their size and entity tag, without being read; addresses on the web by the address alone, without what follows its ``?``, which may be a
signature.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sc3d.addresses import locate_bucket, object_of
from sc3d.config import DownloadConfig
from sc3d.display import scheme_of, shown
from sc3d.errors import BucketError, InputError, MissingFileError, StoreDeniedError
from sc3d.local_files import open_local, plain_path
from sc3d.schema import Record, column
from sc3d.store import RunFolder
from sc3d.store_retry import patiently
from sc3d.store_s3 import S3Store

CONTENTS = "contents.parquet"

_READERS = 8
_CHUNK_BYTES = 1 << 20
_DIGITS = 16
# A file that was written while it was read may be written again within one tick of the file system's clock.
_SETTLED_NS = 2_000_000_000


@dataclass(frozen=True, eq=False)
class FileContent(Record, name="FileContent"):
    """What a local file held when it was last read, and what told then that it was this version of it."""

    path: str = column("absolute path")
    size: int = column("bytes")
    modified: int = column("time of the last change of its content, in ns")
    changed: int = column("time of the last change of its inode, in ns")
    content: str = column("hash of its content")

    def is_of(self, seen: os.stat_result) -> bool:
        """Whether a file still looks as it did."""
        return (self.size, self.modified, self.changed) == (seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)


def hash_contents(
    run: RunFolder,
    paths: Iterable[str],
    advance: Callable[[int], None] = lambda count: None,
    download: DownloadConfig | None = None,
) -> dict[str, str]:
    """Path or address -> hash of what it holds; of a file that cannot be read an empty text, which its stage will reject.

    What the files' size and times were is kept in the run folder; ``advance`` is told of each file that has been looked at. What is no
    regular file here, or larger than ``download`` allows, is not read.

    Raises:
        StoreError: the run folder, or the bucket of a photo, is away.
    """
    limits = download or DownloadConfig()
    wanted = list(dict.fromkeys(paths))
    known = {one.path: one for one in run.read_records(FileContent, CONTENTS)} if run.exists(CONTENTS) else {}
    found: dict[str, str] = {}
    kept: list[FileContent] = []
    with ThreadPoolExecutor(_READERS) as pool:
        for path, seen in zip(wanted, pool.map(lambda path: _look(path, known, limits), wanted), strict=True):
            found[path] = seen.content if isinstance(seen, FileContent) else seen
            kept += [seen] if isinstance(seen, FileContent) else []
            advance(1)
    now = time.time_ns()
    settled = [one for one in kept if max(one.modified, one.changed) < now - _SETTLED_NS]
    if {one.path: one for one in settled} != known:
        run.write_records(FileContent, CONTENTS, settled)
    return found


def folder_version(folder: str) -> str:
    """Hash of the names, sizes and times of the files right in a folder; of one that is not there an empty text."""
    try:
        entries = sorted((entry.name, entry.stat()) for entry in os.scandir(folder) if entry.is_file())
    except OSError:
        return ""
    return _hash("\n".join(f"{name} {seen.st_size} {seen.st_mtime_ns}" for name, seen in entries))


def _look(path: str, known: Mapping[str, FileContent], limits: DownloadConfig) -> FileContent | str:
    scheme = scheme_of(path)
    if scheme == "s3":
        return _hash(_version_in_bucket(path, limits.buckets))
    if scheme not in ("", "file"):
        return _hash(shown(path))
    local = plain_path(path)
    try:
        seen = os.stat(local)
        if not stat.S_ISREG(seen.st_mode) or seen.st_size > limits.max_bytes:
            return ""
        before = known.get(path)
        if before is not None and before.is_of(seen):
            return before
        return FileContent(path, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, _hash_file(local))
    except (OSError, ValueError, InputError):
        return ""


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def _hash_file(path: str) -> str:
    state = hashlib.sha256()
    with open_local(path) as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            state.update(chunk)
    return state.hexdigest()[:_DIGITS]


def _version_in_bucket(address: str, buckets: Sequence[str]) -> str:
    try:
        bucket, key = object_of(address)
        store = S3Store(locate_bucket(bucket, buckets))
        return patiently(lambda: store.version(f"{bucket}/{key}"), f"s3://{bucket}", "look at", shown(address))
    except (InputError, MissingFileError, BucketError, StoreDeniedError):
        # It is not there, or not for us: the stage that reads it says so, of this photo alone.
        return ""

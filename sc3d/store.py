"""A run folder on a local disk or in an S3 bucket: names, atomic writes, and "is it there already".

Everything is written whole, under its final name, in one step: a temporary name and a rename on disk, one upload on S3 (which shows an
object only when it is complete). So a reader never sees half a file, and writing the same name twice leaves one file.

A store that is away for a while is waited for (:mod:`sc3d.store_retry`); what waiting cannot mend is an error at once, and says what to do.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from sc3d.errors import DamagedFileError, InputError, LeaseLostError, SchemaError, StoreError
from sc3d.fence import FOLDER, claims_among, number_at, write_as
from sc3d.local_files import plain_path
from sc3d.record_files import RecordFile
from sc3d.schema import Record, from_table, to_table
from sc3d.store_disk import TEMPORARY, DiskStore
from sc3d.store_retry import patiently
from sc3d.store_s3 import S3Store, locate

RecordT = TypeVar("RecordT", bound=Record)
ResultT = TypeVar("ResultT")

RUN_VERSION = 1

WHOLE_BYTES = 1 << 18
"""Parquet files up to this size are read whole, also where some of their columns are wanted: each stretch of a file is a request."""


class RunFolder:
    """A folder that a run reads and writes. Cheap to open, without a request, and to pickle: only the URI travels.

    Args:
        uri: a local path, or ``s3://bucket/prefix``, to which ``?region=...&scheme=...&endpoint_override=host:port`` may be added.
            Credentials come from the platform (environment, profile, instance role). The environment's AWS_ENDPOINT_URL is heeded.
        patience: how many seconds a store that is away is waited for; None for :func:`sc3d.store_retry.patience`.
        number: as which run it is written (:mod:`sc3d.fence`): 0 for as nobody, None for as this process does. It travels along.

    Every method that reads or writes raises, besides what it says:
        StoreUnavailableError: the store was away for longer than that.
        StoreDeniedError: no credentials, wrong ones, or not allowed.
        BucketError: the bucket does not exist or is in another region.
        LeaseLostError: (when writing or deleting) another run has taken the folder over from the run ``number``.

    Raises:
        StoreError: an unusable URI, or credentials inside it.
    """

    def __init__(self, uri: str | Path, patience: float | None = None, number: int | None = None) -> None:
        text = os.fspath(uri)
        parts = urlsplit(text)
        scheme = parts.scheme
        # In one spelling, which others may compare.
        self.uri = f"{scheme}{text[len(scheme) :]}".rstrip("/")
        self._patience, self._number = patience, number
        if "@" in parts.netloc:
            raise StoreError("credentials do not belong in a run folder's URI; use the environment, a profile or an instance role")
        self.is_local = scheme in ("", "file")
        self._store: DiskStore | S3Store
        if self.is_local:
            self._root = os.path.abspath(os.path.expanduser(plain_path(self.uri)))
            self._store = DiskStore(self._root)
        elif scheme == "s3":
            location = locate(text)
            self._root, self._store = location.root, S3Store(location)
        else:
            raise StoreError(f"{self.uri}: a run folder is a local path or s3://bucket/prefix, not '{scheme}://'")

    def __reduce__(self) -> tuple[type[RunFolder], tuple[str, float | None, int | None]]:
        return RunFolder, (self.uri, self._patience, self.number or self._number)

    def __repr__(self) -> str:
        return f"RunFolder({self.uri!r})"

    @property
    def number(self) -> int:
        """As which run it is written; 0 for as nobody."""
        return number_at(self._root) if self._number is None else self._number

    def of_run(self, number: int) -> RunFolder:
        """The same folder, as the run of that number writes it, or nobody; whatever this process says."""
        return RunFolder(self.uri, self._patience, number)

    def write_as(self, number: int) -> None:
        """From now on this process writes the folder as the run of that number, 0 for as nobody, unless something else is said."""
        write_as(self._root, number)

    def check_fence(self) -> None:
        """Make sure that the run ``number`` still writes the folder. It takes one request.

        Raises:
            LeaseLostError: another run has taken it over, or its claim was deleted.
        """
        if not self.number:
            return
        latest = max(claims_among(self.names(FOLDER, ".claim")), default=0)
        if latest != self.number:
            raise LeaseLostError(
                f"{self.uri} was taken over by run {latest} from this one, run {self.number}, which gave no sign of life for too long. "
                "What it has finished is kept and used; leave the folder to the other run"
            )

    def path(self, name: str) -> str:
        """Absolute path of ``name`` in the folder's file system.

        Raises:
            StoreError: ``name`` would leave the folder.
        """
        parts = name.split("/")
        if not name or any(p in ("", ".", "..") for p in parts) or "\\" in name or "\x00" in name:
            raise StoreError(f"'{name}' is not a name inside a run folder")
        return f"{self._root}/{name}"

    def arrow(self) -> pafs.FileSystem:
        """pyarrow's file system in which :meth:`path` means something, for libraries that take one."""
        return self._store.arrow()

    def exists(self, name: str) -> bool:
        """Whether a file of that name is there."""
        path = self.path(name)
        return self._patiently(lambda: self._store.exists(path), "look for", name)

    def names(self, folder: str, suffix: str | tuple[str, ...] = "") -> list[str]:
        """Sorted names of all files below ``folder`` that end in ``suffix``, or in one of several; a folder that is not there is empty.

        An empty ``folder`` is for all of the run folder. Files that are being written are not among them, nor what a killed writer left.
        """
        path, strip = self.path(folder) if folder else self._root, len(self._root) + 1
        found = self._patiently(lambda: self._store.files(path), "list", folder)
        return sorted(f[strip:] for f in found if f.endswith(suffix) and not f.rpartition("/")[2].startswith(TEMPORARY))

    def read_bytes(self, name: str, max_bytes: int | None = None) -> bytes:
        """The whole content of a file. Of one that is larger than ``max_bytes`` no more than that is read.

        Raises:
            MissingFileError: it is not there.
            SchemaError: it is larger than ``max_bytes``, or no regular file.
            StoreError: it cannot be read.
        """
        path = self.path(name)
        try:
            return self._patiently(lambda: self._store.read(path, max_bytes), "read", name)
        except InputError as error:
            raise SchemaError(str(error)) from None

    def write_bytes(self, name: str, data: bytes) -> None:
        """Write a file whole, replacing an older one of the same name in one step.

        Where the answer of a store was lost, the same bytes are written again.

        Raises:
            StoreError: the folder is not writable.
        """
        path = self.path(name)
        self._patiently(lambda: self._store.write(path, data, self.check_fence), "write", name)

    def create_bytes(self, name: str, data: bytes) -> bool | None:
        """Write a file whole unless there is one of that name; of several writers at once, one does.

        Args:
            name: of the file.
            data: unlike that of all other writers.

        Returns:
            Whether the file is this one; None where the store cannot do that, or boto3, which is needed for it on S3, is not installed.

        Raises:
            StoreError: the folder is not writable.
        """
        path = self.path(name)
        made = self._patiently(lambda: self._store.create(path, data), "write", name)
        # Where an answer was lost, the second try meets the file of the first.
        return made if made is not False else self.exists(name) and self.read_bytes(name) == data

    def delete(self, name: str) -> None:
        """Delete a file if it is there."""
        path = self.path(name)
        self.check_fence()
        self._patiently(lambda: self._store.delete(path), "delete", name)

    def remove_leftovers(self) -> int:
        """Delete what writers left on disk that were killed more than a day ago, and say how many files that were."""
        return self._patiently(self._store.remove_leftovers, "tidy", "")

    def _parsed(self, name: str, parse: Callable[[bytes], ResultT], max_bytes: int | None = None) -> ResultT:
        # A file in a bucket that is replaced by a longer one while it is read may come as the start of the new one: two requests are made,
        # for the size and for so many bytes. So nothing is damaged before it was read twice.
        data = self.read_bytes(name, max_bytes)
        try:
            return parse(data)
        except (ValueError, DamagedFileError):
            again = self.read_bytes(name, max_bytes)
            if again == data:
                raise
            return parse(again)

    def _patiently(self, operation: Callable[[], ResultT], doing: str, name: str) -> ResultT:
        return patiently(operation, self.uri, doing, self._where(name), self._patience)

    def _where(self, name: str) -> str:
        # Without the options in the URI, which belong to the folder.
        return f"{self.uri.partition('?')[0].rstrip('/')}/{name}".rstrip("/")

    def read_records(self, record: type[RecordT], name: str) -> list[RecordT]:
        """All records of a Parquet file. Raises StoreError or SchemaError with the file's name."""
        return from_table(record, self.read_table(record, name), self._where(name))

    def read_table(self, record: type[Record], name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """A Parquet file as a table, all or some columns, after the record type and schema version were checked.

        Of a large file no more is read than some columns take.

        Raises:
            DamagedFileError: it is not a whole Parquet file, or holds what is no value of its columns.
            SchemaError: it holds other records, or those of another version; one of ``columns`` is not there.
        """
        if columns is not None:
            path = self.path(name)
            try:
                return self._patiently(lambda: self._columns(record, path, name, columns), "read", name)
            except (InputError, SchemaError):
                # A store that goes away meanwhile looks like damage; who reads the whole file knows.
                pass
        return self._parsed(name, lambda data: RecordFile(record, data, self._where(name)).read(columns))

    def _columns(self, record: type[Record], path: str, name: str, columns: Sequence[str]) -> pa.Table:
        with self._store.open(path) as stream:
            # A small file comes in one request.
            file = stream if stream.size() > WHOLE_BYTES else pa.BufferReader(stream.read())
            return RecordFile(record, file, self._where(name)).read(columns)

    def open_records(self, record: type[Record], name: str) -> RecordFile:
        """A Parquet file, held in memory as it is, of which parts can be read. Raises as :meth:`read_table`."""
        return self._parsed(name, lambda data: RecordFile(record, data, self._where(name)))

    def write_records(self, record: type[RecordT], name: str, rows: Sequence[RecordT]) -> None:
        """Write records as one Parquet file, atomically."""
        self.write_table(name, to_table(record, rows))

    def write_table(self, name: str, table: pa.Table, rows_a_group: int | None = None) -> None:
        """Write a table that already has a record's schema, atomically; ``rows_a_group`` rows can be read by themselves."""
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, row_group_size=rows_a_group, compression="zstd")
        self.write_bytes(name, sink.getvalue().to_pybytes())

    def read_json(self, name: str, max_bytes: int | None = None) -> dict[str, Any]:
        """A JSON object with its version checked. Raises SchemaError if it is damaged, larger than that, or newer than this sc3d."""
        try:
            values = self._parsed(name, json.loads, max_bytes)
        except ValueError as error:
            raise SchemaError(f"{self._where(name)} is not valid JSON ({error}); delete it to start over") from None
        version = values.get("schema_version") if isinstance(values, dict) else None
        if version != RUN_VERSION:
            raise SchemaError(f"{self._where(name)}: schema version {version}, this sc3d reads {RUN_VERSION}; upgrade sc3d")
        return dict(values)

    def write_json(self, name: str, values: dict[str, Any]) -> None:
        """Write a JSON object with the format version, atomically."""
        text = json.dumps({"schema_version": RUN_VERSION, **values}, indent=2, sort_keys=True)
        self.write_bytes(name, text.encode())

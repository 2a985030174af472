"""A run folder on a local disk or in an S3 bucket: names, atomic writes, and "is it there already".

Everything is written whole, under its final name, in one step: a temporary name and a rename on disk, one upload on S3 (which shows an
object only when it is complete). So a reader never sees half a file, and writing the same name twice leaves one file.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from sc3d.errors import DamagedFileError, SchemaError, StoreError
from sc3d.schema import Record, check_table, from_table, to_table

RecordT = TypeVar("RecordT", bound=Record)

RUN_VERSION = 1


class RunFolder:
    """A folder that a run reads and writes. Cheap to pickle: only the URI travels.

    Args:
        uri: a local path, or ``s3://bucket/prefix``. Credentials come from the platform (environment, profile, instance role).

    Raises:
        StoreError: an unusable URI, or credentials inside it.
    """

    def __init__(self, uri: str | Path) -> None:
        self.uri = str(uri).rstrip("/")
        scheme = urlsplit(self.uri).scheme
        if "@" in urlsplit(self.uri).netloc:
            raise StoreError("credentials do not belong in a run folder's URI; use the environment, a profile or an instance role")
        if scheme in ("", "file"):
            self.is_local = True
            self._root = os.path.abspath(self.uri.removeprefix("file://"))
            self._filesystem: pafs.FileSystem = pafs.LocalFileSystem()
        elif scheme == "s3":
            self.is_local = False
            try:
                self._filesystem, self._root = pafs.FileSystem.from_uri(self.uri)
            except (OSError, pa.ArrowInvalid) as error:
                raise StoreError(f"cannot open {self.uri}: {error}") from None
        else:
            raise StoreError(f"{self.uri}: a run folder is a local path or s3://bucket/prefix, not '{scheme}://'")

    def __reduce__(self) -> tuple[type[RunFolder], tuple[str]]:
        return RunFolder, (self.uri,)

    def __repr__(self) -> str:
        return f"RunFolder({self.uri!r})"

    def path(self, name: str) -> str:
        """Absolute path of ``name`` in the folder's file system.

        Raises:
            StoreError: ``name`` would leave the folder.
        """
        parts = name.split("/")
        if not name or any(p in ("", ".", "..") for p in parts) or "\\" in name or "\x00" in name:
            raise StoreError(f"'{name}' is not a name inside a run folder")
        return f"{self._root}/{name}"

    def exists(self, name: str) -> bool:
        """Whether a file of that name is there."""
        return bool(self._filesystem.get_file_info(self.path(name)).type == pafs.FileType.File)

    def names(self, folder: str, suffix: str = "") -> list[str]:
        """Sorted names of all files below ``folder`` that end in ``suffix``; a folder that is not there is empty."""
        selector = pafs.FileSelector(self.path(folder), recursive=True, allow_not_found=True)
        try:
            infos = self._filesystem.get_file_info(selector)
        except OSError as error:
            raise StoreError(f"cannot list {self.uri}/{folder}: {error}") from None
        strip = len(self._root) + 1
        return sorted(i.path[strip:] for i in infos if i.type == pafs.FileType.File and i.path.endswith(suffix))

    def read_bytes(self, name: str) -> bytes:
        """The whole content of a file.

        Raises:
            StoreError: it is not there or cannot be read.
        """
        try:
            with self._filesystem.open_input_stream(self.path(name)) as stream:
                return bytes(stream.read())
        except FileNotFoundError:
            raise StoreError(f"{self.uri}/{name} is not there; has the stage that writes it been run?") from None
        except OSError as error:
            raise StoreError(f"cannot read {self.uri}/{name}: {error}") from None

    def write_bytes(self, name: str, data: bytes) -> None:
        """Write a file whole, replacing an older one of the same name in one step.

        Raises:
            StoreError: the folder is not writable.
        """
        path = self.path(name)
        try:
            if self.is_local:
                _write_local(path, data)
            else:
                with self._filesystem.open_output_stream(path) as stream:
                    stream.write(data)
        except OSError as error:
            reason = error.strerror or str(error)
            raise StoreError(f"cannot write {self.uri}/{name}: {reason}; is the run folder writable, is there space?") from None

    def delete(self, name: str) -> None:
        """Delete a file if it is there."""
        if self.exists(name):
            self._filesystem.delete_file(self.path(name))

    def read_records(self, record: type[RecordT], name: str) -> list[RecordT]:
        """All records of a Parquet file. Raises StoreError or SchemaError with the file's name."""
        return from_table(record, self.read_table(record, name), f"{self.uri}/{name}")

    def read_table(self, record: type[Record], name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """A Parquet file as a table, all or some columns, after the record type and schema version were checked."""
        data = pa.BufferReader(self.read_bytes(name))
        where = f"{self.uri}/{name}"
        try:
            file = pq.ParquetFile(data)
            check_table(record, file.schema_arrow, where)
            return file.read(columns=None if columns is None else list(columns))
        except (pa.ArrowException, OSError) as error:
            raise DamagedFileError(f"{where} is damaged ({error}); delete it and run its stage again") from None

    def write_records(self, record: type[RecordT], name: str, rows: Sequence[RecordT]) -> None:
        """Write records as one Parquet file, atomically."""
        self.write_table(name, to_table(record, rows))

    def write_table(self, name: str, table: pa.Table) -> None:
        """Write a table that already has a record's schema, atomically."""
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        self.write_bytes(name, sink.getvalue().to_pybytes())

    def read_json(self, name: str) -> dict[str, Any]:
        """A JSON object with its version checked. Raises SchemaError if it is damaged or newer than this sc3d."""
        try:
            values = json.loads(self.read_bytes(name))
        except ValueError as error:
            raise SchemaError(f"{self.uri}/{name} is not valid JSON ({error}); delete it to start over") from None
        version = values.get("schema_version") if isinstance(values, dict) else None
        if version != RUN_VERSION:
            raise SchemaError(f"{self.uri}/{name}: schema version {version}, this sc3d reads {RUN_VERSION}; upgrade sc3d")
        return dict(values)

    def write_json(self, name: str, values: dict[str, Any]) -> None:
        """Write a JSON object with the format version, atomically."""
        text = json.dumps({"schema_version": RUN_VERSION, **values}, indent=2, sort_keys=True)
        self.write_bytes(name, text.encode())


def _write_local(path: str, data: bytes) -> None:
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=".writing-", dir=folder)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise

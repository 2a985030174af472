"""Parquet files of records that somebody may have damaged or changed: what comes out is what the record type says, or a typed error.

Every reader of a run folder's tables goes through :class:`RecordFile`. It checks the record's name, version and column types, that texts
are UTF-8 and lists lie within their values, and that no value is missing that a record must have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from sc3d.errors import DamagedFileError, SchemaError
from sc3d.schema import Record, check_table, check_values

ResultT = TypeVar("ResultT")

SMALL_BYTES = 1 << 20


class RecordFile:
    """A Parquet file of records of which parts can be read.

    Args:
        record: what it has to hold.
        data: the file, compressed as it is, in memory; or opened, of which no more is read than what is asked for.
        where: what messages call it.

    It, and each of its methods, raises:
        DamagedFileError: it is not a whole Parquet file, or holds what is no value of its columns.
        SchemaError: it holds other records, or those of another version; a column that is asked for is not there.
    """

    def __init__(self, record: type[Record], data: bytes | pa.NativeFile, where: str) -> None:
        self._record, self._where = record, where
        source = pa.BufferReader(data) if isinstance(data, bytes) else data
        # Columns that lie side by side come in one request.
        self._file = self._whole(lambda: pq.ParquetFile(source, pre_buffer=source is data))
        # Asked of pyarrow once: each time, it makes it anew.
        self._schema = self._whole(lambda: self._file.schema_arrow)
        check_table(record, self._schema, where)
        # Handing the columns of a small file to threads costs more than it gains.
        self._threads = source.size() > SMALL_BYTES

    def __len__(self) -> int:
        return int(self._file.metadata.num_rows)

    @property
    def groups(self) -> int:
        """How many groups of rows can be read by themselves."""
        return int(self._file.metadata.num_row_groups)

    def read(self, columns: Sequence[str] | None = None, group: int | None = None) -> pa.Table:
        """All or some columns, of all rows or of a group of them."""
        missing = [name for name in columns or () if name not in self._schema.names]
        if missing:
            raise SchemaError(f"{self._where}: columns {', '.join(missing)} are missing; the file was changed after it was written")
        chosen = None if columns is None else list(columns)

        def read() -> pa.Table:
            if group is None:
                table = self._file.read(columns=chosen, use_threads=self._threads)
            else:
                table = self._file.read_row_group(group, columns=chosen, use_threads=self._threads)
            table.validate(full=True)
            return table

        table = self._whole(read)
        check_values(self._record, table, self._where)
        return table

    def least(self, column: str) -> list[str]:
        """The least text of a column in each group, without reading the groups where the file says so itself."""
        number = self._schema.get_field_index(column)

        def least(group: int) -> str:
            said = self._file.metadata.row_group(group).column(number).statistics
            return str(said.min) if said is not None and said.has_min_max else min(self.read([column], group)[column].to_pylist())

        return self._whole(lambda: [least(group) for group in range(self.groups)])

    def _whole(self, read: Callable[[], ResultT]) -> ResultT:
        try:
            return read()
        # Texts that are not UTF-8 are a ValueError.
        except (pa.ArrowException, OSError, ValueError) as error:
            raise DamagedFileError(f"{self._where} is damaged ({error}); delete it and run its stage again") from None

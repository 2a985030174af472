"""How a record dataclass becomes a Parquet table and comes back.

A record is a frozen dataclass that derives from :class:`Record`. Its fields *are* the schema: plain ``str``, ``int``, ``float``,
``bool`` and ``bytes`` fields become Arrow scalars, ``tuple[str, ...]`` becomes a list of strings, and fields made with :func:`array`
become flattened Arrow lists whose shape stands in the field's metadata. Flattened lists are plain Parquet: any reader understands them.

Every table carries its record's name and schema version, and reading checks both.
"""

from __future__ import annotations

import dataclasses
import json
import re
import types
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sc3d.errors import SchemaError

RecordT = TypeVar("RecordT", bound="Record")

_NAME_KEY = b"sc3d.record"
_VERSION_KEY = b"sc3d.schema_version"


@dataclass(frozen=True)
class ArraySpec:
    """Element type and shape of an array field; a leading -1 is a free axis."""

    dtype: str
    shape: tuple[int, ...]

    def check(self, name: str, value: np.ndarray) -> np.ndarray:
        """Return ``value`` as a contiguous array of this spec, or raise :class:`SchemaError`."""
        result = np.ascontiguousarray(value, dtype=self.dtype)
        fits = result.ndim == len(self.shape) and all(
            want in (-1, have) for want, have in zip(self.shape, result.shape, strict=True)
        )
        if not fits:
            raise SchemaError(f"column '{name}': expected shape {self.shape}, got {result.shape}")
        return result


def array(dtype: str, *shape: int, doc: str, optional: bool = False) -> Any:
    """Declare an array field of a record: element type, shape (a leading -1 is free) and one sentence of meaning."""
    metadata = {"array": ArraySpec(dtype, shape), "doc": doc}
    return dataclasses.field(default=None, metadata=metadata) if optional else dataclasses.field(metadata=metadata)


def column(doc: str, default: Any = dataclasses.MISSING) -> Any:
    """Declare a scalar field of a record with one sentence of meaning."""
    return dataclasses.field(default=default, metadata={"doc": doc})


@dataclass(frozen=True, eq=False)
class Record:
    """Base of the rows that outlive a process.

    Subclasses set ``SCHEMA_VERSION`` and raise it when a column changes. ``name`` is what files call them, also when a class is renamed.
    """

    SCHEMA_VERSION: ClassVar[int] = 1
    SCHEMA_NAME: ClassVar[str]

    def __init_subclass__(cls, name: str = "") -> None:
        cls.SCHEMA_NAME = name or cls.__name__

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            spec = field.metadata.get("array")
            value = getattr(self, field.name)
            if spec is not None and value is not None:
                object.__setattr__(self, field.name, spec.check(field.name, value))
        self.validate()

    def validate(self) -> None:
        """Check what the column types cannot say. Overridden by records that have invariants."""

    def replace(self: RecordT, **changes: Any) -> RecordT:
        """A copy with some fields changed, validated again."""
        return dataclasses.replace(self, **changes)


@dataclass(frozen=True)
class _Column:
    name: str
    doc: str
    spec: ArraySpec | None
    arrow: pa.DataType
    nullable: bool


_SCALARS: dict[type, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    bytes: pa.binary(),
}


def _columns(record: type[Record]) -> tuple[_Column, ...]:
    # Asked for with every file that is read, and slow to find out.
    if record not in _found:
        _found[record] = _find_columns(record)
    return _found[record]


_found: dict[type[Record], tuple[_Column, ...]] = {}


def _find_columns(record: type[Record]) -> tuple[_Column, ...]:
    hints = typing.get_type_hints(record)
    columns = []
    for field in dataclasses.fields(record):
        spec = field.metadata.get("array")
        kind = hints[field.name]
        arguments = typing.get_args(kind)
        nullable = type(None) in arguments
        if spec is not None:
            arrow = pa.list_(pa.from_numpy_dtype(np.dtype(spec.dtype)))
        elif typing.get_origin(kind) is tuple:
            arrow = pa.list_(pa.string())
        else:
            if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
                kind = next(a for a in arguments if a is not type(None))
            arrow = _SCALARS[kind]
        columns.append(_Column(field.name, field.metadata.get("doc", ""), spec, arrow, nullable))
    return tuple(columns)


def column_meanings(record: type[Record]) -> dict[str, str]:
    """Column name -> its one-sentence meaning."""
    return {c.name: c.doc for c in _columns(record)}


def arrow_schema(record: type[Record]) -> pa.Schema:
    """The Arrow schema of a record type, with its name, version and the array shapes in the metadata."""
    fields = []
    for c in _columns(record):
        metadata = {"doc": c.doc}
        if c.spec is not None:
            metadata["shape"] = json.dumps(c.spec.shape)
        fields.append(pa.field(c.name, c.arrow, c.nullable, metadata))
    return pa.schema(fields, {_NAME_KEY: record.SCHEMA_NAME.encode(), _VERSION_KEY: str(record.SCHEMA_VERSION).encode()})


def to_table(record: type[RecordT], rows: Iterable[RecordT]) -> pa.Table:
    """Encode records as a table with the record type's schema; no rows give an empty table."""
    rows = list(rows)
    schema = arrow_schema(record)
    arrays = [_encode(c, [getattr(row, c.name) for row in rows]) for c in _columns(record)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _encode(c: _Column, values: Sequence[Any]) -> pa.Array:
    if c.spec is None:
        plain = [list(v) if isinstance(v, tuple) else v for v in values]
        return pa.array(plain, type=c.arrow)
    flat = [None if v is None else np.asarray(v).reshape(-1) for v in values]
    offsets = np.zeros(len(flat) + 1, dtype=np.int64)
    np.cumsum([0 if v is None else v.size for v in flat], out=offsets[1:])
    if offsets[-1] > np.iinfo(np.int32).max:
        raise SchemaError(f"column '{c.name}': {offsets[-1]} elements do not fit one table; write fewer rows a shard")
    parts = [v for v in flat if v is not None]
    content = np.concatenate(parts) if parts else np.zeros(0, c.spec.dtype)
    mask = pa.array([v is None for v in flat], pa.bool_()) if any(v is None for v in flat) else None
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(content, c.arrow.value_type), type=c.arrow, mask=mask)


def check_table(record: type[Record], table_schema: pa.Schema, where: str) -> None:
    """Raise :class:`SchemaError` unless a table was written for ``record`` by a version that this one can read."""
    metadata = table_schema.metadata or {}
    name = metadata.get(_NAME_KEY)
    if name is None:
        raise SchemaError(f"{where}: not a file of sc3d (no record name in it); was it written by another program?")
    if name != record.SCHEMA_NAME.encode():
        raise SchemaError(f"{where}: holds {name.decode(errors='replace')} records, expected {record.SCHEMA_NAME}")
    stated = metadata.get(_VERSION_KEY, b"0")
    if not re.fullmatch(rb"[0-9]{1,9}", stated):
        raise SchemaError(f"{where}: schema version {stated.decode(errors='replace')!r} is no number; the file was changed")
    version = int(stated)
    if version > record.SCHEMA_VERSION:
        raise SchemaError(
            f"{where}: {record.SCHEMA_NAME} schema version {version} is newer than this sc3d reads "
            f"({record.SCHEMA_VERSION}); upgrade sc3d"
        )
    if version < record.SCHEMA_VERSION:
        raise SchemaError(
            f"{where}: {record.SCHEMA_NAME} schema version {version} is older than this sc3d reads "
            f"({record.SCHEMA_VERSION}); run the stage again into a new run folder"
        )
    columns = _columns(record)
    missing = [c.name for c in columns if c.name not in table_schema.names]
    if missing:
        raise SchemaError(f"{where}: columns {', '.join(missing)} are missing; the file was changed after it was written")
    for c in columns:
        found = table_schema.field(c.name).type
        if found != c.arrow:
            raise SchemaError(f"{where}: column '{c.name}' holds {found}, not {c.arrow}; the file was changed after it was written")


def check_values(record: type[Record], table: pa.Table, where: str) -> None:
    """Raise :class:`SchemaError` if a value is missing that a record must have. The table may hold some of the columns alone."""
    for c in _columns(record):
        if c.name in table.column_names:
            column = table.column(c.name)
            inner = pc.list_flatten(column).null_count if pa.types.is_list(c.arrow) else 0
            if inner or (column.null_count and not c.nullable):
                raise SchemaError(f"{where}: values of column '{c.name}' are missing; the file was changed after it was written")


def from_table(record: type[RecordT], table: pa.Table, where: str = "table") -> list[RecordT]:
    """Decode a table into validated records.

    Raises:
        SchemaError: wrong record type, wrong version, missing columns, or a value that its column does not allow.
    """
    check_table(record, table.schema, where)
    decoded = {c.name: _decode(c, table.column(c.name)) for c in _columns(record)}
    return [record(**{name: values[i] for name, values in decoded.items()}) for i in range(table.num_rows)]


def _decode(c: _Column, chunked: pa.ChunkedArray) -> list[Any]:
    if c.spec is None:
        values = chunked.to_pylist()
        return [tuple(v) if isinstance(v, list) else v for v in values]
    result: list[Any] = []
    for chunk in chunked.chunks:
        for scalar in chunk:
            if not scalar.is_valid:
                result.append(None)
                continue
            values = scalar.values.to_numpy(zero_copy_only=False)
            try:
                result.append(values.reshape(c.spec.shape))
            except ValueError:
                raise SchemaError(f"column '{c.name}': {values.size} values do not form the shape {c.spec.shape}") from None
    return result

"""What can be listed of a run, by which columns it is sorted and by which filters narrowed; and the queries that an address may ask."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode

from pipelines.view.tables import RunTables
from sc3d.errors import InputError

ROWS = 50
"""Rows of a page."""

_MOST_PAGES = 1_000_000
_LONGEST_QUERY, _LONGEST_VALUE, _MOST_VALUES = 4000, 400, 40
_NUMBER = re.compile(r"-?\d{1,9}(\.\d{1,9})?")


class QueryError(InputError):
    """An address asks for what there is not."""


@dataclass(frozen=True)
class Column:
    """A column of a list. ``key``: its name in the table; ``unit``: what its numbers are, empty for texts."""

    key: str
    title: str
    unit: str = ""
    number: bool = False


@dataclass(frozen=True)
class Filter:
    """What narrows a list. ``condition``: SQL with a question mark for the value; ``options``: SQL of the values that there are to choose
    from, of a choice."""

    name: str
    label: str
    kind: Literal["choice", "text", "number"]
    condition: str
    options: str = ""


@dataclass(frozen=True)
class Listing:
    """A list: rows of ``table``, first in the order of its first column."""

    table: str
    title: str
    columns: tuple[Column, ...]
    filters: tuple[Filter, ...]

    @property
    def by_name(self) -> Mapping[str, Filter]:
        return {one.name: one for one in self.filters}


def _choice(table: str, name: str, label: str) -> Filter:
    options = f"SELECT DISTINCT {name} FROM {table} WHERE {name} IS NOT NULL ORDER BY 1"  # noqa: S608
    return Filter(name, label, "choice", f"{name} = ?", options)


def _text(name: str, label: str) -> Filter:
    return Filter(name, label, "text", f"contains(lower({name}), lower(?))")


def _range(name: str, label: str) -> tuple[Filter, Filter]:
    least, most = f"{name}_min", f"{name}_max"
    return Filter(least, f"{label} at least", "number", f"{name} >= ?"), Filter(most, f"{label} at most", "number", f"{name} <= ?")


_IOU = Column("iou", "IoU", "mesh and mask", True)

PAIRS = Listing(
    "pairs",
    "Pairs",
    (
        Column("id", "pair"),
        Column("category", "category"),
        Column("state", "state"),
        Column("candidates", "candidates", "spots of the source", True),
        Column("kept", "kept", "labels", True),
        Column("error", "error", "median, diagonals", True),
        Column("apart", "yaw apart", "degrees", True),
        replace(_IOU, unit="the worse of both"),
        Column("reason", "rejected because"),
    ),
    (
        _choice("pairs", "category", "category"),
        _choice("pairs", "state", "state"),
        _choice("pairs", "split", "split"),
        _text("id", "id has"),
        Filter("image", "image is", "text", "? IN (source, target)"),
        *_range("kept", "kept"),
        *_range("error", "error"),
        *_range("apart", "yaw apart"),
        *_range("iou", "IoU"),
        _text("reason", "reason has"),
    ),
)

IMAGES = Listing(
    "images",
    "Images",
    (
        Column("id", "image"),
        Column("category", "category"),
        Column("state", "state"),
        _IOU,
        Column("iou_before", "IoU before", "alignment", True),
        Column("azimuth", "yaw", "of the camera, degrees", True),
        Column("turn", "turned by", "degrees", True),
        Column("pairs", "pairs", "planned", True),
        Column("kept", "kept", "labels of its pairs", True),
        Column("reason", "rejected because"),
    ),
    (
        _choice("images", "category", "category"),
        _choice("images", "state", "state"),
        _choice("images", "split", "split"),
        Filter("flag", "flag", "choice", "list_contains(flags, ?)", "SELECT DISTINCT unnest(flags) FROM images ORDER BY 1"),
        _text("id", "id has"),
        *_range("iou", "IoU"),
        *_range("azimuth", "yaw"),
        Filter(
            "turn",
            "turned by",
            "choice",
            "turn = ?::INTEGER",
            "SELECT DISTINCT turn::VARCHAR FROM images WHERE turn >= 0 ORDER BY 1",
        ),
        *_range("kept", "kept"),
        _text("reason", "reason has"),
    ),
)

REJECTS = Listing(
    "rejects",
    "Rejects",
    (
        Column("id", "of"),
        Column("stage", "stage"),
        Column("error_type", "error"),
        Column("attempts", "tried", "times", True),
        Column("message", "reason"),
    ),
    (
        _choice("rejects", "stage", "stage"),
        _choice("rejects", "error_type", "error"),
        _choice("rejects", "kind", "of"),
        _text("id", "id has"),
        _text("message", "reason has"),
    ),
)

LISTINGS = {listing.table: listing for listing in (PAIRS, IMAGES, REJECTS)}


@dataclass(frozen=True)
class Query:
    """What of a list is wanted: rows that pass all filters of ``values``, in an order, and which page of them, from 1."""

    listing: Listing
    values: Mapping[str, str]
    sort: str
    descending: bool = False
    page: int = 1

    def address(self, **more: object) -> str:
        """The query as part of an address, with more values."""
        order = {"sort": self.sort, "order": "descending"} if self.descending else {"sort": self.sort}
        default = self.sort == self.listing.columns[0].key and not self.descending
        page = {"page": self.page} if self.page > 1 else {}
        return urlencode({**self.values, **({} if default else order), **page, **more})

    @property
    def where(self) -> tuple[str, list[Any]]:
        """The condition of all filters, and the values of its question marks."""
        chosen = [(self.listing.by_name[name], value) for name, value in self.values.items()]
        condition = " AND ".join(f"({one.condition})" for one, _ in chosen) or "TRUE"
        return condition, [float(value) if one.kind == "number" else value for one, value in chosen]

    @property
    def needs_errors(self) -> bool:
        """Whether the rows depend on the pairs' errors."""
        return self.listing is PAIRS and "error" in (self.sort, *(name.rpartition("_")[0] for name in self.values))


def parse_query(listing: Listing, text: str) -> tuple[Query, dict[str, int]]:
    """The query that an address asks, and ``at``, the place of a row in its list, if it says so.

    Raises:
        QueryError: it is too long, or a value of it is none that it can have; the message names it.
    """
    values = _fields(text)
    at = {name: _whole(name, values.pop(name), 0, ROWS * _MOST_PAGES) for name in ("at",) if name in values}
    page = _whole("page", values.pop("page", "1"), 1, _MOST_PAGES)
    sort, order = values.pop("sort", listing.columns[0].key), values.pop("order", "ascending")
    if sort not in {column.key for column in listing.columns}:
        raise QueryError(f"there is no column {sort!r} to sort by")
    if order not in ("ascending", "descending"):
        raise QueryError(f"order is ascending or descending, not {order!r}")
    for name, value in values.items():
        if name not in listing.by_name:
            raise QueryError(f"there is no filter {name!r}")
        if listing.by_name[name].kind == "number" and not _NUMBER.fullmatch(value):
            raise QueryError(f"{name} is a number of at most nine digits, not {value!r}")
    return Query(listing, values, sort, order == "descending", page), at


def _fields(text: str) -> dict[str, str]:
    """Name -> value of those fields of a form that somebody filled in."""
    if len(text) > _LONGEST_QUERY:
        raise QueryError("the address is too long")
    try:
        fields = parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_VALUES, errors="strict")
    except ValueError:
        raise QueryError("the address is damaged, or asks for too much at once") from None
    filled = [(name, value.strip()) for name, value in fields if value.strip()]
    values = dict(filled)
    if len(values) < len(filled) or any(len(value) > _LONGEST_VALUE or "\0" in value for value in values.values()):
        raise QueryError("a value of the address is given twice, or is too long")
    return values


def _whole(name: str, text: str, least: int, most: int) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or not least <= int(text) <= most:
        raise QueryError(f"{name} is a whole number from {least} to {most}, not {text!r}")
    return int(text)


def count_rows(tables: RunTables, query: Query) -> int:
    """How many rows pass the filters."""
    condition, values = query.where
    return int(tables.rows(f"SELECT count(*) AS n FROM {query.listing.table} WHERE {condition}", values)[0]["n"])  # noqa: S608


def find_rows(tables: RunTables, query: Query, first: int, most: int) -> list[dict[str, Any]]:
    """So many rows from one on, 0 for the first; what is unknown comes last, whichever the order."""
    condition, values = query.where
    # The names are those of the listings above; what comes from outside are values.
    order = f"{query.sort} {'DESC' if query.descending else 'ASC'} NULLS LAST, id, rowid"
    statement = f"SELECT * FROM {query.listing.table} WHERE {condition} ORDER BY {order} LIMIT ? OFFSET ?"  # noqa: S608
    return tables.rows(statement, [*values, most, first])


def options_of(tables: RunTables, one: Filter) -> Sequence[str]:
    """The values that a choice has."""
    return [str(next(iter(row.values()))) for row in tables.rows(one.options)] if one.options else ()

"""A page of a list, from the run's tables; and the ways from a pair back to the list, to its neighbours there, and to its images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlencode

from pipelines.view.listings import (
    LISTINGS,
    ROWS,
    Column,
    Query,
    count_rows,
    find_rows,
    options_of,
    parse_query,
)
from pipelines.view.tables import RunTables
from sc3d.report.listing import Cell, Entry, Heading, Link, ListPage, Tab

_LONGEST_REASON = 200

Values = Mapping[str, Any]


def make_list_page(run: str, tables: RunTables, name: str, text: str, version: int) -> ListPage:
    """The page of the list ``name`` (:data:`~pipelines.view.listings.LISTINGS`) that the query ``text`` of an address asks for;
    ``version``: of the tables.

    Raises:
        QueryError: the query is none.
    """
    listing = LISTINGS[name]
    query, _ = parse_query(listing, text)
    notes = _notes(tables, query)
    total, first = count_rows(tables, query), (query.page - 1) * ROWS
    rows = find_rows(tables, query, first, ROWS)
    last = first + len(rows)
    place = f"{first + 1:,} to {last:,} of {total:,}" if rows else f"none of {total:,}"
    return ListPage(
        run=run,
        title=listing.title,
        tabs=tuple(Tab(one.title, key, size_of(tables, key), one is listing) for key, one in LISTINGS.items()),
        entries=tuple(
            Entry(one.name, one.label, one.kind, query.values.get(one.name, ""), tuple(options_of(tables, one)))
            for one in listing.filters
        ),
        headings=tuple(_heading(query, column) for column in listing.columns),
        rows=tuple(tuple(_cell(query, column, row, first + i) for column in listing.columns) for i, row in enumerate(rows)),
        place=place,
        since=tables.since,
        version=version,
        action=name,
        reset=name,
        previous=_link(name, replace(query, page=query.page - 1).address()) if query.page > 1 else "",
        next=_link(name, replace(query, page=query.page + 1).address()) if last < total and rows else "",
        notes=notes,
    )


def pair_links(tables: RunTables, query: Query, at: int | None, row: Values) -> list[Link]:
    """Ways from the page of a pair: to the list of ``query``, to the pairs before and after place ``at`` of it, to both images."""
    links = [Link("All pairs" if at is None else "Back to the list", f"../{_link('pairs', query.address())}")]
    if at is not None:
        first = max(at - 1, 0)
        around = {first + i: one["id"] for i, one in enumerate(find_rows(tables, query, first, at - first + 2))}
        for text, place in (("Previous pair", at - 1), ("Next pair", at + 1)):
            if place in around:
                links.append(Link(text, _pair_address(query, around[place], place)))
    return [*links, *(Link(f"Image {row[side]}", f"../image/{quote(row[side])}") for side in ("source", "target"))]


def _pair_address(query: Query, pair_id: str, at: int) -> str:
    return f"{quote(pair_id)}?{replace(query, page=at // ROWS + 1).address(at=at)}"


def _notes(tables: RunTables, query: Query) -> tuple[str, ...]:
    if query.listing.table != "pairs" or tables.errors_known:
        return ()
    if tables.errors_missing:
        return (f"Errors could not be read: {tables.errors_missing}",)
    done, total = tables.error_files
    waits = " Until then the list is not in their order, and filters of them let nothing pass." if query.needs_errors else ""
    return (f"Errors are still being read: {done:,} of {total:,} files. Load the page again to see them.{waits}",)


def size_of(tables: RunTables, table: str) -> int:
    """How many rows a list has."""
    return int(tables.rows(f"SELECT count(*) AS n FROM {table}")[0]["n"])  # noqa: S608


def _link(place: str, query: str) -> str:
    return f"{place}?{query}" if query else place


def _heading(query: Query, column: Column) -> Heading:
    chosen = query.sort == column.key
    # Numbers begin with the largest.
    descending = not query.descending if chosen else column.number
    address = replace(query, sort=column.key, descending=descending, page=1).address()
    direction = ("descending" if query.descending else "ascending") if chosen else ""
    return Heading(column.key, column.title, column.unit, column.number, _link(query.listing.table, address), direction)


def _cell(query: Query, column: Column, row: Values, at: int) -> Cell:
    if column.key == "id":
        return _NAMES[query.listing.table](query, row, at)
    value = row[column.key]
    if column.key in ("reason", "message"):
        return Cell(_shortened(value or ""), warning=True)
    if column.key == "pairs" and value:
        return Cell(f"{value:,}", f"pairs?{urlencode({'image': row['id']})}", number=True)
    return Cell(_number(column, value) if column.number else str(value), number=column.number)


def _number(column: Column, value: float | int | None) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.0f}" if column.key in ("azimuth", "apart") else f"{value:.3f}"
    return f"{value:,}"


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}…"


def _pair_name(query: Query, row: Values, at: int) -> Cell:
    pictures = tuple(f"thumbnail/{quote(row[side])}" for side in ("source", "target"))
    return Cell(f"{row['source']} → {row['target']}", f"pair/{_pair_address(query, row['id'], at)}", pictures)


def _image_name(query: Query, row: Values, at: int) -> Cell:
    return Cell(row["id"], f"image/{quote(row['id'])}", (f"thumbnail/{quote(row['id'])}",))


def _reject_name(query: Query, row: Values, at: int) -> Cell:
    return Cell(row["id"], f"{row['kind']}/{quote(row['id'])}" if row["kind"] in ("pair", "image") else "")


_NAMES: Mapping[str, Callable[[Query, Values, int], Cell]] = {"pairs": _pair_name, "images": _image_name, "rejects": _reject_name}

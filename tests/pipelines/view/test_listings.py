"""Sorting, filtering and paging against plain Python, and addresses that ask for nonsense."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_run import Made

from pipelines.view.listings import (
    IMAGES,
    LISTINGS,
    PAIRS,
    REJECTS,
    Query,
    QueryError,
    count_rows,
    find_rows,
    options_of,
    parse_query,
)
from pipelines.view.tables import RunTables

ROWS = [
    {
        "id": f"{i:03}",
        "category": "ab"[i % 2],
        "kept": (i * 7) % 11 or None,
        "error": None if i % 3 else i / 100,
        "reason": "Why 50%_\\'" if i % 5 else None,
    }
    for i in range(60)
]


class Table(RunTables):
    """A table of pairs with known rows."""

    def __init__(self) -> None:
        import duckdb

        self._database = duckdb.connect(":memory:")
        self._database.execute("CREATE TABLE pairs (id VARCHAR, category VARCHAR, kept BIGINT, error DOUBLE, reason VARCHAR)")
        self._database.executemany("INSERT INTO pairs VALUES (?, ?, ?, ?, ?)", [list(row.values()) for row in ROWS])


@pytest.fixture(scope="module")
def table() -> Table:
    return Table()


def expected(query: Query) -> list[str]:
    """Ids of the rows that pass, in order: the same by hand."""

    def passes(row: dict[str, Any]) -> bool:
        for name, value in query.values.items():
            column, _, end = name.rpartition("_")
            if end in ("min", "max"):
                if row[column] is None or (row[column] < float(value) if end == "min" else row[column] > float(value)):
                    return False
            elif name == "category":
                if row[name] != value:
                    return False
            elif row[name] is None or value.lower() not in row[name].lower():
                return False
        return True

    found = sorted((row for row in ROWS if passes(row)), key=lambda row: row["id"])
    known = [row for row in found if row[query.sort] is not None]
    known.sort(key=lambda row: row[query.sort], reverse=query.descending)
    return [row["id"] for row in known + [row for row in found if row[query.sort] is None]]


NUMBERS = st.integers(-2, 12).map(str)
FILTERS = st.fixed_dictionaries(
    {},
    optional={
        "category": st.sampled_from(["a", "b", "c"]),
        "kept_min": NUMBERS,
        "kept_max": NUMBERS,
        "error_max": st.sampled_from(["0.1", "0.25", "0"]),
        "id": st.sampled_from(["0", "01", "x"]),
        "reason": st.sampled_from(["WHY", "%", "_", "\\", "'", "50%_\\'"]),
    },
)


@given(
    FILTERS, st.sampled_from(["id", "category", "kept", "error", "reason"]), st.booleans(), st.integers(0, 70), st.integers(1, 70)
)
def test_rows_are_those_that_pass_in_their_order(
    table: Table, values: dict[str, str], sort: str, descending: bool, first: int, most: int
) -> None:
    query = Query(PAIRS, values, sort, descending)
    wanted = expected(query)
    assert count_rows(table, query) == len(wanted)
    assert [row["id"] for row in find_rows(table, query, first, most)] == wanted[first : first + most]


@given(FILTERS, st.sampled_from([column.key for column in PAIRS.columns]), st.booleans(), st.integers(1, 999))
def test_an_address_says_its_query(values: dict[str, str], sort: str, descending: bool, page: int) -> None:
    query = Query(PAIRS, values, sort, descending, page)
    assert parse_query(PAIRS, query.address()) == (query, {})
    assert parse_query(PAIRS, query.address(at=7)) == (query, {"at": 7})


def test_empty_fields_of_the_form_do_not_count() -> None:
    empty = urlencode({one.name: " " for one in PAIRS.filters})
    assert parse_query(PAIRS, f"{empty}&sort=&order=") == (Query(PAIRS, {}, "id"), {})


@pytest.mark.parametrize(
    "text",
    [
        "sort=split; DROP TABLE pairs",
        "sort=rowid",
        "order=random()",
        "page=0",
        "page=-1",
        "page=1e9",
        "page=99999999999",
        "page=٣",
        "nothing=1",
        "kept_min=nan",
        "kept_min=1e300",
        "kept_min=inf",
        "kept_min=0x10",
        "kept_min=1%00",
        "kept_min=12345678901234567890",
        "at=-1",
        "category=a&category=b",
        "id=%ff",
        "id=%00",
        "id=" + "x" * 401,
        "&".join(f"id{i}=1" for i in range(100)),
        "id=" + "x" * 5000,
    ],
)
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(QueryError):
        parse_query(PAIRS, text)


@given(st.text(max_size=60), st.sampled_from(sorted(LISTINGS)))
def test_no_address_ends_in_another_error(text: str, name: str) -> None:
    try:
        query, _ = parse_query(LISTINGS[name], text)
    except QueryError:
        return
    assert query.sort in {column.key for column in LISTINGS[name].columns}


@pytest.mark.parametrize("listing", [PAIRS, IMAGES, REJECTS], ids=lambda one: one.table)
def test_every_column_sorts_and_every_filter_narrows(viewed: Made, listing: Any) -> None:
    tables = RunTables(viewed.config)
    tables.read_errors()
    everything = count_rows(tables, Query(listing, {}, "id"))
    assert everything > 0
    for column in listing.columns:
        values = [
            [row[column.key] for row in find_rows(tables, Query(listing, {}, column.key, down), 0, 99)] for down in (False, True)
        ]
        known = [[value for value in found if value is not None] for found in values]
        assert known[0] == sorted(known[0])
        assert known[1] == sorted(known[0], reverse=True)
        assert len(values[0]) == len(values[1]) == everything
    for one in listing.filters:
        if one.kind == "choice":
            counts = [count_rows(tables, Query(listing, {one.name: value}, "id")) for value in options_of(tables, one)]
            assert all(0 < count <= everything for count in counts), one.name
        else:
            value = "999999999" if one.name.endswith("_min") else "-1" if one.name.endswith("_max") else "no such text"
            assert count_rows(tables, Query(listing, {one.name: value}, "id")) == 0, one.name

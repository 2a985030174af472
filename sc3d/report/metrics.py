"""``metrics.json`` as tables: filters, and PCK by method and threshold, beside the paper's rows for the same data set.

Expected: ``filters`` (filter, descriptors, fpr, kept, pairs), ``pck`` (method, dataset, subset, alpha, average, value, pairs),
``alignment`` (n, iou_before, iou_after) and ``yaw`` (turned, undone, uncertain); rates in [0, 1]; ``None`` or absent where not known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import FailFast
from typing_extensions import NotRequired, TypedDict

from sc3d.evaluation.pck import GEO_AWARE
from sc3d.evaluation.protocols import dataset_name
from sc3d.evaluation.published import published_filter_rows, published_pck_rows
from sc3d.parsed import Amount, Share, Whole

FILTER_MEANINGS = {
    "none": "every nearest neighbour, unfiltered",
    "cycle": "matched back, it lands near where it started",
    "3D-feature similarity": "cycle, and similar 3D descriptors",
    "position in the 2D box": "cycle, and close positions in the boxes of the photos: a control without 3D",
    "copy the position": "no features at all: the same place in the other box, a control",
    "canonical position": "cycle, and close positions in the object's own frame",
    "canonical direction": "cycle, and close directions from the object's centre",
    "cycle + geodesic": "cycle, and close along the surface of both meshes: the labels",
}

WITHOUT_PRIOR = "predicted without the template's prior, since their photos do not share a template in poses that are sure"

POINTS = {"all": "all points", GEO_AWARE: "look-alikes"}
"""Subset of the points in files, whose names are those of the papers -> what pages and terminals call it."""

_CATEGORY = "category:"


class FilterFigures(TypedDict, total=False):
    """A row of ``filters``."""

    filter: str
    descriptors: str
    fpr: Share | None
    kept: Amount | None
    pairs: Whole | None


class PckFigure(TypedDict, total=False):
    """A row of ``pck``."""

    method: str
    dataset: str
    subset: str
    alpha: Amount
    average: str
    value: Share | None
    pairs: Whole | None


class Counts(TypedDict):
    """A row of ``counts``: of a method, the pairs and keypoints that are not in the tables, or are although something is odd."""

    method: str
    pairs: Whole
    rejected: Whole
    without_common: Whole
    keypoints: Whole
    outside: Whole
    flipped: Whole
    without_prior: NotRequired[Whole]


class Metrics(TypedDict, total=False):
    """``metrics.json``, as far as it is read."""

    methods: list[str]
    filters: Annotated[list[FilterFigures], FailFast()]
    pck: Annotated[list[PckFigure], FailFast()]
    counts: Annotated[list[Counts], FailFast()]


@dataclass(frozen=True)
class FilterCell:
    """One filter with one kind of descriptors. ``fpr`` in [0, 1]: the share of wrong matches among the kept ones that can be judged;
    ``kept`` matches a pair. ``best``: the least wrong of the table."""

    fpr: float | None
    kept: float | None
    best: bool


@dataclass(frozen=True)
class FilterRow:
    """A filter: what it asks, and its figures for each of the table's descriptors, ``None`` where not measured."""

    filter: str
    meaning: str
    cells: tuple[FilterCell | None, ...]


@dataclass(frozen=True)
class FilterTable:
    """Filters by kinds of descriptors. ``pairs``: how many were judged, if that is known."""

    descriptors: tuple[str, ...]
    rows: tuple[FilterRow, ...]
    pairs: int | None


@dataclass(frozen=True)
class PckRow:
    """A method: its PCK in [0, 1] in each column of its table, ``None`` where not measured."""

    method: str
    values: tuple[float | None, ...]
    best: tuple[bool, ...]
    pairs: int | None
    published: bool


@dataclass(frozen=True)
class PckTable:
    """PCK of all methods on one subset of the points with one kind of average, a column for each threshold."""

    dataset: str
    subset: str
    average: str
    alphas: tuple[float, ...]
    rows: tuple[PckRow, ...]


@dataclass(frozen=True)
class CategoryTable:
    """PCK of all methods at one threshold with one kind of average, a column for each category; ``rows`` hold no numbers of pairs."""

    dataset: str
    average: str
    alpha: float
    categories: tuple[str, ...]
    rows: tuple[PckRow, ...]


def points_name(subset: str) -> str:
    """What people read for a subset of the points."""
    return POINTS.get(subset, subset)


def filter_table(metrics: Mapping[str, Any]) -> FilterTable:
    """The measured filters in their order; without rows where nothing was measured."""
    return _filter_table(_rows(metrics, "filters"))


def published_filter_table() -> FilterTable:
    """The paper's filters."""
    return _filter_table(published_filter_rows())


def _filter_table(rows: Sequence[Mapping[str, Any]]) -> FilterTable:
    descriptors = tuple(dict.fromkeys(str(row.get("descriptors", "")) for row in rows))
    lowest = min((fpr for row in rows if (fpr := _number(row.get("fpr"))) is not None), default=None)
    cells: dict[str, dict[str, FilterCell]] = {}
    for row in rows:
        fpr = _number(row.get("fpr"))
        cell = FilterCell(fpr, _number(row.get("kept")), fpr is not None and fpr == lowest)
        cells.setdefault(str(row["filter"]), {})[str(row.get("descriptors", ""))] = cell
    pairs = [int(n) for row in rows if (n := _number(row.get("pairs"))) is not None]
    return FilterTable(
        descriptors,
        tuple(FilterRow(name, FILTER_MEANINGS.get(name, ""), tuple(map(mine.get, descriptors))) for name, mine in cells.items()),
        max(pairs, default=None),
    )


def pck_tables(metrics: Mapping[str, Any]) -> list[PckTable]:
    """A table for each data set, subset and average that was measured, in the order of the rows; published rows last in each."""
    measured = [row for row in _rows(metrics, "pck") if not str(row.get("subset")).startswith(_CATEGORY)]
    published = published_pck_rows()
    tables = []
    for key in dict.fromkeys(_key(row) for row in measured):
        mine, theirs = ([r for r in rows if _key(r) == key] for rows in (measured, published))
        alphas = tuple(sorted({float(r["alpha"]) for r in mine}, reverse=True))
        rows = _pck_rows(mine, "alpha", alphas, False) + _pck_rows(theirs, "alpha", alphas, True)
        tables.append(PckTable(*key, alphas, tuple(rows)))
    return tables


def category_tables(metrics: Mapping[str, Any]) -> list[CategoryTable]:
    """A table for each data set and average with results by category, at the widest threshold."""
    measured = [row for row in _rows(metrics, "pck") if str(row.get("subset")).startswith(_CATEGORY)]
    tables = []
    for dataset, average in dict.fromkeys((_key(row)[0], _key(row)[2]) for row in measured):
        mine = [row for row in measured if (_key(row)[0], _key(row)[2]) == (dataset, average)]
        alpha = max(float(row["alpha"]) for row in mine)
        mine = [row for row in mine if float(row["alpha"]) == alpha]
        subsets = tuple(dict.fromkeys(str(row["subset"]) for row in mine))
        names = tuple(subset.removeprefix(_CATEGORY) for subset in subsets)
        tables.append(CategoryTable(dataset, average, alpha, names, tuple(_pck_rows(mine, "subset", subsets, False))))
    return tables


def _key(row: Mapping[str, Any]) -> tuple[str, str, str]:
    dataset = str(row.get("dataset"))
    return dataset_name(dataset), str(row.get("subset")), str(row.get("average"))


def _pck_rows(rows: Sequence[Mapping[str, Any]], by: str, columns: Sequence[object], published: bool) -> list[PckRow]:
    """A row a method, a value for each of ``columns``, which are values of the key ``by``."""
    methods = list(dict.fromkeys(str(row.get("method")) for row in rows))
    values = {(str(row.get("method")), row[by]): _number(row.get("value")) for row in rows}
    pairs = {str(row.get("method")): row.get("pairs") for row in rows}
    highest = {c: max((v for m in methods if (v := values.get((m, c))) is not None), default=None) for c in columns}
    result = []
    for method in methods:
        mine = tuple(values.get((method, column)) for column in columns)
        best = tuple(
            v is not None and v == highest[c] and len(methods) > 1 and not published for v, c in zip(mine, columns, strict=True)
        )
        result.append(PckRow(method, mine, best, pairs[method], published))
    return result


def _rows(metrics: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    needed = {"filters": ("filter",), "pck": ("method", "alpha")}[name]
    return [row for row in metrics.get(name) or [] if isinstance(row, Mapping) and all(key in row for key in needed)]


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value == value else None

"""``metrics.json`` as tables: filters, and PCK by method and threshold, beside the paper's rows for the same data set.

Expected: ``filters`` (filter, descriptors, fpr, kept, pairs), ``pck`` (method, dataset, subset, alpha, average, value, pairs),
``alignment`` (n, iou_before, iou_after) and ``yaw`` (turned, undone, uncertain); rates in [0, 1]; ``None`` or absent where not known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sc3d.evaluation.tables import published_filter_rows, published_pck_rows

FILTER_MEANINGS = {
    "none": "every nearest neighbour, unfiltered",
    "cycle": "matched back, it lands near where it started",
    "3D-feature similarity": "cycle, and similar 3D descriptors",
    "canonical position": "cycle, and close positions in the object's own frame",
    "canonical direction": "cycle, and close directions from the object's centre",
    "cycle + geodesic": "cycle, and close along the surface of both meshes: the labels",
}


_DATASETS = {"spair": "SPair-71k"}
"""Layout of a data set -> the name that the paper's rows have."""


@dataclass(frozen=True)
class FilterRow:
    """A filter with one kind of descriptors. ``fpr`` in [0, 1]: the share of wrong matches among the kept ones that can be judged."""

    filter: str
    meaning: str
    descriptors: str
    fpr: float | None
    kept: float | None
    pairs: int | None
    published: bool
    best: bool = False


@dataclass(frozen=True)
class PckRow:
    """A method: its PCK in [0, 1] at each of the table's thresholds, ``None`` where not measured."""

    method: str
    values: tuple[float | None, ...]
    best: tuple[bool, ...]
    pairs: int | None
    published: bool


@dataclass(frozen=True)
class PckTable:
    """PCK of all methods on one subset with one kind of average. ``main``: all pairs or the geo-aware ones, not a category."""

    dataset: str
    subset: str
    average: str
    alphas: tuple[float, ...]
    rows: tuple[PckRow, ...]
    main: bool


def filter_table(metrics: Mapping[str, Any], published: bool = False) -> list[FilterRow]:
    """The measured filters in their order, or the paper's."""
    rows = published_filter_rows() if published else _rows(metrics, "filters")
    known = [row["fpr"] for row in rows if _number(row.get("fpr")) is not None]
    return [
        FilterRow(
            filter=str(row.get("filter", "")),
            meaning=FILTER_MEANINGS.get(str(row.get("filter", "")), ""),
            descriptors=str(row.get("descriptors", "")),
            fpr=_number(row.get("fpr")),
            kept=_number(row.get("kept")),
            pairs=row.get("pairs"),
            published=published,
            best=bool(known) and row.get("fpr") == min(known),
        )
        for row in rows
    ]


def pck_tables(metrics: Mapping[str, Any]) -> list[PckTable]:
    """A table for each data set, subset and average that was measured, in the order of the rows; published rows last in each."""
    measured = _rows(metrics, "pck")
    published = published_pck_rows()
    keys = list(dict.fromkeys(_key(row) for row in measured))
    tables = []
    for key in keys:
        mine, theirs = ([r for r in rows if _key(r) == key] for rows in (measured, published))
        alphas = tuple(sorted({float(r["alpha"]) for r in mine}, reverse=True))
        rows = _pck_rows(mine, alphas, False) + _pck_rows(theirs, alphas, True)
        tables.append(PckTable(*key, alphas, tuple(rows), not key[1].startswith("category:")))
    return tables


def _key(row: Mapping[str, Any]) -> tuple[str, str, str]:
    dataset = str(row.get("dataset"))
    return _DATASETS.get(dataset, dataset), str(row.get("subset")), str(row.get("average"))


def _pck_rows(rows: Sequence[Mapping[str, Any]], alphas: Sequence[float], published: bool) -> list[PckRow]:
    methods = list(dict.fromkeys(str(row.get("method")) for row in rows))
    values = {(str(row.get("method")), float(row["alpha"])): _number(row.get("value")) for row in rows}
    pairs = {str(row.get("method")): row.get("pairs") for row in rows}
    columns = {alpha: [v for m in methods if (v := values.get((m, alpha))) is not None] for alpha in alphas}
    result = []
    for method in methods:
        mine = tuple(values.get((method, alpha)) for alpha in alphas)
        best = tuple(
            v is not None and len(methods) > 1 and not published and v == max(columns[a]) for v, a in zip(mine, alphas, strict=True)
        )
        result.append(PckRow(method, mine, best, pairs[method], published))
    return result


def _rows(metrics: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    needed = {"filters": ("filter",), "pck": ("method", "alpha")}[name]
    return [row for row in metrics.get(name) or [] if isinstance(row, Mapping) and all(key in row for key in needed)]


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value == value else None

"""Rows of ``metrics.json``, the paper's published rows to set beside them, and the same as text.

Rates and PCK are in [0, 1]; NaN, which JSON cannot hold, becomes ``None``. Rows that were not measured here are marked ``published``.
"""

from __future__ import annotations

import io
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from sc3d.evaluation.filter_quality import FilterQuality
from sc3d.evaluation.pck import ALL, GEO_AWARE, PER_IMAGE, PER_KEYPOINT, PckPair, pck

Row = dict[str, Any]


def filter_rows(qualities: Iterable[FilterQuality]) -> list[Row]:
    """One row a filter and kind of descriptors: filter, descriptors, fpr, kept, pairs."""
    return [
        {"filter": q.filter, "descriptors": q.descriptors, "fpr": _number(q.fpr), "kept": q.kept, "pairs": q.pairs}
        for q in qualities
    ]


def pck_rows(pairs: Iterable[PckPair], dataset: str, alphas: Sequence[float], own: bool = False) -> list[Row]:
    """One row a method, subset, alpha and average: method, dataset, subset, alpha, average, value, pairs.

    Subsets are ``all``, ``geo-aware`` (if any pair has such keypoints) and ``category:<name>``.

    Args:
        own: also PCK-dagger (see :func:`~sc3d.evaluation.pck.pck`), as the subset ``all, nearest own``.
    """
    methods: dict[str, list[PckPair]] = defaultdict(list)
    for pair in pairs:
        methods[pair.method].append(pair)
    rows = []
    for method, records in methods.items():
        subsets: list[tuple[str, list[PckPair], str, bool]] = [(ALL, records, ALL, False), (GEO_AWARE, records, GEO_AWARE, False)]
        if own:
            subsets.append((f"{ALL}, nearest own", records, ALL, True))
        by_category: dict[str, list[PckPair]] = defaultdict(list)
        for record in records:
            by_category[record.category].append(record)
        subsets += [(f"category:{category}", by_category[category], ALL, False) for category in sorted(by_category)]
        for name, members, subset, dagger in subsets:
            for alpha in alphas:
                for average in (PER_IMAGE, PER_KEYPOINT):
                    value, count = pck(members, alpha, average, subset, dagger)
                    if count:
                        rows.append(_pck_row(method, dataset, name, alpha, average, value, count))
    return rows


def _pck_row(method: str, dataset: str, subset: str, alpha: float, average: str, value: float, pairs: int | None) -> Row:
    return {
        "method": method,
        "dataset": dataset,
        "subset": subset,
        "alpha": alpha,
        "average": average,
        "value": _number(value),
        "pairs": pairs,
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


_SPAIR_TEST_PAIRS = 12_234

_PUBLISHED_PCK: dict[tuple[str, str], dict[str, tuple[float, float, float]]] = {
    # PCK per image at 0.01, 0.05 and 0.10 in percent, as 3D-SC (arXiv 2605.30093) prints them.
    ("SPair-71k", ALL): {
        "DINOv2 nearest": (6.3, 38.4, 53.9),
        "DIFT": (7.2, 39.7, 52.9),
        "SD+DINOv2": (7.9, 44.7, 59.9),
        "DIY-SC with OrientAnything": (9.5, 51.2, 69.6),
        "DIY-SC with human pose": (10.1, 53.8, 71.6),
        "3D-SC": (10.2, 54.8, 73.0),
        "Geo-SC (supervised)": (21.7, 72.8, 83.2),
        "SemAlign3D (supervised)": (15.8, 77.5, 88.9),
        "MARCO (supervised)": (27.0, 77.6, 87.2),
    },
    ("SPair-71k", GEO_AWARE): {"3D-SC": (7.8, 50.1, 70.8)},
    ("SPair-U", ALL): {"3D-SC": (5.6, 43.5, 67.3)},
}

_PUBLISHED_AP10K = {"intra-species": 69.6, "cross-species": 68.5, "cross-family": 56.9}

_PUBLISHED_FILTERS = {
    # FPR in percent and labels a pair on SPair-71k's validation split: without, then with 3D descriptors.
    "spherical mapper": ((10.95, 1856), (10.75, 2001)),
    "triplane": ((13.15, 1948), (13.07, 2090)),
    "PartField feature similarity": ((2.81, 1608), (2.47, 1694)),
    "bicyclic geodesic": ((1.82, 1543), (1.78, 1634)),
}


def published_pck_rows() -> list[Row]:
    """PCK rows of the paper, with ``published: True``; not measured by this project."""
    rows = []
    for (dataset, subset), methods in _PUBLISHED_PCK.items():
        pairs = _SPAIR_TEST_PAIRS if dataset == "SPair-71k" and subset == ALL else None
        for method, values in methods.items():
            for alpha, value in zip((0.01, 0.05, 0.10), values, strict=True):
                rows.append(_pck_row(method, dataset, subset, alpha, PER_IMAGE, round(value / 100, 4), pairs))
    for split, value in _PUBLISHED_AP10K.items():
        rows.append(_pck_row("3D-SC", f"AP-10K {split}", ALL, 0.10, PER_IMAGE, round(value / 100, 4), None))
    return [row | {"published": True} for row in rows]


def published_filter_rows() -> list[Row]:
    """Filter rows of the paper, with ``published: True``; not measured by this project."""
    return [
        {"filter": name, "descriptors": descriptors, "fpr": round(fpr / 100, 6), "kept": kept, "pairs": None, "published": True}
        for name, both in _PUBLISHED_FILTERS.items()
        for descriptors, (fpr, kept) in zip(("SD+DINO", "SD+DINO+3D"), both, strict=True)
    ]


def text_table(rows: Sequence[Mapping[str, Any]], title: str = "", width: int = 120) -> str:
    """Rows as a plain text table: shares in percent, columns in the order of the first row, "published" as a mark."""
    columns = [name for name in (rows[0] if rows else {}) if name != "published"]
    marked = any(row.get("published") for row in rows)
    table = Table(title=title or None)
    for name in columns:
        table.add_column(name, justify="left" if rows and isinstance(rows[0][name], str) else "right")
    if marked:
        table.add_column("origin")
    for row in rows:
        origin = ["published" if row.get("published") else "measured"] if marked else []
        table.add_row(*(_text(name, row.get(name)) for name in columns), *origin)
    console = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=False)
    console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined]


def _text(name: str, value: object) -> str:
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    if name in ("fpr", "value"):
        return f"{100 * value:.2f} %" if name == "fpr" else f"{100 * value:.1f} %"
    return f"{value:.1f}" if name == "kept" else f"{value:g}"

"""Rows of ``metrics.json``, and the same as text. Rates and PCK are in [0, 1]; NaN, which JSON cannot hold, becomes ``None``."""

from __future__ import annotations

import io
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table

from sc3d.console import PlainConsole
from sc3d.evaluation.filter_quality import FilterQuality
from sc3d.evaluation.pck import ALL, GEO_AWARE, PER_IMAGE, PER_KEYPOINT, PckPair, pck

Row = dict[str, Any]

DAGGER = f"{ALL}, nearest own"
"""The subset of PCK-dagger."""


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
            subsets.append((DAGGER, records, ALL, True))
        by_category: dict[str, list[PckPair]] = defaultdict(list)
        for record in records:
            by_category[record.category].append(record)
        subsets += [(f"category:{category}", by_category[category], ALL, False) for category in sorted(by_category)]
        for name, members, subset, dagger in subsets:
            for alpha in alphas:
                for average in (PER_IMAGE, PER_KEYPOINT):
                    value, count = pck(members, alpha, average, subset, dagger)
                    if count:
                        rows.append(pck_row(method, dataset, name, alpha, average, value, count))
    return rows


def pck_row(method: str, dataset: str, subset: str, alpha: float, average: str, value: float, pairs: int | None) -> Row:
    """One number of a table."""
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
    console = PlainConsole(file=io.StringIO(), width=width, color_system=None, force_terminal=False)
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

"""PCK rows as files for spreadsheets and papers."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sc3d.evaluation.pck import PER_IMAGE
from sc3d.evaluation.protocols import dataset_name
from sc3d.evaluation.published import published_pck_rows

_COLUMNS = ("method", "dataset", "subset", "alpha", "average", "value", "pairs", "origin")
_SPECIAL = {c: f"\\{c}" for c in "&%$#_{}"} | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}

Row = Mapping[str, Any]


def pck_csv(rows: Iterable[Row]) -> str:
    """All rows, and the published ones of the same data sets and subsets, one number a line; values are shares, not per cent."""
    measured = list(rows)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for row in [*measured, *_published_beside(measured)]:
        value = "" if row["value"] is None else f"{row['value']:.6f}"
        origin = "published" if row.get("published") else "measured"
        pairs = "" if row["pairs"] is None else row["pairs"]
        writer.writerow(
            (row["method"], dataset_name(row["dataset"]), row["subset"], row["alpha"], row["average"], value, pairs, origin)
        )
    return buffer.getvalue()


def pck_latex(rows: Iterable[Row]) -> str:
    """A booktabs table for each data set and subset, categories apart: methods by thresholds, both averages, in per cent.

    Published rows stand below a rule and are marked with a dagger.
    """
    measured = [row for row in rows if not str(row["subset"]).startswith("category:")]
    published = _published_beside(measured)
    tables = []
    for dataset, subset in dict.fromkeys((dataset_name(row["dataset"]), row["subset"]) for row in measured):
        mine, theirs = (
            [r for r in some if (dataset_name(r["dataset"]), r["subset"]) == (dataset, subset)] for some in (measured, published)
        )
        tables.append(_table(dataset, subset, mine, theirs))
    return "% Needs \\usepackage{booktabs}.\n" + "\n".join(tables)


def _published_beside(rows: Sequence[Row]) -> list[Row]:
    there = {(dataset_name(row["dataset"]), row["subset"]) for row in rows}
    alphas = {row["alpha"] for row in rows}
    return [row for row in published_pck_rows() if (row["dataset"], row["subset"]) in there and row["alpha"] in alphas]


def _table(dataset: str, subset: str, mine: Sequence[Row], theirs: Sequence[Row]) -> str:
    columns = list(dict.fromkeys((row["average"], row["alpha"]) for row in mine))
    columns.sort(key=lambda column: (column[0] != PER_IMAGE, -column[1]))
    averages = list(dict.fromkeys(average for average, _ in columns))
    spans = [sum(average == name for average, _ in columns) for name in averages]
    ends = [1 + sum(spans[: i + 1]) for i in range(len(spans))]
    rules = "".join(rf"\cmidrule(lr){{{end - span + 1}-{end}}}" for span, end in zip(spans, ends, strict=True))
    heads = " & ".join(rf"\multicolumn{{{span}}}{{c}}{{per {_escaped(name)}}}" for span, name in zip(spans, averages, strict=True))
    note = r" $\dagger$: as published." if theirs else ""
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{PCK on {_escaped(dataset)}, {_escaped(subset)} points, in per cent.{note}}}",
        rf"\begin{{tabular}}{{l{'r' * len(columns)}}}",
        r"\toprule",
        rf" & {heads} \\",
        rules,
        " & ".join(["method", *(f"{alpha:.2f}" for _, alpha in columns)]) + r" \\",
        r"\midrule",
        *_lines(mine, columns, ""),
    ]
    if theirs:
        lines += [r"\midrule", *_lines(theirs, columns, r"$^\dagger$")]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def _lines(rows: Sequence[Row], columns: Sequence[tuple[str, float]], mark: str) -> list[str]:
    values = {(row["method"], row["average"], row["alpha"]): row["value"] for row in rows}
    best = {c: max((v for (_, *key), v in values.items() if tuple(key) == c and v is not None), default=None) for c in columns}
    lines = []
    for method in dict.fromkeys(row["method"] for row in rows):
        cells = []
        for column in columns:
            value = values.get((method, *column))
            text = "--" if value is None else f"{100 * value:.1f}"
            cells.append(rf"\textbf{{{text}}}" if not mark and value is not None and value == best[column] else text)
        lines.append(" & ".join([_escaped(method) + mark, *cells]) + r" \\")
    return lines


def _escaped(text: object) -> str:
    return "".join(_SPECIAL.get(c, c) for c in str(text))

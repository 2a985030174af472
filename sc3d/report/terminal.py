"""An evaluation's tables in the terminal, for somebody who has read only the README."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from sc3d.console import PlainConsole
from sc3d.report.metrics import WITHOUT_PRIOR, filter_table, pck_tables, points_name

_ALPHA = 0.10
_AVERAGES = {"image": "per image", "keypoint": "per point"}


def print_metrics(metrics: Mapping[str, Any], console: PlainConsole | None = None) -> None:
    """Print the filters' quality and PCK at 0.10: zero-shot and with the adapter, on all points and on those with look-alikes."""
    console = console or PlainConsole()
    _print_filters(metrics, console)
    _print_pck(metrics, console)


def _print_counts(metrics: Mapping[str, Any], console: PlainConsole) -> None:
    """What the tables leave out, or count though something is odd about it: one line, as all methods score the same pairs, and one for each
    method that lacked what it asks for."""
    seen = {
        (count["pairs"], count["rejected"], count["without_common"], count["outside"], count["keypoints"])
        for count in metrics.get("counts", ())
    }
    for pairs, rejected, without, outside, keypoints in sorted(seen):
        parts = [f"{pairs:,} pairs, {keypoints:,} keypoints"]
        parts += [f"{rejected:,} pairs could not be scored"] if rejected else []
        parts += [f"{without:,} pairs show no keypoint in both images"] if without else []
        parts += [f"{outside:,} keypoints lie outside of their image"] if outside else []
        console.print("; ".join(parts), style="dim")
    for count in metrics.get("counts", ()):
        if count.get("without_prior"):
            text = f"{count['method']}: {count['without_prior']:,} of {count['pairs']:,} pairs were {WITHOUT_PRIOR}"
            console.print(text, style="dim", soft_wrap=True)


def _print_filters(metrics: Mapping[str, Any], console: PlainConsole) -> None:
    found = filter_table(metrics)
    if not found.rows:
        console.print("\nNo annotated pair was evaluated, so there is no filter quality and no PCK.")
        return
    console.print(Text("\nFilters", "bold").append(": how many of the kept matches are wrong, and how many are kept", "not bold"))
    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    table.add_column("filter", no_wrap=True)
    for name in found.descriptors:
        table.add_column(f"{name}\nwrong", justify="right", no_wrap=True)
        table.add_column("\nkept per pair", justify="right", no_wrap=True)
    for row in found.rows:
        texts = []
        for cell in row.cells:
            texts.append("-" if cell is None or cell.fpr is None else f"{100 * cell.fpr:.1f} %")
            texts.append("-" if cell is None or cell.kept is None else f"{cell.kept:,.0f}")
        table.add_row(row.filter, *texts)
    console.print(table)
    for row in found.rows:
        if row.meaning:
            console.print(f"{row.filter}: {row.meaning}", style="dim")
    console.print("wrong: at annotated points, more than a tenth of the object's box off", style="dim")


def _print_pck(metrics: Mapping[str, Any], console: PlainConsole) -> None:
    tables = [table for table in pck_tables(metrics) if _ALPHA in table.alphas]
    if not tables:
        return
    console.print(
        Text(f"\nPCK@{_ALPHA:.2f}", "bold").append(": annotated points found to within a tenth of the object's box", "not bold")
    )
    # What was measured first, then what the paper prints for the same data set, marked so.
    methods = dict.fromkeys((row.published, row.method) for table in tables for row in table.rows)
    view = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    view.add_column("method", overflow="fold")
    for table in tables:
        view.add_column(
            f"{points_name(table.subset)}\n{_AVERAGES.get(table.average, table.average)}", justify="right", no_wrap=True
        )
    for published, method in sorted(methods, key=lambda key: key[0]):
        cells = []
        for table in tables:
            row = next((r for r in table.rows if (r.published, r.method) == (published, method)), None)
            value = row.values[table.alphas.index(_ALPHA)] if row else None
            cells.append("-" if value is None else f"{100 * value:.1f} %")
        view.add_row(f"{method} (published)" if published else method, *cells, style="dim" if published else None)
    console.print(view)
    console.print("look-alikes: points with a twin on the object, such as left and right wheels (geo-aware in files)", style="dim")
    console.print("per image, per point: the mean over images, or over all points", style="dim")
    _print_counts(metrics, console)

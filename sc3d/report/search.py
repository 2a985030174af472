"""The page of a search, from its stored rows: label settings, and the trials of the adapter."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from markupsafe import Markup
from pydantic import AfterValidator, FailFast, Field
from typing_extensions import NotRequired, TypedDict

from sc3d.parsed import Amount, Number, Share, Whole
from sc3d.report.page import Missing, Tile, render_template
from sc3d.report.search_charts import (
    Axis,
    SettingPoint,
    TrialLine,
    WeightsPoint,
    frontier,
    learning_curves,
    parallel,
    shares,
    triangle,
)
from sc3d.report.search_verdict import interval_text, verdict

MAX_ROWS = 15
Row = Mapping[str, Any]


def _weighted(row: LabelRow) -> LabelRow:
    if abs(row["alpha"] + row["beta"] + row["gamma"] - 1) > 1e-6:
        raise ValueError("alpha, beta and gamma must add up to 1")
    return row


class LabelRow(TypedDict):
    """A setting of the label level and its figures."""

    alpha: Share
    beta: Share
    gamma: Share
    tau_cc: Number
    tau_geo: Number
    fpr: Share | None
    kept: Amount
    judged: Whole
    pck: Share | None
    present: bool


class FoundLabels(TypedDict):
    """``sweeps/labels.json``: the settings, best first."""

    rows: Annotated[list[Annotated[LabelRow, AfterValidator(_weighted)]], FailFast(), Field(min_length=1)]
    wanted: Amount
    objective: str
    pairs: Whole
    steps: Annotated[int, Field(ge=1, le=1000)]


class CycleRow(TypedDict):
    """A threshold, and what is estimated of the labels that it keeps; nothing where too few chains go round."""

    tau_geo: Number
    labels: Amount
    wrong: Share | None
    low: Share | None
    high: Share | None
    chains: Whole
    triangles: Whole
    present: bool


class FoundCycles(TypedDict):
    """``sweeps/cycles.json``: the thresholds, narrowest first, of all categories together and of each; ``best``: the widest one with the
    wanted precision, if any has it."""

    precision: Share
    best: Number | None
    rows: Annotated[list[CycleRow], FailFast(), Field(min_length=1)]
    categories: dict[str, list[CycleRow]]


Value = bool | Whole | Number | str | Annotated[list[Number], Field(max_length=8)] | None


class Span(TypedDict):
    """A range of numbers that were tried; ``log``: by magnitude."""

    low: Number
    high: Number
    log: NotRequired[bool]


class TrialRow(TypedDict):
    """A training and its result. ``curve``: step, PCK and loss of each validation."""

    settings: dict[str, Value]
    pck: Share | None
    steps: Whole
    curve: list[tuple[Whole, Share, float]]
    error: str | None


def _within_space(found: FoundAdapter) -> FoundAdapter:
    for name, domain in found["space"].items():
        if isinstance(domain, dict) and not (domain["low"] < domain["high"] and (domain["low"] > 0 or not domain.get("log"))):
            raise ValueError(f"space.{name} is no range")
    rows = [row for row in found["rows"] if row["pck"] is not None]
    for row in rows:
        if not row["curve"]:
            raise ValueError("a trial has a result, but no validation")
        if row["settings"].keys() != rows[0]["settings"].keys():
            raise ValueError("the trials have settings of different names")
        for name, value in row["settings"].items():
            if not _is_within(found["space"].get(name, [value]), value):
                raise ValueError(f"{name} = {value!r} of a trial lies outside of the space")
    return found


def _is_within(domain: Span | list[Value], value: Value) -> bool:
    if isinstance(domain, list):
        return repr(value) in map(repr, domain)
    return isinstance(value, (int, float)) and domain["low"] <= value <= domain["high"]


class FoundAdapter(TypedDict):
    """``sweeps/adapter.json``: the trials, best first, and the space that they are from."""

    rows: Annotated[list[TrialRow], FailFast()]
    steps: Whole
    space: dict[str, Span | list[Value]]


CheckedAdapter = Annotated[FoundAdapter, AfterValidator(_within_space)]


@dataclass(frozen=True)
class TableRow:
    """Cells of a row as text; ``best``, ``present``: how it is marked; ``note``: behind it."""

    cells: tuple[str, ...]
    best: bool = False
    present: bool = False
    note: str = ""


@dataclass(frozen=True)
class Table:
    """Headings and rows."""

    names: tuple[str, ...]
    rows: tuple[TableRow, ...]


@dataclass(frozen=True)
class LabelPart:
    """The label level: charts, best settings, and the best one as YAML in ``file``, with the ``command`` that uses it. ``verdict``:
    what of this is more than chance."""

    settings: int
    pairs: int
    wanted: float
    objective: str
    triangle: Markup
    triangle_note: str
    frontier: Markup
    table: Table
    yaml: str
    file: str
    command: str
    verdict: str = ""


@dataclass(frozen=True)
class CyclePart:
    """Thresholds without annotation: all of them together in ``table``, by category in ``categories``; ``command`` is empty if none has
    the wanted ``precision``."""

    precision: str
    table: Table
    categories: Table
    yaml: str
    file: str
    command: str


@dataclass(frozen=True)
class AdapterPart:
    """The adapter level. ``failed``: settings and reason of each failed trial; the rest as in :class:`LabelPart`."""

    trials: int
    steps: int
    stopped: int
    parallel: Markup
    curves: Markup
    table: Table
    failed: tuple[tuple[str, str], ...]
    yaml: str
    file: str
    command: str


@dataclass(frozen=True)
class SearchPage:
    """Everything on the page; a level that was not searched says so. ``report``: link to the run's report, if there is one."""

    run: str
    tiles: tuple[Tile, ...]
    labels: LabelPart | None
    adapter: AdapterPart | None
    labels_missing: Missing
    adapter_missing: Missing
    report: str = ""
    cycles: CyclePart | None = None


def render(page: SearchPage) -> str:
    """The page as HTML that needs nothing beside itself."""
    return render_template("search.html", (), ("style.css", "search.css"), page=page)


def label_part(found: FoundLabels, yaml: str, file: str, command: str) -> LabelPart:
    """The label level from its stored rows, best first."""
    rows: Sequence[Row] = found["rows"]
    wanted, by_pck = found["wanted"], found["objective"] == "pck"
    points, note = _weights_points(rows, wanted, by_pck)
    judged = [row for row in rows if row["fpr"] is not None]
    settings = {id(row): SettingPoint(row["kept"], 100 * row["fpr"], setting_text(row)) for row in judged}
    present = next((settings[id(row)] for row in judged if row["present"]), None)
    best = settings.get(id(rows[0])) if rows[0]["kept"] >= wanted else None
    names = ("alpha", "beta", "gamma", "tau_cc", "tau_geo", "wrong, %", "95 %", "labels per pair", "judged points")
    # PCK is the same for all thresholds of some weights, so only the best of these is of interest.
    first: dict[tuple[float, float], Row] = {}
    for row in rows:
        first.setdefault((row["alpha"], row["beta"]), row)
    listed = list(first.values()) if by_pck else rows
    shown = [*listed[:MAX_ROWS], *(row for row in rows if row["present"] and row not in listed[:MAX_ROWS])]
    objective = "PCK@0.10, %" if by_pck else "wrong labels, %"
    return LabelPart(
        settings=len(rows),
        pairs=found["pairs"],
        wanted=wanted,
        objective=objective,
        triangle=triangle(points, found["steps"], objective, lower_is_better=not by_pck),
        triangle_note=note,
        frontier=frontier(list(settings.values()), best, present, wanted),
        table=Table(
            (*names, "PCK@0.10") if by_pck else names, tuple(_label_row(row, row is rows[0], wanted, by_pck) for row in shown)
        ),
        yaml=yaml,
        file=file,
        command=command,
        verdict=verdict(rows, wanted),
    )


def cycle_part(found: FoundCycles, yaml: str, file: str, command: str) -> CyclePart:
    """Thresholds without annotation, from their stored rows."""
    best = found["best"]
    names = ("tau_geo", "labels per pair", "wrong, %", "95 %", "triangles")
    rows = tuple(
        TableRow(_cycle_cells(row), row["tau_geo"] == best, row["present"], _cycle_note(row, best)) for row in found["rows"]
    )
    mine = [(name, row) for name, all_ in found["categories"].items() for row in all_ if row["tau_geo"] == best or row["present"]]
    listed = tuple(TableRow((name, *_cycle_cells(row)), present=row["present"], note=_cycle_note(row, best)) for name, row in mine)
    return CyclePart(
        precision=f"{100 * found['precision']:g} %",
        table=Table(names, rows),
        categories=Table(("category", *names), listed),
        yaml=yaml if best is not None else "",
        file=file,
        command=command if best is not None else "",
    )


def _cycle_cells(row: CycleRow) -> tuple[str, ...]:
    wrong, low, high = row["wrong"], row["low"], row["high"]
    known = wrong is not None and low is not None and high is not None
    figures = (f"{100 * wrong:.1f}", f"{100 * low:.1f} to {100 * high:.1f}") if known else ("–", "–")  # type: ignore[operator]
    return f"{row['tau_geo']:.3g}", f"{row['labels']:,.1f}", *figures, f"{row['triangles']:,}"


def _cycle_note(row: CycleRow, best: float | None) -> str:
    return ", ".join(["best"] * (row["tau_geo"] == best) + ["present"] * row["present"])


def _weights_points(rows: Sequence[Row], wanted: float, by_pck: bool) -> tuple[list[WeightsPoint], str]:
    by_weights: dict[tuple[float, float], list[Row]] = {}
    for row in rows:
        by_weights.setdefault((row["alpha"], row["beta"]), []).append(row)
    points = []
    for (alpha, beta), mine in by_weights.items():
        enough = [row for row in mine if row["kept"] >= wanted and row["fpr"] is not None]
        if by_pck:
            value = None if mine[0]["pck"] is None else 100 * mine[0]["pck"]
        else:
            value = min((100 * row["fpr"] for row in enough), default=None)
        marks = ["best"] * (rows[0] in mine) + ["present"] * any(row["present"] for row in mine)
        text = f"alpha {alpha:.3g}, beta {beta:.3g}, gamma {mine[0]['gamma']:.3g}: "
        text += "never enough labels" if value is None else f"{value:.2f} %"
        points.append(WeightsPoint(alpha, beta, mine[0]["gamma"], value, text, tuple(marks)))
    if by_pck:
        return (
            points,
            "PCK of the fused features themselves; it does not depend on the thresholds. The table has the best thresholds for each.",
        )
    return points, "The fewest wrong labels of all thresholds that keep enough; dashed: none of them does."


def setting_text(row: Row) -> str:
    """A label setting and its figures in a line."""
    names = ("alpha", "beta", "gamma", "tau_cc", "tau_geo")
    wrong = "nothing judged" if row["fpr"] is None else f"{100 * row['fpr']:.2f} % wrong"
    return ", ".join(f"{name} {row[name]:.3g}" for name in names) + f": {wrong}, {row['kept']:.0f} labels per pair"


def _label_row(row: Row, best: bool, wanted: float, by_pck: bool) -> TableRow:
    cells = [f"{row[name]:.3g}" for name in ("alpha", "beta", "gamma", "tau_cc", "tau_geo")]
    cells += [
        "–" if row["fpr"] is None else f"{100 * row['fpr']:.2f}",
        interval_text(row) or "–",
        f"{row['kept']:,.0f}",
        f"{row['judged']:,}",
    ]
    if by_pck:
        cells.append("–" if row["pck"] is None else f"{100 * row['pck']:.1f}")
    notes = ["best"] * best + ["present"] * row["present"] + ["too few labels"] * (row["kept"] < wanted)
    return TableRow(tuple(cells), best, row["present"], ", ".join(notes))


def adapter_part(found: FoundAdapter, yaml: str, file: str, command: str) -> AdapterPart | None:
    """The adapter level from its stored rows, best first; ``None`` if no trial has a result."""
    rows: list[Row] = [row for row in found["rows"] if row["pck"] is not None]
    if not rows:
        return None
    names = [name for name in found["space"] if name in rows[0]["settings"]]
    axes = [_axis(name, found["space"][name], [row["settings"][name] for row in rows]) for name in names]
    values = [100 * row["pck"] for row in rows]
    low, high = min(values), max(values)
    middle = ((0.5, f"{low:.1f}"),) if high == low else ((0.0, f"{low:.1f}"), (1.0, f"{high:.1f}"))
    lines = [
        TrialLine(
            places=(*(place(row["settings"][name]) for name, (_, place) in zip(names, axes, strict=True)), share),
            curve=tuple((int(step), 100 * pck) for step, pck, _ in row["curve"]),
            share=share,
            tip=f"{settings_text(row['settings'])}: {100 * row['pck']:.1f} % after {row['steps']:,} steps",
            best=row is rows[0],
        )
        for row, share in zip(rows, (s if s is not None else 0.0 for s in shares(values, lower_is_better=False)), strict=True)
    ]
    table = [
        TableRow((*(value_text(row["settings"][n]) for n in names), f"{row['steps']:,}", f"{100 * row['pck']:.1f}"), row is rows[0])
        for row in rows[:MAX_ROWS]
    ]
    return AdapterPart(
        trials=len(found["rows"]),
        steps=found["steps"],
        stopped=sum(row["steps"] < found["steps"] for row in rows),
        parallel=parallel(lines, [*(axis for axis, _ in axes), Axis("PCK@0.10, %", middle)]),
        curves=learning_curves(lines),
        table=Table((*(_option(name) for name in names), "steps", "PCK@0.10, %"), tuple(table)),
        failed=tuple((settings_text(row["settings"]), row["error"]) for row in found["rows"] if row["error"]),
        yaml=yaml,
        file=file,
        command=command,
    )


def _option(name: str) -> str:
    return "alpha, beta" if name == "match.weights" else name.partition(".")[2]


def _axis(name: str, domain: Any, tried: Sequence[Any]) -> tuple[Axis, Any]:
    """The axis of a setting, and what places a value on it: choices evenly, ranges by size or magnitude."""
    if isinstance(domain, list):
        places = {repr(value): (i + 0.5) / len(domain) for i, value in enumerate(domain)}
        ticks = tuple((places[repr(value)], value_text(value)) for value in domain)
        return Axis(_option(name), ticks), lambda value: places[repr(value)]
    scale = math.log if domain.get("log") else float
    low, high = scale(domain["low"]), scale(domain["high"])
    ends = ((0.0, value_text(domain["low"])), (1.0, value_text(domain["high"])))
    return Axis(_option(name), ends), lambda value: (scale(value) - low) / (high - low)


def value_text(value: Any) -> str:
    """A setting's value as text."""
    if isinstance(value, (list, tuple)):
        return ", ".join(f"{one:.3g}" for one in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def settings_text(settings: Mapping[str, Any]) -> str:
    """A trial's settings in a line."""
    return ", ".join(f"{_option(name)} {value_text(value)}" for name, value in settings.items())

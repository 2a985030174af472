"""What searches left in a run folder -> ``report/search.html``, one self-contained page."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from sc3d.parsed import TABLE_BYTES, read_parsed, read_parsed_text
from sc3d.report.page import Missing, Tile
from sc3d.report.search import (
    CheckedAdapter,
    FoundAdapter,
    FoundCycles,
    FoundLabels,
    SearchPage,
    adapter_part,
    cycle_part,
    label_part,
    render,
    settings_text,
)
from sc3d.report.search_verdict import interval_text
from sc3d.store import RunFolder

PAGE = "report/search.html"
FOUND_LABELS, BEST_LABELS = "sweeps/labels.json", "sweeps/best.yaml"
FOUND_ADAPTER, BEST_ADAPTER = "sweeps/adapter.json", "sweeps/best-adapter.yaml"
FOUND_CYCLES, BEST_CYCLES = "sweeps/cycles.json", "sweeps/best-cycles.yaml"
"""The rows of the latest search of each level, and its best setting; the last two of labels without annotation."""


def write_page(run: RunFolder) -> str:
    """Write the page of a run folder's latest searches and return its path or URI."""
    run.write_bytes(PAGE, render(build_page(run)).encode())
    return f"{run.uri}/{PAGE}"


def build_page(run: RunFolder) -> SearchPage:
    """The page's values, from whatever was searched."""
    labels = read_parsed(run, FOUND_LABELS, FoundLabels, TABLE_BYTES) if run.exists(FOUND_LABELS) else None
    adapter: FoundAdapter | None = (
        read_parsed(run, FOUND_ADAPTER, CheckedAdapter, TABLE_BYTES) if run.exists(FOUND_ADAPTER) else None
    )
    cycles = read_parsed(run, FOUND_CYCLES, FoundCycles, TABLE_BYTES) if run.exists(FOUND_CYCLES) else None
    yamls = {name: read_best(run, name)[0] if run.exists(name) else "" for name in (BEST_LABELS, BEST_ADAPTER, BEST_CYCLES)}
    label = adapter_level = None
    if labels is not None:
        label = label_part(labels, yamls[BEST_LABELS], BEST_LABELS, usage(run, BEST_LABELS, ("label",)))
    if adapter is not None and yamls[BEST_ADAPTER]:
        adapter_level = adapter_part(adapter, yamls[BEST_ADAPTER], BEST_ADAPTER, usage(run, BEST_ADAPTER, ("label", "train")))
    tried = "No trial has a result." if adapter is not None else "What the adapter is trained with was not searched yet."
    return SearchPage(
        run=run.uri,
        tiles=tuple(_tiles(labels, adapter)),
        labels=label,
        cycles=cycle_part(cycles, yamls[BEST_CYCLES], BEST_CYCLES, _use_cycles(run, yamls)) if cycles is not None else None,
        adapter=adapter_level,
        labels_missing=Missing("Weights and thresholds were not searched yet.", f"sc3d sweep --run {run.uri}"),
        adapter_missing=Missing(tried, f"sc3d sweep --level adapter --run {run.uri}"),
        report="index.html" if run.exists("report/index.html") else "",
    )


def _use_cycles(run: RunFolder, yamls: Mapping[str, str]) -> str:
    return usage(run, BEST_CYCLES, ("label",)) if yamls[BEST_CYCLES] else ""


def read_best(run: RunFolder, file: str) -> tuple[str, dict[str, dict[str, Any]]]:
    """The best setting of a search: as the YAML that it is in, and as options.

    Raises:
        SchemaError: it is not what a search writes.
        MissingFileError: there is none.
    """
    return read_parsed_text(run, file, dict[str, dict[str, Any]])


def usage(run: RunFolder, file: str, commands: Sequence[str]) -> str:
    """The commands that use the best setting in ``file``. A file in a bucket cannot be given as ``--config``, so its options are."""
    options = f"--config {shlex.quote(f'{run.uri}/{file}')}"
    if not run.is_local:
        best = read_best(run, file)[1]
        flat = (f"{stage}.{option}={json.dumps(value)}" for stage, values in best.items() for option, value in values.items())
        options = " ".join(f"--set {shlex.quote(one)}" for one in flat)
    return " && ".join(f"sc3d {command} --run {shlex.quote(run.uri)} {options}" for command in commands)


def _tiles(labels: Mapping[str, Any] | None, adapter: Mapping[str, Any] | None) -> list[Tile]:
    tiles = []
    if labels is not None:
        best, present = labels["rows"][0], next((row for row in labels["rows"] if row["present"]), None)
        names = ("alpha", "beta", "gamma", "tau_cc", "tau_geo")
        note = ", ".join(f"{name} {best[name]:.3g}" for name in names)
        if best["fpr"] is not None:
            tiles.append(Tile(_wrong(best), "wrong labels with the best setting", f"{_interval(best)}; {note}"))
        if present is not None and present["fpr"] is not None:
            kept = f"{present['kept']:,.0f} labels per pair"
            tiles.append(Tile(_wrong(present), "wrong with the present one", f"{_interval(present)}; {kept}"))
    trials = [row for row in adapter["rows"] if row["pck"] is not None] if adapter is not None else []
    if trials:
        tiles.append(Tile(f"{100 * trials[0]['pck']:.1f} %", "PCK@0.10 of the best trial", settings_text(trials[0]["settings"])))
    return tiles


def _wrong(row: Mapping[str, Any]) -> str:
    return f"{100 * row['fpr']:.2f} %"


def _interval(row: Mapping[str, Any]) -> str:
    return f"95 %: {interval_text(row)} %" if row["judged"] else "not known how sure"

"""The widest tau_geo at a wanted precision, by chains of three matches -> ``sweeps/cycles.json`` and ``best-cycles.yaml``. Needs no
annotation: matches are read, nothing is matched again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from rich.box import SIMPLE_HEAD
from rich.table import Table

from pipelines.folder.manifest import read_pair_items
from pipelines.jobs.job import Job
from pipelines.report.search import BEST_CYCLES, FOUND_CYCLES, usage, write_page
from pipelines.stages.cycles import estimates, read_cycles
from pipelines.stages.match import MatchStage
from sc3d.config import RunConfig
from sc3d.console import PlainConsole
from sc3d.errors import ConfigError, InputError
from sc3d.matching.cycle_precision import CyclePrecision, NotEstimated, ThresholdEstimate, monotone, widest_threshold
from sc3d.store import RunFolder


def run(config: RunConfig, console: PlainConsole | None = None) -> RunFolder:
    """Estimate the share of wrong labels under each of ``sweep.tau_geo``, print it, and write the widest threshold that has the wanted
    precision as YAML to pass to ``sc3d label --config``; none if none has.

    ``sweeps/cycles.json`` has one row a threshold, narrowest first: tau_geo, labels (a pair), wrong, low, high, chains, triangles,
    present; and the same rows for each category.

    Raises:
        ConfigError: a threshold is wider than the stored matches.
        InputError: nothing was matched with this configuration, or no triangles of images have labels that go all the way round.
    """
    widest = max(config.sweep.tau_geo)
    if widest > config.match.tau_geo:
        raise ConfigError(f"sweep.tau_geo = {widest} is wider than what is stored, match.tau_geo = {config.match.tau_geo}")
    with Job(config, "sweep") as job:
        config = job.config
        matched = MatchStage(config).catalogue().among(read_pair_items(job.folder))
        if not matched.num_rows:
            raise InputError(f"{job.folder.uri} holds no matches of this configuration; run sc3d label first")
        job.begin()
        cycles = read_cycles(config, sorted({*config.sweep.tau_geo, config.label.tau_geo}), config.sweep.triangles)
        sizes = {one["values"].as_py(): one["counts"].as_py() for one in matched["category"].value_counts()}
        rows = monotone(estimates(cycles, matched.num_rows))
        by_category = {name: monotone(estimates(cycles, pairs, [name])) for name, pairs in sorted(sizes.items())}
        if reason := _unknown(rows):
            raise InputError(f"{job.folder.uri}: without annotation, precision is estimated from cycles of three images; {reason}")
        best = widest_threshold([row for row in rows if row.tau_geo in config.sweep.tau_geo], config.sweep.precision)
        _write(job.folder, config, rows, by_category, best)
        page = write_page(job.folder)
    console = console or PlainConsole(soft_wrap=True)
    _print(rows, best, config, console)
    console.print(f"page: {page}")
    return job.folder


def _unknown(rows: list[ThresholdEstimate]) -> str:
    reasons = [row.estimate.reason for row in rows if isinstance(row.estimate, NotEstimated)]
    return reasons[-1] if len(reasons) == len(rows) else ""


def _write(
    run: RunFolder,
    config: RunConfig,
    rows: list[ThresholdEstimate],
    by_category: Mapping[str, list[ThresholdEstimate]],
    best: ThresholdEstimate | None,
) -> None:
    present = config.label.tau_geo
    found: dict[str, Any] = {
        "precision": config.sweep.precision,
        "best": best.tau_geo if best else None,
        "rows": [_row(row, present) for row in rows],
        "categories": {name: [_row(row, present) for row in mine] for name, mine in by_category.items()},
    }
    run.write_json(FOUND_CYCLES, found)
    if best is None:
        run.delete(BEST_CYCLES)
    else:
        run.write_bytes(BEST_CYCLES, yaml.safe_dump({"label": {"tau_geo": best.tau_geo}}).encode())


def _row(row: ThresholdEstimate, present: float) -> dict[str, Any]:
    one = row.estimate
    known = isinstance(one, CyclePrecision)
    figures = {name: getattr(one, name) if known else None for name in ("wrong", "low", "high")}
    counts = {name: getattr(one, name) if known else 0 for name in ("chains", "triangles")}
    return {"tau_geo": row.tau_geo, "labels": row.labels, **figures, **counts, "present": row.tau_geo == present}


def _print(rows: list[ThresholdEstimate], best: ThresholdEstimate | None, config: RunConfig, console: PlainConsole) -> None:
    table = Table(title="wrong labels, by cycles of three images", title_justify="left", header_style="bold", box=SIMPLE_HEAD)
    for name in ("tau_geo", "labels per pair", "wrong", "95 %", "triangles"):
        table.add_column(name, justify="right")
    for row in rows:
        one = row.estimate
        known = (
            (f"{one.wrong:.1%}", f"{one.low:.1%} to {one.high:.1%}", f"{one.triangles:,}")
            if isinstance(one, CyclePrecision)
            else ("-", "-", "-")
        )
        table.add_row(f"{row.tau_geo:g}", f"{row.labels:.1f}", *known)
    console.print(table)
    console.print("What is wrong with the mesh of one image is not seen so, such as a wrong turn: docs/search.md.")
    asked = config.sweep.precision
    if best is not None:
        console.print(f"tau_geo {best.tau_geo:g} is the widest with {asked:.1%} right labels by the low end of the interval.")
        console.print(f"use it: {usage(RunFolder(config.run), BEST_CYCLES, ('label',))}")
        return
    tried = [(row.tau_geo, row.estimate) for row in rows if row.tau_geo in config.sweep.tau_geo]
    highs = [(tau, one.high) for tau, one in tried if isinstance(one, CyclePrecision)]
    if highs:
        tau, high = min(highs, key=lambda one: one[1])
        console.print(
            f"No threshold is known to have {asked:.1%} right labels: at tau_geo {tau:g} at least {1 - high:.1%} are. More "
            "pairs of the same images narrow the interval (pairs.targets); sweep.tau_geo is what is tried."
        )

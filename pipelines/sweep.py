"""Search alpha, beta, gamma, tau_cc and tau_geo on the annotated validation pairs -> ``sweeps/<recipe>.json`` and ``best.yaml``."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from cluster.session import RaySession
from pipelines.describe import DescribeStage
from pipelines.manifest import images_by_id, read_pairs
from pipelines.match import DescribedImages
from pipelines.progress import Progress
from sc3d.config import LabelConfig, MatchConfig, RunConfig
from sc3d.errors import InputError
from sc3d.evaluation.filter_quality import judge
from sc3d.matching.candidates import cycle_tolerance, passes_cycle
from sc3d.matching.label import explain_pair
from sc3d.matching.thresholds import passes_geodesic
from sc3d.records import Pair
from sc3d.shards import recipe_of
from sc3d.store import RunFolder

BEST = "sweeps/best.yaml"


def run(config: RunConfig, console: Console | None = None) -> list[dict[str, Any]]:
    """Evaluate the whole grid, print the best settings, and write the best one as YAML to pass to ``sc3d label --config``.

    Returns:
        One row a setting: alpha, beta, gamma, tau_cc, tau_geo, fpr, kept, judged; best first.

    Raises:
        InputError: the run has no annotated validation pairs with features.
    """
    run_folder, pairs = RunFolder(config.run), validation_pairs(config)
    weights = weight_grid(config.sweep.steps, config.match)
    name = f"sweeps/{_recipe(config, pairs)}.json"
    with RaySession(config.ray) as ray, Progress() as progress:
        done = run_folder.exists(name)
        task = progress.start("sweep", len(weights), done=len(weights) if done else 0)
        if done:
            rows = run_folder.read_json(name)["rows"]
        else:
            ray.start()
            # Not before: Ray reads the settings of the session when it is imported.
            from training.sweep import sweep

            found = sweep(weights, lambda setting: evaluate_weights(config, setting), lambda: task.advance(1))
            rows = rank([row for one in found for row in one["rows"]], config)
            run_folder.write_json(name, {"rows": rows})
        task.finish()
    best = {"match": {k: rows[0][k] for k in ("alpha", "beta")}, "label": {k: rows[0][k] for k in ("tau_cc", "tau_geo")}}
    run_folder.write_bytes(BEST, yaml.safe_dump(best).encode())
    _print(rows, config, console or Console(highlight=False, soft_wrap=True))
    return rows


def validation_pairs(config: RunConfig) -> list[Pair]:
    """The annotated pairs that are searched on: the ``val`` split, at most ``sweep.pairs_per_category`` of each category."""
    described = DescribeStage(config).artefacts.catalogue()
    chosen: list[Pair] = []
    counts: dict[str, int] = {}
    for pair in sorted(read_pairs(RunFolder(config.run), labelled=False), key=lambda p: p.pair_id):
        usable = pair.split == "val" and pair.source_id in described and pair.target_id in described
        if usable and counts.get(pair.category, 0) < config.sweep.pairs_per_category:
            counts[pair.category] = counts.get(pair.category, 0) + 1
            chosen.append(pair)
    if not chosen:
        raise InputError(f"{config.run} has no annotated validation pairs with features; a sweep needs a data set with keypoints")
    return chosen


def weight_grid(steps: int, present: MatchConfig) -> list[dict[str, float]]:
    """All (alpha, beta) in multiples of 1 / steps with at least one 2D source, and the present one."""
    grid = [{"alpha": a / steps, "beta": b / steps} for a in range(steps + 1) for b in range(steps + 1 - a) if a + b > 0]
    own = {"alpha": present.alpha, "beta": present.beta}
    known = any(math.isclose(w["alpha"], own["alpha"]) and math.isclose(w["beta"], own["beta"]) for w in grid)
    return grid if known else [*grid, own]


def evaluate_weights(config: RunConfig, weights: Mapping[str, float]) -> dict[str, Any]:
    """All thresholds for one setting of the weights: the candidates and their errors are computed once."""
    match = dataclasses.replace(config.match, **weights)
    images, records = DescribedImages(config, match, config.ray.cache_mb), images_by_id(config.run)
    thresholds = [LabelConfig(cc, geo) for cc, geo in product(config.sweep.tau_cc, config.sweep.tau_geo)]
    totals = np.zeros((len(thresholds), 3), np.int64)
    pairs = _pairs(config)
    for pair in pairs:
        source, target = images.get(pair.source_id), images.get(pair.target_id)
        explanation = explain_pair(source, target, config.label)
        at, correct = judge(explanation, source.letterbox, (records[pair.source_id], records[pair.target_id]))
        for total, label in zip(totals, thresholds, strict=True):
            tolerance = cycle_tolerance(label.tau_cc, source.extent, source.letterbox.cell_pixels)
            keep = passes_cycle(explanation.cycle_error, tolerance) & passes_geodesic(explanation.geodesic_error, label.tau_geo)
            total += (keep.sum(), keep[at].sum(), (keep[at] & ~correct).sum())
    rows = []
    for label, (kept, judged, wrong) in zip(thresholds, totals.tolist(), strict=True):
        fpr = wrong / judged if judged else None
        setting = {"alpha": match.alpha, "beta": match.beta, "gamma": match.gamma, "tau_cc": label.tau_cc, "tau_geo": label.tau_geo}
        rows.append({**setting, "fpr": fpr, "kept": kept / len(pairs), "judged": judged})
    return {"rows": rows}


@cache
def _pairs(config: RunConfig) -> list[Pair]:
    return validation_pairs(config)


def rank(rows: list[dict[str, Any]], config: RunConfig) -> list[dict[str, Any]]:
    """Best first: settings that keep enough labels by their FPR, then the others by the labels that they keep."""

    def is_present(row: Mapping[str, Any]) -> bool:
        own = {
            "alpha": config.match.alpha,
            "beta": config.match.beta,
            "tau_cc": config.label.tau_cc,
            "tau_geo": config.label.tau_geo,
        }
        return all(math.isclose(row[k], v) for k, v in own.items())

    present = [row["kept"] for row in rows if is_present(row)]
    enough = config.sweep.min_kept * (present[0] if present else max(row["kept"] for row in rows) / 2)

    def order(row: Mapping[str, Any]) -> tuple[bool, float, float]:
        wanted = row["kept"] >= enough and row["fpr"] is not None
        return not wanted, row["fpr"] if wanted else 0.0, -row["kept"]

    return sorted(rows, key=order)


def _recipe(config: RunConfig, pairs: list[Pair]) -> str:
    values = {**dataclasses.asdict(config.sweep), "pairs": [p.pair_id for p in pairs], "features": DescribeStage(config).recipe}
    present = [config.match.alpha, config.match.beta, config.label.tau_cc, config.label.tau_geo]
    return recipe_of("sweep", {**values, "present": present})


def _print(rows: list[dict[str, Any]], config: RunConfig, console: Console) -> None:
    table = Table(title=f"best of {len(rows)} settings", title_justify="left", header_style="bold")
    names = ("alpha", "beta", "gamma", "tau_cc", "tau_geo", "fpr", "kept", "judged")
    for name in names:
        table.add_column("wrong labels" if name == "fpr" else "labels a pair" if name == "kept" else name, justify="right")
    for row in rows[:10]:
        fpr = "-" if row["fpr"] is None else f"{row['fpr']:.1%}"
        cells = [fpr if n == "fpr" else f"{row[n]:.0f}" if n in ("kept", "judged") else f"{row[n]:.3g}" for n in names]
        table.add_row(*cells)
    console.print(table)
    console.print(f"use it: sc3d label --run {config.run} --config {config.run}/{BEST}")

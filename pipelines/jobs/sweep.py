"""Search alpha, beta, gamma, tau_cc and tau_geo on the annotated validation pairs -> ``sweeps/labels.json`` and ``best.yaml``.

The settings of a pair are evaluated together, from one similarity matrix a group; pairs go to workers in shards as in every stage, so a
killed sweep goes on where it stopped. The other level, which trains with each setting, is in :mod:`pipelines.jobs.adapter_search`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import yaml
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from pipelines.jobs import adapter_search
from pipelines.jobs.job import Job
from pipelines.report.search import BEST_LABELS, FOUND_LABELS, usage, write_page
from pipelines.runner.timings import record_summary
from pipelines.stages.sweep import SweepStage, validation_pairs, weight_grid
from sc3d.config import RunConfig
from sc3d.errors import InputError
from sc3d.evaluation.setting_counts import SettingCounts
from sc3d.shards import item_table
from sc3d.store import RunFolder


def run(config: RunConfig, console: Console | None = None, retry_rejects: bool = False) -> RunFolder:
    """Evaluate the whole grid, print the best settings, and write the best one as YAML to pass to ``sc3d label --config``.

    ``sweeps/labels.json`` has one row a setting: alpha, beta, gamma, tau_cc, tau_geo, fpr, kept, judged, pck, present; best first. With
    ``sweep.level`` = adapter this is :func:`pipelines.jobs.adapter_search.run`.

    Raises:
        InputError: the run has no annotated validation pairs with features, or none of them could be evaluated.
    """
    if config.sweep.level == "adapter":
        return adapter_search.run(config, console)
    with Job(config, "sweep", retry_rejects=retry_rejects) as job:
        config = job.config
        stage, pairs = SweepStage(config), validation_pairs(config)
        job.begin()
        items = item_table((pair.category, pair.pair_id) for pair in pairs)
        record_summary(job.folder, job.run_stage(stage, items))
        counts = list(stage.catalogue().read(pair.pair_id for pair in pairs).values())
        rows = rank(collect_rows(config, counts), config)
        found = {"objective": config.sweep.objective, "wanted": wanted_labels(rows, config), "pairs": len(counts)}
        job.folder.write_json(FOUND_LABELS, {"rows": rows, "steps": config.sweep.steps, **found})
        best = {"match": {k: rows[0][k] for k in ("alpha", "beta")}, "label": {k: rows[0][k] for k in ("tau_cc", "tau_geo")}}
        job.folder.write_bytes(BEST_LABELS, yaml.safe_dump(best).encode())
        page = write_page(job.folder)
    console = console or Console(highlight=False, soft_wrap=True)
    _print(rows, config, console)
    console.print(f"page: {page}", markup=False)
    return job.folder


def collect_rows(config: RunConfig, pairs: Sequence[SettingCounts]) -> list[dict[str, Any]]:
    """Add up the pairs' counts: one row a setting, in the order of the grid.

    Raises:
        InputError: there are no pairs.
    """
    if not pairs:
        raise InputError(
            f"none of the annotated validation pairs of {config.run} could be evaluated; see rejects/{SweepStage.name}"
        )
    totals = np.sum([pair.counts for pair in pairs], axis=0)
    weights = weight_grid(config.sweep.steps, config.match)
    pck = pck_of_weights(pairs, len(weights))
    thresholds = len(config.sweep.tau_cc) * len(config.sweep.tau_geo)
    rows = []
    for number, ((match, tau_cc, tau_geo), (kept, judged, wrong)) in enumerate(
        zip(product(weights, config.sweep.tau_cc, config.sweep.tau_geo), totals.tolist(), strict=True)
    ):
        setting = {"alpha": match.alpha, "beta": match.beta, "gamma": match.gamma, "tau_cc": tau_cc, "tau_geo": tau_geo}
        score = {"fpr": wrong / judged if judged else None, "kept": kept / len(pairs), "judged": judged}
        rows.append({**setting, **score, "pck": pck[number // thresholds], "present": is_present(setting, config)})
    return rows


def pck_of_weights(pairs: Sequence[SettingCounts], weights: int) -> list[float | None]:
    """PCK@0.10 under each weights: the mean over pairs of the share of right keypoints; ``None`` where nothing was counted."""
    counted = [pair.points for pair in pairs if pair.points is not None and pair.points[:, 1].all()]
    if not counted:
        return [None] * weights
    shares = np.mean([points[:, 0] / points[:, 1] for points in counted], axis=0)
    found: list[float | None] = shares.tolist()
    return found


def is_present(row: Mapping[str, Any], config: RunConfig) -> bool:
    """Whether a row is of the setting that the run has now."""
    match, label = config.match, config.label
    own = {"alpha": match.alpha, "beta": match.beta, "tau_cc": label.tau_cc, "tau_geo": label.tau_geo}
    return all(math.isclose(row[k], v) for k, v in own.items())


def wanted_labels(rows: Sequence[Mapping[str, Any]], config: RunConfig) -> float:
    """Labels a pair that the best setting must keep."""
    if config.sweep.labels is not None:
        return config.sweep.labels
    present = [row["kept"] for row in rows if is_present(row, config)]
    wanted: float = config.sweep.min_kept * (present[0] if present else max(row["kept"] for row in rows) / 2)
    return wanted


def rank(rows: list[dict[str, Any]], config: RunConfig) -> list[dict[str, Any]]:
    """Best first: settings that keep enough labels by the objective, then the others by the labels that they keep.

    PCK depends on the weights alone: among the thresholds of equal weights FPR decides.
    """
    enough, by_pck = wanted_labels(rows, config), config.sweep.objective == "pck"

    def order(row: Mapping[str, Any]) -> tuple[bool, float, float, float]:
        wanted = row["kept"] >= enough and row["fpr"] is not None and (not by_pck or row["pck"] is not None)
        if not wanted:
            return True, 0.0, 0.0, -row["kept"]
        return False, -row["pck"] if by_pck else 0.0, row["fpr"], -row["kept"]

    return sorted(rows, key=order)


_HEADINGS = {"fpr": "wrong", "kept": "labels a pair", "pck": "PCK@0.10"}


def _print(rows: list[dict[str, Any]], config: RunConfig, console: Console) -> None:
    table = Table(title=f"best of {len(rows)} settings", title_justify="left", header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    names = ["alpha", "beta", "gamma", "tau_cc", "tau_geo", "fpr", "kept", "judged"]
    names += ["pck"] if config.sweep.objective == "pck" else []
    for name in names:
        table.add_column(_HEADINGS.get(name, name), justify="right")
    for row in rows[:10]:
        table.add_row(*(_cell(name, row[name]) for name in names))
    console.print(table)
    console.print(f"use it: {usage(RunFolder(config.run), BEST_LABELS, ('label',))}", markup=False)


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1%}" if name in ("fpr", "pck") else f"{value:.0f}" if name in ("kept", "judged") else f"{value:.3g}"

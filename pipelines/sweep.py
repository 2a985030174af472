"""Search alpha, beta, gamma, tau_cc and tau_geo on the annotated validation pairs -> ``sweeps/<recipe>.json`` and ``best.yaml``.

The settings of a pair are evaluated together, from one similarity matrix a group; pairs go to workers in shards as in every stage, so a
killed sweep goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa
import yaml
from rich.console import Console
from rich.table import Table

from actors.base import Actor, Row
from cluster.session import RaySession
from pipelines.describe import DescribeStage
from pipelines.execute import run_stage
from pipelines.manifest import read_pairs
from pipelines.match import DescribedImages, pair_row
from pipelines.progress import Progress
from pipelines.stage import Stage
from pipelines.timings import record_summary
from sc3d.config import MatchConfig, RunConfig
from sc3d.errors import InputError
from sc3d.evaluation.setting_counts import SettingCounts, count_settings
from sc3d.matching.described import Described
from sc3d.matching.tiles import plan_pair_shards
from sc3d.matching.weight_grid import GroupedImage
from sc3d.records import Pair
from sc3d.schema import column_meanings
from sc3d.shards import Shard
from sc3d.store import RunFolder

BEST = "sweeps/best.yaml"

_ANNOTATED_PAIR = {
    **column_meanings(Pair),
    "source": "the source image, prepared for matching under any weights",
    "target": "the target image, prepared for matching under any weights",
    "annotations": "manifest rows of both images",
}


class GroupedImages(DescribedImages):
    """The described images of a run, prepared for matching under any weights."""

    def _load(self, image_id: str) -> Described:
        return GroupedImage(self._stage.read_features(image_id), self._match)


class SweepActor(Actor):
    """Counts the kept labels and the judged keypoints of a pair under every setting."""

    requires = _ANNOTATED_PAIR
    provides = {"counts": "kept labels, judged keypoints and wrong ones of every setting"}

    @classmethod
    def fingerprint(cls, config: RunConfig) -> Mapping[str, Any]:
        weights = [[setting.alpha, setting.beta] for setting in weight_grid(config.sweep.steps, config.match)]
        thresholds = {"tau_cc": config.sweep.tau_cc, "tau_geo": config.sweep.tau_geo}
        return {"version": "sweep-1", "weights": weights, **thresholds, "transfer": config.match.transfer}

    def process(self, row: Row) -> Row:
        sweep, weights = self.config.sweep, weight_grid(self.config.sweep.steps, self.config.match)
        images = row["source"], row["target"]
        return {"counts": count_settings(*images, row["annotations"], weights, sweep.tau_cc, sweep.tau_geo)}


class SweepStage(Stage):
    """Counts of every setting on annotated pairs."""

    name = "sweep"
    folder = "sweeps"
    record = SettingCounts
    key = "pair_id"
    by_category = True
    upstream = (DescribeStage,)
    given = _ANNOTATED_PAIR

    def actors(self) -> Sequence[type[Actor]]:
        return (SweepActor,)

    def plan(self, items: pa.Table) -> list[Shard]:
        return plan_pair_shards(items, self.config.ray.pairs_per_shard)

    @cached_property
    def _images(self) -> GroupedImages:
        return GroupedImages(self.config, self.config.match, self.config.ray.cache_mb)

    @cached_property
    def _pairs(self) -> dict[str, Pair]:
        return {pair.pair_id: pair for pair in read_pairs(self.run, labelled=False)}

    def load(self, shard: Shard) -> Iterator[Row]:
        for pair in (self._pairs[pair_id] for pair_id in shard.ids):
            sides = (self.images[pair.source_id], self.images[pair.target_id])
            yield {**pair_row(pair, self._images), "annotations": sides}

    def finish(self, row: Row, seconds: float) -> SettingCounts:
        return SettingCounts(row["pair_id"], row["category"], row["counts"].reshape(-1, 3))


def run(config: RunConfig, console: Console | None = None) -> list[dict[str, Any]]:
    """Evaluate the whole grid, print the best settings, and write the best one as YAML to pass to ``sc3d label --config``.

    Returns:
        One row a setting: alpha, beta, gamma, tau_cc, tau_geo, fpr, kept, judged; best first.

    Raises:
        InputError: the run has no annotated validation pairs with features, or none of them could be evaluated.
    """
    stage, pairs = SweepStage(config), validation_pairs(config)
    with RaySession(config.ray) as ray, Progress() as progress:
        items = [(pair.category, pair.pair_id) for pair in pairs]
        record_summary(stage.run, run_stage(stage, items, progress, ray))
    rows = rank(collect_rows(config, list(stage.artefacts.catalogue().read(pair.pair_id for pair in pairs).values())), config)
    stage.run.write_json(f"{stage.artefacts.prefix}.json", {"rows": rows})
    best = {"match": {k: rows[0][k] for k in ("alpha", "beta")}, "label": {k: rows[0][k] for k in ("tau_cc", "tau_geo")}}
    stage.run.write_bytes(BEST, yaml.safe_dump(best).encode())
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


def weight_grid(steps: int, present: MatchConfig) -> list[MatchConfig]:
    """All (alpha, beta) in multiples of 1 / steps with at least one 2D source, and the present one."""
    grid = [(a / steps, b / steps) for a in range(steps + 1) for b in range(steps + 1 - a) if a + b > 0]
    if not any(math.isclose(alpha, present.alpha) and math.isclose(beta, present.beta) for alpha, beta in grid):
        grid.append((present.alpha, present.beta))
    return [dataclasses.replace(present, alpha=alpha, beta=beta) for alpha, beta in grid]


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
    rows = []
    for (match, tau_cc, tau_geo), (kept, judged, wrong) in zip(
        product(weights, config.sweep.tau_cc, config.sweep.tau_geo), totals.tolist(), strict=True
    ):
        setting = {"alpha": match.alpha, "beta": match.beta, "gamma": match.gamma, "tau_cc": tau_cc, "tau_geo": tau_geo}
        rows.append({**setting, "fpr": wrong / judged if judged else None, "kept": kept / len(pairs), "judged": judged})
    return rows


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
    enough = config.sweep.labels
    if enough is None:
        enough = config.sweep.min_kept * (present[0] if present else max(row["kept"] for row in rows) / 2)

    def order(row: Mapping[str, Any]) -> tuple[bool, float, float]:
        wanted = row["kept"] >= enough and row["fpr"] is not None
        return not wanted, row["fpr"] if wanted else 0.0, -row["kept"]

    return sorted(rows, key=order)


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

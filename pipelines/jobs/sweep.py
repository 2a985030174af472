"""Search alpha, beta, gamma, tau_cc and tau_geo on the annotated validation pairs -> ``sweeps/labels.json`` and ``best.yaml``.

The settings of a pair are evaluated together, from one similarity matrix a group; pairs go to workers in shards as in every stage, so a
killed sweep goes on where it stopped. The other level, which trains with each setting, is in :mod:`pipelines.jobs.adapter_search`.
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
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from actors.base import Actor, Row
from cluster.session import RaySession
from pipelines.stages.describe import DescribeStage
from pipelines.jobs.evaluate import unit_of
from pipelines.runner.run import run_stage
from pipelines.folder.manifest import read_pairs
from pipelines.stages.match import DescribedImages, pair_row
from pipelines.runner.progress import Progress
from pipelines.report.search import BEST_LABELS, LABELS, usage, write_page
from pipelines.runner.stage import Stage
from pipelines.runner.timings import record_summary
from sc3d.cache import ByteCache
from sc3d.config import MatchConfig, RunConfig
from sc3d.errors import InputError
from sc3d.evaluation.readout import CellDescriptors
from sc3d.evaluation.setting_counts import SettingCounts, count_settings
from sc3d.evaluation.setting_pck import count_points, describe_groups
from sc3d.matching.described import Described
from sc3d.matching.tiles import plan_pair_shards
from sc3d.matching.weight_grid import GroupedImage
from sc3d.records import Pair
from sc3d.schema import column_meanings
from sc3d.shards import Shard
from sc3d.store import RunFolder

BEST = BEST_LABELS

_ANNOTATED_PAIR = {
    **column_meanings(Pair),
    "source": "the source image, prepared for matching under any weights",
    "target": "the target image, prepared for matching under any weights",
    "annotations": "manifest rows of both images",
    "descriptors": "groups of features of both images at all cells; None unless the objective is PCK",
}


class GroupedImages(DescribedImages):
    """The described images of a run, prepared for matching under any weights."""

    def _load(self, image_id: str) -> Described:
        return GroupedImage(self._stage.read_features(image_id), self._match)


class SweepActor(Actor):
    """Counts the kept labels and the judged keypoints of a pair under every setting."""

    requires = _ANNOTATED_PAIR
    provides = {
        "counts": "kept labels, judged keypoints and wrong ones of every setting",
        "points": "right keypoints and all of them under every weights; None unless the objective is PCK",
    }

    @classmethod
    def fingerprint(cls, config: RunConfig) -> Mapping[str, Any]:
        weights = [[setting.alpha, setting.beta] for setting in weight_grid(config.sweep.steps, config.match)]
        thresholds = {"tau_cc": config.sweep.tau_cc, "tau_geo": config.sweep.tau_geo}
        evaluate = config.evaluate
        readout = [evaluate.window, evaluate.temperature, evaluate.masking, unit_of(config)]
        pck = {"pck": readout} if config.sweep.objective == "pck" else {}
        return {"version": "sweep-1", "weights": weights, **thresholds, "transfer": config.match.transfer, **pck}

    def process(self, row: Row) -> Row:
        sweep, weights = self.config.sweep, weight_grid(self.config.sweep.steps, self.config.match)
        images, annotations = (row["source"], row["target"]), row["annotations"]
        counts = count_settings(*images, annotations, weights, sweep.tau_cc, sweep.tau_geo)
        if row["descriptors"] is None:
            return {"counts": counts, "points": None}
        source, target = row["descriptors"]
        points = count_points(source, target, annotations, weights, self.config.evaluate, unit_of(self.config))
        return {"counts": counts, "points": points}


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

    @property
    def _finds_pck(self) -> bool:
        return self.config.sweep.objective == "pck"

    @cached_property
    def _images(self) -> GroupedImages:
        cache = self.config.ray.cache_mb
        return GroupedImages(self.config, self.config.match, cache // 2 if self._finds_pck else cache)

    @cached_property
    def _descriptors(self) -> ByteCache[str, Mapping[str, CellDescriptors]]:
        describe = DescribeStage(self.config)
        return ByteCache(
            lambda image_id: describe_groups(describe.read_features(image_id)),
            lambda groups: sum(one.n_bytes for one in groups.values()),
            self.config.ray.cache_mb * 2**19,
        )

    @cached_property
    def _pairs(self) -> dict[str, Pair]:
        return {pair.pair_id: pair for pair in read_pairs(self.run, labelled=False)}

    def load(self, shard: Shard) -> Iterator[Row]:
        for pair in (self._pairs[pair_id] for pair_id in shard.ids):
            sides = (self.images[pair.source_id], self.images[pair.target_id])
            row = {**pair_row(pair, self._images), "annotations": sides, "descriptors": None}
            if self._finds_pck and "error" not in row:
                row["descriptors"] = (self._descriptors.get(pair.source_id), self._descriptors.get(pair.target_id))
            yield row

    def finish(self, row: Row, seconds: float) -> SettingCounts:
        return SettingCounts(row["pair_id"], row["category"], row["counts"].reshape(-1, 3), row["points"])


def run(config: RunConfig, console: Console | None = None) -> list[dict[str, Any]]:
    """Evaluate the whole grid, print the best settings, and write the best one as YAML to pass to ``sc3d label --config``.

    With ``sweep.level`` = adapter this is :func:`pipelines.jobs.adapter_search.run`.

    Returns:
        One row a setting: alpha, beta, gamma, tau_cc, tau_geo, fpr, kept, judged, pck, present; best first.

    Raises:
        InputError: the run has no annotated validation pairs with features, or none of them could be evaluated.
    """
    if config.sweep.level == "adapter":
        from pipelines.jobs import adapter_search

        return adapter_search.run(config, console)
    stage, pairs = SweepStage(config), validation_pairs(config)
    with RaySession(config.ray) as ray, Progress() as progress:
        items = [(pair.category, pair.pair_id) for pair in pairs]
        record_summary(stage.run, run_stage(stage, items, progress, ray))
    counts = list(stage.artefacts.catalogue().read(pair.pair_id for pair in pairs).values())
    rows = rank(collect_rows(config, counts), config)
    found = {"objective": config.sweep.objective, "wanted": wanted_labels(rows, config), "pairs": len(counts)}
    stage.run.write_json(LABELS, {"rows": rows, "steps": config.sweep.steps, **found})
    best = {"match": {k: rows[0][k] for k in ("alpha", "beta")}, "label": {k: rows[0][k] for k in ("tau_cc", "tau_geo")}}
    stage.run.write_bytes(BEST, yaml.safe_dump(best).encode())
    console = console or Console(highlight=False, soft_wrap=True)
    _print(rows, config, console)
    console.print(f"page: {write_page(stage.run)}", markup=False)
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
    console.print(f"use it: {usage(RunFolder(config.run), BEST, ('label',))}", markup=False)


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1%}" if name in ("fpr", "pck") else f"{value:.0f}" if name in ("kept", "judged") else f"{value:.3g}"

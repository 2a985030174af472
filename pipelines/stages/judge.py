"""annotated pairs + features -> how many candidates each filter keeps, and how many of them are wrong -> ``filters/``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import pyarrow as pa

from actors.base import Actor, Row
from pipelines.jobs.compare import Chains, recipe_matches, recipe_named
from pipelines.stages.describe import DescribeStage
from pipelines.folder.manifest import read_pairs
from pipelines.stages.match import DescribedImages, pair_row
from pipelines.stages.reconstruct import OrientStage
from pipelines.runner.stage import Stage
from sc3d.config import RunConfig
from sc3d.evaluation.filter_quality import FilterCounts, filter_quality, judge, unit_of_pair, without_3d
from sc3d.evaluation.label_recipes import LABEL_RECIPES
from sc3d.evaluation.protocols import Unit, unit_of
from sc3d.evaluation.scores import FilterScore
from sc3d.matching.tiles import plan_pair_shards
from sc3d.records import Pair
from sc3d.schema import column_meanings
from sc3d.shards import Shard

_JUDGED_PAIR = {
    **column_meanings(Pair),
    "source": "the source image, prepared for matching",
    "target": "the target image, prepared for matching",
    "source_flat": "the source image, prepared for matching without 3D descriptors",
    "target_flat": "the target image, prepared for matching without 3D descriptors",
    "annotations": "manifest rows of both images",
    "between": "images of the viewpoints between them, prepared without 3D descriptors, for recipes that chain",
    "spheres": "spherical maps of both images, or None",
}

_FLAT, _FULL = "2D", "2D + 3D"


class JudgeActor(Actor):
    """Judges all filters on the candidates of a pair, from 2D features and with the 3D descriptors."""

    requires = _JUDGED_PAIR
    provides = {"judged": "counts of each filter"}

    @classmethod
    def fingerprint(cls, config: RunConfig) -> Mapping[str, Any]:
        return {"version": "judge-1"}

    @cached_property
    def _unit(self) -> Unit:
        return unit_of(self.config)

    def process(self, row: Row) -> Row:
        label, annotations = self.config.label, row["annotations"]
        return {
            "judged": [
                *filter_quality(row["source_flat"], row["target_flat"], annotations, label, _FLAT, self._unit),
                *filter_quality(row["source"], row["target"], annotations, label, _FULL, self._unit),
                *(self._judge_recipe(name, row) for name in self.config.evaluate.recipes),
            ]
        }

    def _judge_recipe(self, name: str, row: Row) -> FilterCounts:
        recipe = LABEL_RECIPES[name]
        sides = row if recipe.shape else {**row, "source": row["source_flat"], "target": row["target_flat"]}
        matches = recipe_matches(recipe, sides, self.config)
        size = unit_of_pair(self._unit, row["annotations"], row["target"].letterbox)
        rows, correct = judge(matches, row["source"].letterbox, row["annotations"], size)
        return FilterCounts(name, _FULL if recipe.shape else _FLAT, len(matches.cosine), len(rows), int((~correct).sum()))


class JudgeStage(Stage):
    """Filter counts of annotated pairs."""

    name = "judge"
    folder = "filters"
    record = FilterScore
    key = "pair_id"
    by_category = True
    upstream = (DescribeStage,)
    given = _JUDGED_PAIR

    def actors(self) -> Sequence[type[Actor]]:
        return (JudgeActor,)

    def settings(self) -> Mapping[str, Any]:
        match, label = self.config.match, self.config.label
        return {
            "weights": [match.alpha, match.beta],
            "thresholds": [label.tau_cc, label.tau_geo],
            "transfer": match.transfer,
            "unit": unit_of(self.config),
            "recipes": self.config.evaluate.recipes,
            "chains": [OrientStage(self.config).recipe, self.config.compare.spheres] if self._chains is not None else None,
        }

    @cached_property
    def _chains(self) -> Chains | None:
        recipes = [recipe_named(name) for name in self.config.evaluate.recipes]
        return Chains(self.config) if any(recipe.chained for recipe in recipes) else None

    @property
    def shard_size(self) -> int:
        return self.config.ray.pairs_per_shard

    def plan(self, items: pa.Table) -> list[Shard]:
        return plan_pair_shards(items, self.shard_size)

    @cached_property
    def _images(self) -> tuple[DescribedImages, DescribedImages]:
        match, half = self.config.match, self.config.ray.cache_mb // 2
        return DescribedImages(self.config, match, half), DescribedImages(self.config, without_3d(match), half)

    @cached_property
    def _pairs(self) -> dict[str, Pair]:
        return {pair.pair_id: pair for pair in read_pairs(self.run, labelled=False)}

    def load(self, shard: Shard) -> Iterator[Row]:
        full, flat = self._images
        for pair in (self._pairs[pair_id] for pair_id in shard.ids):
            row = pair_row(pair, full)
            if "error" not in row:
                row["source_flat"], row["target_flat"] = flat.get(pair.source_id), flat.get(pair.target_id)
                row["annotations"] = (self.images[pair.source_id], self.images[pair.target_id])
            row |= {"between": [], "spheres": None}
            yield self._chains.extend(row, flat) if self._chains is not None else row

    def finish(self, row: Row, seconds: float) -> FilterScore:
        return FilterScore.of(row["pair_id"], row["category"], row["split"], row["judged"])


def judged_pairs(pairs: Iterable[Pair], most: int) -> list[Pair]:
    """At most ``most`` pairs of each category and split, the same ones whatever the order: judging every pair of a large test set takes
    far longer than its PCK and tells little more."""
    groups: dict[tuple[str, str], list[Pair]] = {}
    for pair in pairs:
        groups.setdefault((pair.category, pair.split), []).append(pair)

    def drawn(pair: Pair) -> bytes:
        return hashlib.sha256(pair.pair_id.encode()).digest()

    return [pair for members in groups.values() for pair in sorted(members, key=drawn)[:most]]

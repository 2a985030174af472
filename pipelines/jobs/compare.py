"""features -> labels by another recipe than the project's own -> ``labels/<recipe>/``, and an adapter trained on them: for comparisons."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from actors.base import Actor, Row
from cluster.session import RaySession
from pipelines.jobs import train
from pipelines.stages.describe import DescribeStage
from pipelines.runner.run import run_stage
from pipelines.folder.manifest import read_pair_items
from pipelines.stages.match import DescribedImages, pair_row
from pipelines.stages.planning import read_azimuths
from pipelines.runner.progress import Progress
from pipelines.stages.reconstruct import OrientStage, ReconstructStage
from pipelines.runner.stage import Stage
from sc3d.config import RunConfig
from sc3d.errors import ConfigError, InputError, is_of_the_store
from sc3d.evaluation.filter_quality import without_3d
from sc3d.evaluation.label_recipes import (
    LABEL_RECIPES,
    LabelRecipe,
    RecipeMatches,
    chain_between,
    chained_matches,
    filtered_matches,
    on_one_spot,
    to_labels,
)
from sc3d.matching.label import explain_pair
from sc3d.matching.tiles import plan_pair_shards
from sc3d.records import PAIR_SEPARATOR, Labels, Pair
from sc3d.schema import column_meanings
from sc3d.shards import Shard

_CHAINED_PAIR = {
    **column_meanings(Pair),
    "source": "the source image, prepared for matching",
    "target": "the target image, prepared for matching",
    "between": "images of the viewpoints between them, in order",
    "spheres": "spherical maps of both images, or None",
}


class CompareActor(Actor):
    """Labels of a pair by the recipe of the configuration."""

    requires = _CHAINED_PAIR
    provides = {"labels": "what the recipe keeps"}

    @classmethod
    def fingerprint(cls, config: RunConfig) -> Mapping[str, Any]:
        return {"version": "compare-1", "recipe": config.compare.recipe}

    def process(self, row: Row) -> Row:
        matches = recipe_matches(recipe_named(self.config.compare.recipe), row, self.config)
        return {"labels": to_labels(matches, row["source"], row["target"], row["category"], len(row["source"].cells))}


def recipe_matches(recipe: LabelRecipe, row: Row, config: RunConfig) -> RecipeMatches:
    """What a recipe keeps of a pair, see :class:`CompareActor` for the row."""
    if not recipe.chained:
        return filtered_matches(recipe, explain_pair(row["source"], row["target"], config.label), config.label)
    matches = chained_matches([row["source"], *row["between"], row["target"]])
    return matches if row["spheres"] is None else matches.select(on_one_spot(matches, row["spheres"]))


def recipe_named(name: str) -> LabelRecipe:
    """The recipe of a name.

    Raises:
        ConfigError: there is none.
    """
    try:
        return LABEL_RECIPES[name]
    except KeyError:
        raise ConfigError(f"no label recipe named '{name}'; there are {', '.join(LABEL_RECIPES)}") from None


class CompareStage(Stage):
    """Labels of the run's pairs by another recipe. ``train.labels`` takes the recipe of this stage."""

    name = "compare"
    folder = "labels"
    record = Labels
    key = "pair_id"
    by_category = True
    upstream = (DescribeStage,)
    given = _CHAINED_PAIR

    def actors(self) -> Sequence[type[Actor]]:
        return (CompareActor,)

    def settings(self) -> Mapping[str, Any]:
        match, label, recipe = self.config.match, self.config.label, recipe_named(self.config.compare.recipe)
        if recipe.chained:
            return {
                "weights": [match.alpha, match.beta],
                "spheres": self.config.compare.spheres,
                "poses": OrientStage(self.config).recipe,
            }
        return {"weights": [match.alpha, match.beta], "thresholds": [label.tau_cc, label.tau_geo], "transfer": match.transfer}

    @property
    def shard_size(self) -> int:
        return self.config.ray.pairs_per_shard

    def plan(self, items: pa.Table) -> list[Shard]:
        return plan_pair_shards(items, self.shard_size)

    @cached_property
    def _images(self) -> DescribedImages:
        match = self.config.match if recipe_named(self.config.compare.recipe).shape else without_3d(self.config.match)
        return DescribedImages(self.config, match, self.config.ray.cache_mb)

    @cached_property
    def _chains(self) -> Chains:
        return Chains(self.config)

    def load(self, shard: Shard) -> Iterator[Row]:
        for pair_id in shard.ids:
            source_id, target_id = pair_id.split(PAIR_SEPARATOR)
            row = pair_row(Pair(pair_id, source_id, target_id, shard.category, "trn"), self._images)
            row |= {"between": [], "spheres": None}
            yield self._chains.extend(row, self._images) if recipe_named(self.config.compare.recipe).chained else row

    def finish(self, row: Row, seconds: float) -> Labels:
        labels: Labels = row["labels"]
        return labels


class Chains:
    """What DIY-SC's recipe needs beside a pair: the images between its viewpoints, and spherical maps."""

    def __init__(self, config: RunConfig) -> None:
        self._config = config

    @cached_property
    def _azimuths(self) -> Any:
        return read_azimuths(self._config)

    def extend(self, row: Row, images: DescribedImages) -> Row:
        """The row of a pair with ``between`` and ``spheres``; an image that cannot be had becomes the row's error."""
        if "error" in row:
            return row
        try:
            cues = self._azimuths(row["category"])
            chain = chain_between(row["source_id"], row["target_id"], list(cues.image_ids), np.asarray(cues.values, np.float64))
            row["between"] = [images.get(image_id) for image_id in chain[1:-1]]
            if self._config.compare.spheres is not None:
                row["spheres"] = tuple(self._sphere(row[name]) for name in ("source_id", "target_id"))
        except Exception as error:  # concerns this pair, not the run
            if is_of_the_store(error):
                raise
            row["error"] = error
        return row

    def _sphere(self, image_id: str) -> np.ndarray:
        path = Path(str(self._config.compare.spheres)) / f"{image_id}.npy"
        try:
            return np.asarray(np.load(path, allow_pickle=False))
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: the spherical map of {image_id} cannot be read ({error})") from None


def labelled_by(config: RunConfig, name: str) -> RunConfig:
    """The configuration that trains on the labels of a recipe.

    Raises:
        ConfigError: there is no such recipe.
    """
    recipe_named(name)
    named = dataclasses.replace(config, compare=dataclasses.replace(config.compare, recipe=name))
    return dataclasses.replace(named, train=dataclasses.replace(named.train, labels=CompareStage(named).recipe))


def run(config: RunConfig, name: str) -> RunConfig:
    """Label the run's pairs by a recipe and train the adapter on these labels, as far as that is not done; returns the configuration.

    Raises:
        ConfigError: there is no such recipe.
        InputError: the run has no pairs, or no pair has a label.
    """
    chosen = labelled_by(config, name)
    stage = CompareStage(chosen)
    items = read_pair_items(stage.run)
    if not items.num_rows or not ReconstructStage(chosen).artefacts.files():
        raise InputError(f"{config.run} has no described pairs to label; run sc3d describe on it first")
    with RaySession(config.ray) as ray, Progress() as progress:
        run_stage(stage, items, progress, ray)
    train.run(chosen)
    return chosen

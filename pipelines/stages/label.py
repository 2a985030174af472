"""matches -> the thresholds applied to them -> ``labels/``; and which labels count, for everybody who reads them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from actors.base import Row
from pipelines.runner.stage import KEPT_LABELS
from pipelines.stages.match import MatchStage
from pipelines.stages.pairs import PairStage
from sc3d.artefacts import Artefacts, Catalogue
from sc3d.config import RunConfig
from sc3d.counted_labels import FOLDER, counted_labels
from sc3d.errors import ConfigError
from sc3d.matching.thresholds import apply_thresholds
from sc3d.records import Labels, Pair
from sc3d.shards import Shard


class LabelStage(PairStage):
    """The matches that pass the thresholds. Reads the stored evidence only, so it is cheap to make again."""

    name = "label"
    folder = FOLDER
    record = Labels
    options = ("label",)
    upstream = (MatchStage,)
    gathers = {"matches": "the candidates with their evidence"}

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        self._kept = 0

    def counters(self) -> Mapping[str, int]:
        return {KEPT_LABELS: self._kept}

    def gather(self, pair: Pair) -> Row:
        return {"matches": self._matches[pair.pair_id]}

    def load(self, shard: Shard) -> list[Row]:
        self._matches = self.made_from(MatchStage, shard)
        return list(super().load(shard))

    def finish(self, row: Row, seconds: float) -> Labels:
        labels = apply_thresholds(row["matches"], self.config.label)
        self._kept += labels.n_kept
        return labels


def label_artefacts(config: RunConfig, recipe: str | None = None) -> Artefacts:
    """Where the labels of a recipe are in the run folder; ``None``: those of the configuration.

    Raises:
        ConfigError: ``recipe`` is no recipe.
    """
    own = LabelStage(config).artefacts
    if recipe is None:
        return own
    if not recipe.isalnum():
        raise ConfigError(f"'{recipe}' is no recipe: name a folder below {own.run.uri}/{own.folder}")
    return dataclasses.replace(own, recipe=recipe)


def label_catalogue(config: RunConfig, recipe: str | None = None) -> Catalogue:
    """The labels of a recipe that count, for training, exports, searches, reports: :func:`~sc3d.counted_labels.counted_labels`.

    Raises:
        ConfigError: ``recipe`` is no recipe.
    """
    return counted_labels(label_artefacts(config, recipe))

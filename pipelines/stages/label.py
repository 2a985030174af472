"""matches -> the thresholds applied to them -> ``labels/``; and which labels count, for everybody who reads them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from actors.base import Row
from pipelines.folder.images import labelled_images
from pipelines.runner.stage import KEPT_LABELS
from pipelines.stages.match import MatchStage
from pipelines.stages.pairs import PairStage
from pipelines.stages.reconstruct import ReconstructStage
from sc3d.artefacts import Artefacts, Catalogue
from sc3d.config import RunConfig
from sc3d.errors import ConfigError
from sc3d.mask_signs import SIGNS
from sc3d.matching.thresholds import apply_thresholds
from sc3d.pair_ids import join_pair_ids, split_pair_ids
from sc3d.records import Labels, Matches, Pair
from sc3d.shards import COUNTED, Shard


class LabelStage(PairStage):
    """The matches that pass the thresholds. Reads the stored evidence only, so it is cheap to make again."""

    name = "label"
    folder = "labels"
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

    @cached_property
    def _left_out(self) -> frozenset[str]:
        """The images of which no labels are made, since their masks are likely bad."""
        return doubtful_masks(self.other(ReconstructStage), self.config.label.max_mask_signs)

    def finish(self, row: Row, seconds: float) -> Labels:
        labels = self.labels_of(row["matches"])
        self._kept += labels.n_kept
        return labels

    def labels_of(self, matches: Matches) -> Labels:
        """The labels of a pair: none where the mask of one of its images is likely bad."""
        usable = self._left_out.isdisjoint((matches.source_id, matches.target_id))
        return apply_thresholds(matches, self.config.label, usable)


def doubtful_masks(stage: ReconstructStage, most: int) -> frozenset[str]:
    """The images whose mask has more than ``most`` of the signs of a bad one (:mod:`sc3d.mask_signs`)."""
    if most >= len(SIGNS):
        return frozenset()
    table = stage.catalogue().columns(["image_id", "flags"])
    rows = zip(table["image_id"].to_pylist(), table["flags"].to_pylist(), strict=True)
    return frozenset(image_id for image_id, flags in rows if len(SIGNS.keys() & set(flags)) > most)


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
    """The labels of a recipe that count, for training, exports, searches, reports and whoever else reads labels.

    Of labels that the run made, those of the pairs that the plan names, as they are made from the photos of today. Of imported ones,
    which no plan names, those between images that the manifest has for labelling, with the photos that they were imported for.

    Raises:
        ConfigError: ``recipe`` is no recipe.
    """
    stage, artefacts = LabelStage(config), label_artefacts(config, recipe)
    if not artefacts.run.exists(origin_file(artefacts)):
        return artefacts.catalogue(stage.counted)
    return artefacts.catalogue(_imported(stage, artefacts.all_ids()))


def origin_file(artefacts: Artefacts) -> str:
    """The note that says where imported labels come from."""
    return f"{artefacts.prefix}.json"


def wanted_imports(stage: LabelStage, ids: pa.Array) -> pa.Table:
    """Pairs with what imported labels of them are about (:data:`~sc3d.shards.COUNTED`): the photos alone."""
    inputs = join_pair_ids(*(stage.image_inputs(end, "photo") for end in split_pair_ids(ids)))
    return pa.Table.from_arrays([ids, inputs], schema=COUNTED)


def _imported(stage: LabelStage, ids: pa.Array) -> pa.Table:
    labelled = labelled_images(stage.run)
    known = pc.and_(*(pc.is_in(end, value_set=labelled) for end in split_pair_ids(ids)))
    return wanted_imports(stage, ids.filter(known))

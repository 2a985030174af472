"""features -> labels by another labelling than the project's own -> ``labels/<recipe>/``: for comparisons."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from actors.base import Actor, Row
from pipelines.stages.agreeing import ALIGNED, AgreeingStage
from pipelines.stages.azimuths import read_azimuths
from pipelines.stages.describe import DescribeStage
from pipelines.stages.fit import FitStage
from pipelines.stages.orient import OrientStage
from pipelines.stages.pairs import SIDES, PreparedImages
from pipelines.stages.represent import RepresentStage
from pipelines.stages.verifying import described_images
from sc3d.config import MatchConfig, RunConfig
from sc3d.contents import folder_version
from sc3d.errors import InputError
from sc3d.evaluation.filter_quality import without_3d
from sc3d.evaluation.labellings import (
    KeptMatches,
    Labelling,
    agreed_by_class_shapes,
    annotated_matches,
    chain_between,
    chained_matches,
    filtered_matches,
    labelling_named,
    on_one_spot,
    to_labels,
)
from sc3d.local_files import read_local
from sc3d.matching.described import Described
from sc3d.matching.explain import explain_pair
from sc3d.records import Labels, Pair
from sc3d.shards import shard_name

_SPHERE_BYTES = 1 << 24

CHAINED: Mapping[str, str] = {
    "between": "images of the viewpoints between them, in order; none for labellings that do not chain",
    "spheres": "spherical maps of both images, or None",
}


ANNOTATED: Mapping[str, str] = {"annotations": "manifest rows of both images, for labellings that read them; else None"}


class CompareActor(Actor):
    """Labels of a pair by the labelling of the configuration."""

    requires: ClassVar[Mapping[str, str]] = {"category": "of both images", **SIDES, **CHAINED, **ANNOTATED, **ALIGNED}
    provides: ClassVar[Mapping[str, str]] = {"record": "what the labelling keeps"}
    version: ClassVar[str] = "compare-1"
    options: ClassVar[tuple[str, ...]] = ("compare.labelling", "label.tau_cc", "label.tau_geo", "label.min_agreement")

    def process(self, row: Row) -> Row:
        """Label one pair."""
        matches = kept_matches(labelling_named(self.config.compare.labelling), row, self.config)
        return {"record": to_labels(matches, row["source"], row["target"], row["category"], len(row["source"].cells))}


def kept_matches(labelling: Labelling, row: Row, config: RunConfig) -> KeptMatches:
    """What a labelling keeps of a pair, see :class:`CompareActor` for the row."""
    if labelling.annotated:
        return annotated_matches(row["annotations"], (row["source"].letterbox, row["target"].letterbox))
    if not labelling.chained:
        found = filtered_matches(labelling, explain_pair(row["source"], row["target"], config.label), config.label)
        return found.select(agreed_by_class_shapes(found, row["aligned"])) if labelling.carried else found
    matches = chained_matches([row["source"], *row["between"], row["target"]])
    return matches if row["spheres"] is None else matches.select(on_one_spot(matches, row["spheres"]))


class CompareStage(AgreeingStage):
    """Labels of the run's pairs by another labelling. ``train.labels`` takes the recipe of this stage."""

    name = "compare"
    folder = "labels"
    record = Labels
    slots = (CompareActor,)
    gathers = {**SIDES, **CHAINED, **ANNOTATED, **ALIGNED}
    command = "compare"

    @classmethod
    def labellings(cls, config: RunConfig) -> Sequence[Labelling]:
        return [labelling_named(config.compare.labelling)]

    def reads(self) -> Sequence[str]:
        if self._labelling.annotated:
            return ()
        return (
            "match.alpha",
            "match.beta",
            *(() if self._labelling.chained else ("match.transfer", "match.template_prior", "match.tau_reprojection")),
        )

    def asks_registrations(self) -> bool:
        return not (self._labelling.chained or self._labelling.annotated) and super().asks_registrations()

    def identities(self) -> Mapping[str, Any]:
        if self._labelling.annotated:
            # Of all images, since those who read labels of any origin look them up by photos alone; so are class shapes below.
            return {"annotations": shard_name(self._manifest_inputs["annotation"].to_pylist())}
        if self._labelling.carried:
            return {"class_shapes": shard_name(self.other(FitStage).other(RepresentStage).counted["inputs"].to_pylist())}
        return {"code": self._labelling.code, **(chain_identities(self.other(OrientStage)) if self._labelling.chained else {})}

    @cached_property
    def _labelling(self) -> Labelling:
        return labelling_named(self.whole.compare.labelling)

    @cached_property
    def _images(self) -> PreparedImages[Described]:
        if self._labelling.annotated:
            # Nothing is matched: an image is its grid and its extent.
            return described_images(self.other(DescribeStage), without_3d(MatchConfig()), self.whole.ray.cache_mb)
        match = self.config.match
        if self._labelling.chained:
            # From image to image through the 2D features alone: whichever transfer there is, it makes no difference.
            match = MatchConfig(alpha=match.alpha, beta=match.beta)
        match = match if self._labelling.shape else without_3d(match)
        return described_images(self.other(DescribeStage), match, self.whole.ray.cache_mb)

    @cached_property
    def _chains(self) -> Chains:
        return Chains(self.whole)

    def caches(self) -> Sequence[PreparedImages[Described]]:
        return (self._images,)

    def gather(self, pair: Pair) -> Row:
        source, target = self._images.both(pair)
        chain = self._chains.of(pair, self._images) if self._labelling.chained else NO_CHAIN
        annotations = self.annotations(pair) if self._labelling.annotated else None
        return {"source": source, "target": target, "annotations": annotations, **chain, **self.aligned(pair)}


NO_CHAIN: Mapping[str, Any] = {"between": [], "spheres": None}


def chain_identities(orient: OrientStage) -> dict[str, Any]:
    """What chains depend on beside the pair: the viewpoints of all images, and the spherical maps."""
    spheres = orient.whole.compare.spheres
    return {"viewpoints": orient.recipe, "spheres": None if spheres is None else folder_version(spheres)}


class Chains:
    """What DIY-SC's labelling needs beside a pair: the images between its viewpoints, and spherical maps."""

    def __init__(self, config: RunConfig) -> None:
        self._config = config

    @cached_property
    def _azimuths(self) -> Any:
        return read_azimuths(self._config)

    def of(self, pair: Pair, images: PreparedImages[Described]) -> dict[str, Any]:
        """``between`` and ``spheres`` of a pair.

        Raises:
            InputError: a spherical map cannot be read.
            UpstreamError: an earlier stage rejected an image between.
        """
        cues = self._azimuths(pair.category)
        chain = chain_between(pair.source_id, pair.target_id, list(cues.image_ids), np.asarray(cues.values, np.float64))
        spheres = None
        if self._config.compare.spheres is not None:
            spheres = tuple(self._sphere(image_id) for image_id in (pair.source_id, pair.target_id))
        return {"between": [images.get(image_id) for image_id in chain[1:-1]], "spheres": spheres}

    def _sphere(self, image_id: str) -> np.ndarray:
        path = Path(str(self._config.compare.spheres)) / f"{image_id}.npy"
        try:
            return np.asarray(np.load(io.BytesIO(read_local(path, _SPHERE_BYTES)), allow_pickle=False))
        except (InputError, ValueError, EOFError) as error:
            raise InputError(f"{path}: the spherical map of {image_id} cannot be read ({error})") from None


def labelled_by(config: RunConfig, name: str) -> RunConfig:
    """The configuration that trains on the labels of a labelling.

    Raises:
        ConfigError: there is no such labelling.
    """
    labelling_named(name)
    named = dataclasses.replace(config, compare=dataclasses.replace(config.compare, labelling=name))
    return dataclasses.replace(named, train=dataclasses.replace(named.train, labels=CompareStage(named).recipe))

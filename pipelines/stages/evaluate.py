"""annotated pairs + descriptors -> predicted keypoints -> ``scores/``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from actors.base import Actor, Row
from pipelines.stages.describe import DescribeStage
from pipelines.stages.fit import FitStage
from pipelines.stages.method_config import method_config
from pipelines.stages.methods import ImageCells, adapter_identity, method_images, trained_adapter
from pipelines.stages.mirror import MirrorStage
from pipelines.stages.pairs import PairStage, PreparedImages
from sc3d.class_shapes.carry import as_similarity, carried, with_features
from sc3d.config import RunConfig
from sc3d.datasets.keypoint_groups import KeypointGroups
from sc3d.errors import ConfigError
from sc3d.evaluation.flip import counterparts, descriptor_distance, mirrored_pixels
from sc3d.evaluation.methods import CONTROL, Method, method_of, methods_of, named, resolve
from sc3d.evaluation.pck import common_keypoints, outside_image, read_cells, score_cells
from sc3d.evaluation.protocols import protocol_of, unit_of
from sc3d.evaluation.readout import guided
from sc3d.evaluation.scores import PairScore
from sc3d.features import Features
from sc3d.records import ImageRecord, Pair

_GATHERED = {
    "source": "descriptors and foreground of the source image, its template or the class shape in it",
    "target": "those of the target image",
    "mirrored": "those of the mirrored source, or None without adaptive flip",
    "annotations": "manifest rows of both images",
    "groups": "repeated and mirrored keypoints of the category",
    "method": "what tables call the method",
    "prior": "what the poses of a template do, see Method.prior",
    "unit": "what a threshold is a share of",
}


class ScoreActor(Actor):
    """Predicts the keypoints of a pair by one method and every readout, and measures how far off they are."""

    requires: ClassVar[Mapping[str, str]] = {"pair_id": "id", "category": "of both images", "split": "val or test", **_GATHERED}
    provides: ClassVar[Mapping[str, str]] = {"record": "predictions and distances"}
    version: ClassVar[str] = "score-3"
    options: ClassVar[tuple[str, ...]] = ("evaluate.window", "evaluate.temperature", "evaluate.masking")

    @classmethod
    def reads(cls, config: RunConfig) -> Sequence[str]:
        """Adapters know no flip, and the weight of the prior is that of the methods with one."""
        method = method_of(config.evaluate.methods[0])
        prior = ("evaluate.template_prior",) if method.prior else ("evaluate.direct",) if method.carried else ()
        return *cls.options, *(("evaluate.flip",) if _flips(method) else ()), *prior

    def process(self, row: Row) -> Row:
        """Score one pair."""
        source, target = row["annotations"]
        key = (row["pair_id"], row["category"], row["split"])
        ids, source_xy, target_xy = common_keypoints(source, target)
        if len(ids) == 0:
            return {"record": PairScore.of(*key, ())}
        boxes = (row["source"].descriptors.letterbox, row["target"].descriptors.letterbox)
        source_cells = boxes[0].cells_of(source_xy)
        similarity = self._similarity(row, source_cells, source_xy)
        found = self._guided(row, source_cells, similarity) if row["prior"] else None
        cells = read_cells(similarity if found is None else found, boxes[1].side, self.config.evaluate)
        flipped = row["mirrored"] is not None and self._flip(row, ids, cells)
        outside = int((outside_image(source_xy, boxes[0]) | outside_image(target_xy, boxes[1])).sum())
        predictions = score_cells(source, target, cells, boxes[1], row["groups"].repeated, row["method"], row["unit"])
        return {"record": PairScore.of(*key, predictions, outside, flipped, bool(row["prior"]) and found is None)}

    def _similarity(self, row: Row, source_cells: np.ndarray, source_xy: np.ndarray) -> np.ndarray:
        """The similarities (K, N) of the source's keypoints with the target's cells, by features or through the class shape in both."""
        source, target = row["source"], row["target"]
        if source.aligned is None:
            return np.asarray(source.descriptors.similarity(source_cells, target.descriptors))
        likelihood = carried(source.aligned, source_xy, target.aligned)
        if self.config.evaluate.direct:
            direct = source.descriptors.similarity(source_cells, target.descriptors)
            likelihood = with_features(likelihood, direct, min(source.aligned.sure, target.aligned.sure))
        return as_similarity(likelihood, self.config.evaluate.temperature)

    def _guided(self, row: Row, source_cells: np.ndarray, similarity: np.ndarray) -> np.ndarray | None:
        """The similarities (K, N) with the prior of the template; ``None`` where the two images share none in sure poses."""
        templates = row["source"].template, row["target"].template
        return guided(similarity, source_cells, templates, self.config.evaluate.template_prior, alone=row["prior"] == "alone")

    def _flip(self, row: Row, ids: Any, cells: dict[str, Any]) -> bool:
        """Take the predictions of the mirrored source, where it is closer to the target, of the points that it shows too."""
        source: ImageRecord = row["annotations"][0]
        own, mirrored, target = row["source"], row["mirrored"], row["target"]
        if source.keypoint_ids is None or source.keypoint_xy is None:
            return False
        theirs = counterparts(ids, source.keypoint_ids, row["groups"].mirrored)
        usable = theirs >= 0
        kind = self.config.evaluate.flip
        if kind == "none" or not usable.any():
            return False
        distances = [
            descriptor_distance(one.descriptors, target.descriptors, kind, (one.foreground, target.foreground))
            for one in (own, mirrored)
        ]
        if not distances[1] < distances[0]:
            return False
        box = mirrored.descriptors.letterbox
        xy = mirrored_pixels(source.keypoint_xy[theirs[usable]], box.width)
        similarity = mirrored.descriptors.similarity(box.cells_of(xy), target.descriptors)
        for readout, found in read_cells(similarity, box.side, self.config.evaluate).items():
            cells[readout][usable] = found
        return True


class EvaluateStage(PairStage):
    """The keypoints of each annotated pair, predicted by the one method of its configuration (see :func:`evaluate_stages`)."""

    name = "evaluate"
    folder = "scores"
    record = PairScore
    annotated = True
    slots = (ScoreActor,)
    gathers = _GATHERED
    command = "evaluate"

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        if self.method.carried:
            self.upstream = (*self.upstream, FitStage)

    @classmethod
    def instances(cls, config: RunConfig) -> list[EvaluateStage]:
        try:
            return evaluate_stages(config)
        except ConfigError:
            # Without a method that fits the run there are no scores of it.
            return []

    @cached_property
    def method(self) -> Method:
        """What predicts."""
        return method_of(self.whole.evaluate.methods[0])

    @property
    def label(self) -> str:
        """What tables call its method."""
        return named(self.method, resolve(self.method, self.whole)[1])

    @property
    def flips(self) -> bool:
        """Whether mirror images are looked at too."""
        return _flips(self.method) and self.whole.evaluate.flip != "none"

    def reads(self) -> Sequence[str]:
        own = None in self.method.weights.values()
        return "evaluate.methods", "evaluate.unit", "dataset.kind", *(("match.alpha", "match.beta") if own else ())

    def identities(self) -> Mapping[str, Any]:
        mirrored = self.other(MirrorStage).recipe if self.flips else None
        return {"method": self.label, "adapter": adapter_identity(self.method, self.whole), "mirrored": mirrored}

    def end_inputs(self, ids: pa.Array) -> pa.Array:
        return self.other(FitStage).inputs_of(ids) if self.method.carried else super().end_inputs(ids)

    @cached_property
    def _images(self) -> PreparedImages[ImageCells]:
        bound = self.whole.ray.cache_mb
        if self.method.carried:
            return self._aligned(bound)
        return method_images(self.method, self.whole, self.other(DescribeStage), bound // 2 if self.flips else bound)

    def _aligned(self, cache_mb: int) -> PreparedImages[ImageCells]:
        """The images with the class shapes in them."""
        fits, described = self.other(FitStage), self.other(DescribeStage)
        plain = method_images(self.method, self.whole, described, 0)

        def prepare(features: Features) -> ImageCells:
            cells = plain.prepare(features)
            return cells._replace(aligned=fits.aligned(features.image_id, features.letterbox, cells.descriptors.flat()))

        return PreparedImages(described, prepare, cache_mb, needed=[fits])

    @cached_property
    def _mirrored(self) -> PreparedImages[ImageCells]:
        return method_images(self.method, self.whole, self.other(MirrorStage), self.whole.ray.cache_mb // 2)

    def caches(self) -> Sequence[PreparedImages[ImageCells]]:
        return (self._images, self._mirrored) if self.flips else (self._images,)

    def gather(self, pair: Pair) -> Row:
        source, target = self._images.both(pair)
        return {
            "source": source,
            "target": target,
            "mirrored": self._mirrored.get(pair.source_id) if self.flips else None,
            "annotations": self.annotations(pair),
            "groups": groups_of(self.config, pair.category),
            "method": self.label,
            "prior": self.method.prior,
            "unit": unit_of(self.config),
        }


def _flips(method: Method) -> bool:
    """Whether mirror images mean something to a method: an adapter was trained on photos, and a pose says itself which side it shows."""
    return method.is_zero_shot and not method.prior and not method.carried


def groups_of(config: RunConfig, category: str) -> KeypointGroups:
    """The repeated and mirrored keypoints of a category; none for data sets that do not say."""
    return protocol_of(config.dataset.kind).groups_of(config.dataset.root, category)


def method_names(config: RunConfig) -> tuple[str, ...]:
    """The methods that a configuration evaluates; those of the default: a control, the run's features, and its adapter if there is one."""
    if config.evaluate.methods:
        return config.evaluate.methods
    return (CONTROL, "zero-shot", *(("adapter",) if trained_adapter(config) else ()))


def evaluate_stages(config: RunConfig) -> list[EvaluateStage]:
    """A stage for each method, with the configuration that it reads. Each has a recipe of its own: one more method costs its own time.

    Raises:
        ConfigError: there is no such method, or two of them have one name.
    """
    texts = {method_of(text).name: text for text in method_names(config)}
    stages = []
    for method in methods_of(method_names(config)):
        resolved = method_config(method, config)
        alone = dataclasses.replace(resolved.evaluate, methods=(texts[method.name],))
        stages.append(EvaluateStage(dataclasses.replace(resolved, evaluate=alone)))
    return stages

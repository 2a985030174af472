"""What the evaluation of one annotated pair leaves behind: the predictions of every method, and the counts of every filter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sc3d.errors import SchemaError
from sc3d.evaluation.filter_quality import FilterCounts
from sc3d.evaluation.pck import PckPair
from sc3d.schema import Record, array, column


@dataclass(frozen=True, eq=False)
class PairScore(Record):
    """One annotated pair. K keypoints are visible in both images, M methods predicted them, F filters judged the candidates."""

    pair_id: str = column("source id ~ target id")
    category: str = column("object category")
    split: str = column("val or test")
    methods: tuple[str, ...] = column("what predicted the keypoints (M)")
    keypoint_ids: np.ndarray = array("int32", -1, doc="ids of the mutually visible keypoints (K)")
    geo_aware: np.ndarray = array("bool", -1, doc="has look-alikes visible in the target (K)")
    distances: np.ndarray = array("float64", -1, doc="prediction to annotation in box sides, method by method (M * K)")
    nearest_own: np.ndarray = array("bool", -1, doc="the keypoint's own annotation is nearest (M * K)")
    filters: tuple[str, ...] = column("filters of candidates (F)")
    descriptors: tuple[str, ...] = column("what each filter's candidates were made with (F)")
    counts: np.ndarray = array("int64", -1, 3, doc="kept candidates, judged keypoints, wrong ones of each filter (F, 3)")

    def validate(self) -> None:
        if len(self.distances) != len(self.methods) * len(self.keypoint_ids) or len(self.nearest_own) != len(self.distances):
            raise SchemaError(f"score of {self.pair_id}: {len(self.distances)} distances do not fit its methods and keypoints")
        if not len(self.counts) == len(self.filters) == len(self.descriptors):
            raise SchemaError(f"score of {self.pair_id}: filters, descriptors and counts of different lengths")

    @classmethod
    def of(
        cls, pair_id: str, category: str, split: str, predictions: Sequence[PckPair], judged: Sequence[FilterCounts]
    ) -> PairScore:
        """Collect the predictions of a pair's keypoints by several methods, and the filters' counts."""
        none = np.zeros(0)
        return cls(
            pair_id=pair_id,
            category=category,
            split=split,
            methods=tuple(p.method for p in predictions),
            keypoint_ids=predictions[0].keypoint_ids if predictions else none,
            geo_aware=predictions[0].geo_aware if predictions else none,
            distances=np.concatenate([p.distances for p in predictions]) if predictions else none,
            nearest_own=np.concatenate([p.nearest_own for p in predictions]) if predictions else none,
            filters=tuple(c.filter for c in judged),
            descriptors=tuple(c.descriptors for c in judged),
            counts=np.array([(c.kept, c.judged, c.wrong) for c in judged]).reshape(-1, 3),
        )

    def predictions(self) -> list[PckPair]:
        """One record a method."""
        shape = (len(self.methods), len(self.keypoint_ids))
        return [
            PckPair(self.pair_id, self.category, method, self.keypoint_ids, distances, own, self.geo_aware)
            for method, distances, own in zip(
                self.methods, self.distances.reshape(shape), self.nearest_own.reshape(shape), strict=True
            )
        ]

    def filter_counts(self) -> list[FilterCounts]:
        """One count a filter."""
        return [
            FilterCounts(name, descriptors, int(kept), int(judged), int(wrong))
            for name, descriptors, (kept, judged, wrong) in zip(self.filters, self.descriptors, self.counts, strict=True)
        ]

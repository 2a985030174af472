"""What the evaluation of one annotated pair leaves behind: the predictions of a method's readouts, and the counts of every filter."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from sc3d.errors import SchemaError
from sc3d.evaluation.filter_quality import FilterCounts
from sc3d.evaluation.pck import PckPair
from sc3d.schema import Record, array, column


@dataclass(frozen=True, eq=False)
class PairScore(Record, name="PairScore"):
    """One annotated pair. K keypoints are visible in both images, M methods (readouts of one) predicted them."""

    SCHEMA_VERSION = 3

    pair_id: str = column("source id ~ target id")
    category: str = column("object category")
    split: str = column("val or test")
    methods: tuple[str, ...] = column("what predicted the keypoints (M)")
    keypoint_ids: np.ndarray = array("int32", -1, doc="ids of the mutually visible keypoints (K)")
    geo_aware: np.ndarray = array("bool", -1, doc="has look-alikes visible in the target (K)")
    distances: np.ndarray = array("float64", -1, doc="prediction to annotation in the protocol's unit, method by method (M * K)")
    nearest_own: np.ndarray = array("bool", -1, doc="the keypoint's own annotation is nearest (M * K)")
    predicted_xy: np.ndarray = array("float32", -1, 2, doc="predictions in pixels of the target (M * K)")
    outside: int = column("keypoints whose annotation lies outside of its image; they are scored from the nearest border cell", 0)
    flipped: bool = column("the mirrored source was closer to the target, so its predictions were taken", False)
    without_prior: bool = column("the method asks for a template's prior and the two photos share no template in sure poses", False)

    def validate(self) -> None:
        wanted = len(self.methods) * len(self.keypoint_ids)
        if not len(self.distances) == len(self.nearest_own) == len(self.predicted_xy) == wanted:
            raise SchemaError(f"score of {self.pair_id}: {len(self.distances)} distances do not fit its methods and keypoints")

    @classmethod
    def of(
        cls,
        pair_id: str,
        category: str,
        split: str,
        predictions: Sequence[PckPair],
        outside: int = 0,
        flipped: bool = False,
        without_prior: bool = False,
    ) -> PairScore:
        """Collect the predictions of a pair's keypoints by several readouts; none of a pair without common keypoints."""
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
            predicted_xy=np.concatenate([_xy(p) for p in predictions]) if predictions else np.zeros((0, 2)),
            outside=outside,
            flipped=flipped,
            without_prior=without_prior,
        )

    def predictions(self) -> list[PckPair]:
        """One record a method."""
        m, k = len(self.methods), len(self.keypoint_ids)
        distances, own, xy = self.distances.reshape(m, k), self.nearest_own.reshape(m, k), self.predicted_xy.reshape(m, k, 2)
        return [
            PckPair(self.pair_id, self.category, method, self.keypoint_ids, distances[i], own[i], self.geo_aware, xy[i])
            for i, method in enumerate(self.methods)
        ]


def _xy(prediction: PckPair) -> np.ndarray:
    return prediction.predicted_xy if prediction.predicted_xy is not None else np.full((len(prediction.distances), 2), np.nan)


@dataclass(frozen=True)
class ScoreCounts:
    """Of one method and split: how many pairs were scored, and what was not.

    ``pairs`` were to be scored; ``rejected`` could not be; ``without_common`` show no keypoint in both images, and have no score;
    ``keypoints`` were scored, of which ``outside`` lie outside of their image; ``flipped`` pairs were predicted from the mirrored source,
    and ``without_prior`` pairs without the template's prior that the method asks for.
    """

    method: str
    pairs: int
    rejected: int
    without_common: int
    keypoints: int
    outside: int
    flipped: int
    without_prior: int


def count_scores(method: str, wanted: int, scores: Iterable[PairScore]) -> ScoreCounts:
    """Count the scores of a method; ``wanted`` pairs were to be scored."""
    found = list(scores)
    return ScoreCounts(
        method=method,
        pairs=wanted,
        rejected=wanted - len(found),
        without_common=sum(len(score.keypoint_ids) == 0 for score in found),
        keypoints=sum(len(score.keypoint_ids) for score in found),
        outside=sum(score.outside for score in found),
        flipped=sum(score.flipped for score in found),
        without_prior=sum(score.without_prior for score in found),
    )


@dataclass(frozen=True, eq=False)
class FilterScore(Record, name="FilterScore"):
    """One annotated pair. F filters judged its candidates."""

    pair_id: str = column("source id ~ target id")
    category: str = column("object category")
    split: str = column("val or test")
    filters: tuple[str, ...] = column("filters of candidates (F)")
    descriptors: tuple[str, ...] = column("what each filter's candidates were made with (F)")
    counts: np.ndarray = array("int64", -1, 3, doc="kept candidates, judged keypoints, wrong ones of each filter (F, 3)")

    def validate(self) -> None:
        if not len(self.counts) == len(self.filters) == len(self.descriptors):
            raise SchemaError(f"filter score of {self.pair_id}: filters, descriptors and counts of different lengths")

    @classmethod
    def of(cls, pair_id: str, category: str, split: str, judged: Sequence[FilterCounts]) -> FilterScore:
        """Collect the filters' counts."""
        return cls(
            pair_id=pair_id,
            category=category,
            split=split,
            filters=tuple(c.filter for c in judged),
            descriptors=tuple(c.descriptors for c in judged),
            counts=np.array([(c.kept, c.judged, c.wrong) for c in judged]).reshape(-1, 3),
        )

    def filter_counts(self) -> list[FilterCounts]:
        """One count a filter."""
        return [
            FilterCounts(name, descriptors, int(kept), int(judged), int(wrong))
            for name, descriptors, (kept, judged, wrong) in zip(self.filters, self.descriptors, self.counts, strict=True)
        ]

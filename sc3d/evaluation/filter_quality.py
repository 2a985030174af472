"""How good a filter of candidate matches is: its false positive rate at annotated keypoints, and how many candidates it keeps.

FPR is the share of wrong matches (at PCK@0.1) among the mutually visible annotated keypoints whose source cell's candidate survives the
filter; kept is the mean number of surviving candidates of a pair (3D-SC, its table of filters).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sc3d.config import LabelConfig
from sc3d.errors import InputError
from sc3d.evaluation.pck import box_size, common_keypoints
from sc3d.grid import Letterbox
from sc3d.matching.described import Described
from sc3d.matching.filters import FILTERS
from sc3d.matching.label import explain_pair
from sc3d.records import ImageRecord

ALPHA = 0.1


@dataclass(frozen=True)
class FilterCounts:
    """What one filter does to one pair: ``kept`` candidates; ``judged`` annotated keypoints whose candidate survives, ``wrong`` of them."""

    filter: str
    descriptors: str
    kept: int
    judged: int
    wrong: int


@dataclass(frozen=True)
class FilterQuality:
    """A filter over many pairs: ``fpr`` in [0, 1] (NaN if nothing was judged), ``kept`` candidates a pair, number of ``pairs``."""

    filter: str
    descriptors: str
    fpr: float
    kept: float
    pairs: int


def filter_quality(
    source: Described,
    target: Described,
    annotations: tuple[ImageRecord, ImageRecord],
    config: LabelConfig,
    descriptors: str,
) -> list[FilterCounts]:
    """Judge all filters on one annotated pair.

    Args:
        annotations: manifest rows of the source and the target, with keypoints and the target's box.
        descriptors: what the candidates were made with, for instance ``SD+DINO`` or ``SD+DINO+3D``.

    Raises:
        InputError: the target has no box.
        FeatureError: the images were described by different recipes.
    """
    explanation = explain_pair(source, target, config)
    rows, correct = judge(explanation, source.letterbox, annotations)
    counts = []
    for name, keeps in FILTERS.items():
        keep = keeps(explanation, config)
        survives = keep[rows]
        counts.append(FilterCounts(name, descriptors, int(keep.sum()), int(survives.sum()), int((survives & ~correct).sum())))
    return counts


class Judgeable(Protocol):
    """N candidates in ascending order of their ``source_cells`` (N,), with ``target_xy`` (N, 2) in target pixels."""

    @property
    def source_cells(self) -> np.ndarray: ...

    @property
    def target_xy(self) -> np.ndarray: ...


def judge(
    candidates: Judgeable, source_letterbox: Letterbox, annotations: tuple[ImageRecord, ImageRecord]
) -> tuple[np.ndarray, np.ndarray]:
    """The candidates at annotated keypoints: their rows (J,) in ``candidates``, and whether each is right at PCK@0.1 (J,).

    A keypoint whose cell is no candidate (background, or an annotation off the mask) is not judged.
    """
    source, target = annotations
    _, source_xy, target_xy = common_keypoints(source, target)
    if target.bbox is None:
        raise InputError(f"{target.image_id}: the quality of filters needs the target's box; add bbox to the manifest")
    if len(candidates.source_cells) == 0 or len(source_xy) == 0:
        return np.zeros(0, np.int64), np.zeros(0, bool)
    cells = source_letterbox.cells_of(source_xy)
    rows = np.minimum(np.searchsorted(candidates.source_cells, cells), len(candidates.source_cells) - 1)
    found = candidates.source_cells[rows] == cells
    distance = np.linalg.norm(candidates.target_xy[rows] - target_xy, axis=1)
    return rows[found], (distance < ALPHA * box_size(target.bbox))[found]


def summarise(counts: Iterable[Sequence[FilterCounts]]) -> list[FilterQuality]:
    """Add up the pairs' counts: one quality a filter and kind of descriptors, in the order of their first appearance."""
    totals: dict[tuple[str, str], list[int]] = {}
    for pair in counts:
        for count in pair:
            total = totals.setdefault((count.filter, count.descriptors), [0, 0, 0, 0])
            for i, value in enumerate((count.kept, count.judged, count.wrong, 1)):
                total[i] += value
    return [
        FilterQuality(name, descriptors, wrong / judged if judged else math.nan, kept / pairs, pairs)
        for (name, descriptors), (kept, judged, wrong, pairs) in totals.items()
    ]

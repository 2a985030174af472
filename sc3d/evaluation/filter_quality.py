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

from sc3d.config import LabelConfig, MatchConfig
from sc3d.errors import InputError
from sc3d.evaluation.pck import box_size, common_keypoints, unit_size
from sc3d.evaluation.protocols import Unit
from sc3d.grid import Letterbox
from sc3d.matching.box_position import copied_cells
from sc3d.matching.described import Described
from sc3d.matching.explain import explain_pair
from sc3d.matching.filters import FILTERS, survivors
from sc3d.matching.fusion import reweighted
from sc3d.records import ImageRecord

ALPHA = 0.1

COPY = "copy the position"
"""In place of a filter's name: a control, which matches each cell with the place of the other object's box where it lies itself."""


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
    unit: Unit = "box",
) -> list[FilterCounts]:
    """Judge all of the project's filters on one annotated pair, and the control :data:`COPY`.

    Args:
        annotations: manifest rows of the source and the target, with keypoints and the target's box.
        descriptors: what the candidates were made with, for instance ``SD+DINO`` or ``SD+DINO+3D``.
        unit: what PCK's 0.1 is a share of.

    Raises:
        InputError: the target lacks what the unit is made of.
        FeatureError: the images were described by different recipes.
    """
    explanation = explain_pair(source, target, config)
    size = unit_of_pair(unit, annotations, target.letterbox)
    rows, correct = judge(explanation, source.letterbox, annotations, size)
    copied = _copied(source, target)
    copied_rows, copied_correct = judge(copied, source.letterbox, annotations, size)
    counts = [FilterCounts(COPY, descriptors, len(copied.source_cells), len(copied_rows), int((~copied_correct).sum()))]
    for name in FILTERS:
        keep = survivors(name, explanation, config)
        survives = keep[rows]
        counts.append(FilterCounts(name, descriptors, int(keep.sum()), int(survives.sum()), int((survives & ~correct).sum())))
    return counts


def _copied(source: Described, target: Described) -> Copied:
    """The cells of the source, each with the place of the target that lies alike in the object's box."""
    cells = copied_cells(source.cells, target.cells, target.letterbox.side)
    return Copied(source.cells[: len(cells)], target.letterbox.centres(cells))


def unit_of_pair(unit: Unit, annotations: tuple[ImageRecord, ImageRecord], target_letterbox: Letterbox) -> float | None:
    """The ``size`` of :func:`judge`; ``None`` for the target's box, and for a pair without common keypoints, which nothing is judged at.

    Raises:
        InputError: the target lacks what the unit is made of.
    """
    target_xy = common_keypoints(*annotations)[2]
    return None if unit == "box" or len(target_xy) == 0 else unit_size(unit, annotations[1], target_xy, target_letterbox)


class Judgeable(Protocol):
    """N candidates in ascending order of their ``source_cells`` (N,), with ``target_xy`` (N, 2) in target pixels."""

    @property
    def source_cells(self) -> np.ndarray: ...

    @property
    def target_xy(self) -> np.ndarray: ...


@dataclass(frozen=True)
class Copied:
    """What :data:`COPY` matches, as :class:`Judgeable`."""

    source_cells: np.ndarray
    target_xy: np.ndarray


def judge(
    candidates: Judgeable, source_letterbox: Letterbox, annotations: tuple[ImageRecord, ImageRecord], size: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The candidates at annotated keypoints: their rows (J,) in ``candidates``, and whether each is right at PCK@0.1 (J,).

    ``size``: what 0.1 is a share of, in target pixels; by default the longer side of the target's box.

    A keypoint whose cell is no candidate (background, or an annotation off the mask) is not judged.
    """
    source, target = annotations
    _, source_xy, target_xy = common_keypoints(source, target)
    if len(candidates.source_cells) == 0 or len(source_xy) == 0:
        return np.zeros(0, np.int64), np.zeros(0, bool)
    if size is None:
        if target.bbox is None:
            raise InputError(f"{target.image_id}: the quality of filters needs the target's box; add bbox to the manifest")
        size = box_size(target.bbox)
    cells = source_letterbox.cells_of(source_xy)
    rows = np.minimum(np.searchsorted(candidates.source_cells, cells), len(candidates.source_cells) - 1)
    found = candidates.source_cells[rows] == cells
    distance = np.linalg.norm(candidates.target_xy[rows] - target_xy, axis=1)
    return rows[found], (distance < ALPHA * size)[found]


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


def without_3d(match: MatchConfig) -> MatchConfig:
    """The same fusion of the 2D features alone."""
    total = match.alpha + match.beta
    return reweighted(match, match.alpha / total, match.beta / total)

"""Predicted keypoints beside the annotated ones: which pairs went worst, and a figure of each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from sc3d.evaluation.pck import PckPair, common_keypoints
from sc3d.pair_ids import split_pair_id
from sc3d.records import ImageRecord
from sc3d.report.colours import hex_of, position_colours
from sc3d.report.pairs import Side, View, place_sides

ALPHA = 0.10
_WIDTH, _MAX_HEIGHT, _PIXELS = 640.0, 300.0, 440
_MOST = 40


@dataclass(frozen=True)
class KeypointMark:
    """A keypoint in figure units: on the source, as annotated and as predicted on the target. ``right``: within the threshold."""

    keypoint: int
    colour: str
    source: tuple[float, float]
    truth: tuple[float, float]
    predicted: tuple[float, float]
    distance: float
    right: bool


@dataclass(frozen=True)
class KeypointFigure:
    """A pair with its keypoints; ``right`` of ``total`` were found. ``marks`` are at most 40 of them."""

    pair_id: str
    source_id: str
    target_id: str
    category: str
    right: int
    total: int
    height: float
    source: Side
    target: Side
    marks: tuple[KeypointMark, ...]


def worst_pairs(predictions: Iterable[PckPair], most: int, each: int) -> list[PckPair]:
    """The pairs with the smallest share of points found at PCK@0.10, the farthest off first among equals; at most ``each`` a category.

    Of a pair and its reverse, which mostly fail together, the worse one.
    """

    def badness(pair: PckPair) -> tuple[float, float, str]:
        return float((pair.distances < ALPHA).mean()), -float(pair.distances.mean()), pair.pair_id

    counts: dict[str, int] = {}
    shown: list[set[str]] = []
    chosen: list[PckPair] = []
    for pair in sorted((p for p in predictions if len(p.distances)), key=badness):
        images = set(split_pair_id(pair.pair_id))
        if images not in shown and counts.get(pair.category, 0) < each and len(chosen) < most:
            shown.append(images)
            counts[pair.category] = counts.get(pair.category, 0) + 1
            chosen.append(pair)
    return chosen


def keypoint_figure(prediction: PckPair, annotations: tuple[ImageRecord, ImageRecord], views: tuple[View, View]) -> KeypointFigure:
    """The figure of one pair.

    Args:
        prediction: of one readout, with its points.
        annotations: manifest rows of the source and the target.
        views: both photos, whole: a wrong prediction may be anywhere.
    """
    ids, source_xy, target_xy = common_keypoints(*annotations)
    order = np.searchsorted(ids, prediction.keypoint_ids)
    source_xy, target_xy = source_xy[order], target_xy[order]
    source, target = place_sides(views, _WIDTH, _MAX_HEIGHT, _PIXELS)
    predicted = prediction.predicted_xy if prediction.predicted_xy is not None else np.full_like(target_xy, np.nan)
    places = [np.round(side.place(xy), 1) for side, xy in ((source, source_xy), (target, target_xy), (target, predicted))]
    colours = position_colours(source_xy)
    right = prediction.distances < ALPHA
    marks = tuple(
        KeypointMark(
            keypoint=int(prediction.keypoint_ids[i]),
            colour=hex_of(colours[i]),
            source=_point(places[0], i),
            truth=_point(places[1], i),
            predicted=_point(places[2], i),
            distance=float(prediction.distances[i]),
            right=bool(right[i]),
        )
        for i in range(min(len(ids), _MOST))
        if np.isfinite(predicted[i]).all()
    )
    return KeypointFigure(
        pair_id=prediction.pair_id,
        source_id=annotations[0].image_id,
        target_id=annotations[1].image_id,
        category=prediction.category,
        right=int(right.sum()),
        total=len(right),
        height=max(source.height, target.height),
        source=source,
        target=target,
        marks=marks,
    )


def _point(xy: np.ndarray, row: int) -> tuple[float, float]:
    return float(xy[row, 0]), float(xy[row, 1])

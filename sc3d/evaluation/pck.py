"""Percentage of correct keypoints (PCK), by the SPair-71k protocol of GeoAware-SC (which DIY-SC shares).

A keypoint's descriptor is the one of its cell; its prediction is read from its similarities to all cells of the target, background
included, in the square frame of the letterbox. It is correct at ``alpha`` if its distance to the annotation is (strictly) less than
``alpha`` times the longer side of the target's box, or another unit where the data set's protocol has one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from sc3d.config import EvaluateConfig
from sc3d.errors import InputError
from sc3d.evaluation.protocols import Unit
from sc3d.evaluation.readout import CellDescriptors, cell_to_square, nearest_cells, window_soft_argmax
from sc3d.grid import Letterbox
from sc3d.pair_ids import pair_id_of
from sc3d.records import ImageRecord
from sc3d.schema import Record, array, column

PER_IMAGE, PER_KEYPOINT = "image", "keypoint"
ALL, GEO_AWARE = "all", "geo-aware"
NEAREST, WINDOW = "nearest", "window soft-argmax"
READOUTS = (NEAREST, WINDOW)


@dataclass(frozen=True, eq=False)
class PckPair(Record, name="PckPair"):
    """The predictions of one pair's mutually visible keypoints by one method. All list columns have one length K >= 1."""

    pair_id: str = column("source id ~ target id")
    category: str = column("object category")
    method: str = column("what predicted, and how the prediction was read from the similarities")
    keypoint_ids: np.ndarray = array("int32", -1, doc="ids of the mutually visible keypoints")
    distances: np.ndarray = array(
        "float64", -1, doc="prediction to annotation, in the protocol's unit (longer sides of the target's box)"
    )
    nearest_own: np.ndarray = array("bool", -1, doc="of the pair's annotations in the target, the keypoint's own is nearest")
    geo_aware: np.ndarray = array("bool", -1, doc="its group of look-alikes has at least two points visible in the target")
    predicted_xy: np.ndarray | None = array("float32", -1, 2, doc="predictions in pixels of the target", optional=True)


def box_size(bbox: np.ndarray) -> float:
    """Longer side of a box x1, y1, x2, y2, in its pixels.

    Raises:
        InputError: the box is empty.
    """
    size = float(max(bbox[2] - bbox[0], bbox[3] - bbox[1]))
    if not size > 0:
        raise InputError(f"the box {np.asarray(bbox).tolist()} is empty; expected x1, y1, x2, y2")
    return size


def unit_size(unit: Unit, target: ImageRecord, target_xy: np.ndarray, letterbox: Letterbox) -> float:
    """What alpha is a share of, in pixels of the target image.

    Args:
        target_xy: (K, 2) the pair's common keypoints in the target.

    Raises:
        InputError: the target has no box, or there are too few keypoints to make one.
    """
    if unit == "image":
        return float(max(letterbox.size))
    if unit == "keypoints":
        if len(target_xy) < 2:
            raise InputError(f"{target.image_id}: {len(target_xy)} keypoints have no box, which is the unit of PCK here")
        return box_size(np.concatenate([target_xy.min(axis=0), target_xy.max(axis=0)]))
    if target.bbox is None:
        raise InputError(f"{target.image_id}: PCK needs the target's box; add bbox to the manifest")
    return box_size(target.bbox)


def common_keypoints(source: ImageRecord, target: ImageRecord) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids (K,) ascending of the keypoints visible in both images, and their pixels in each, both (K, 2)."""
    if source.keypoint_ids is None or source.keypoint_xy is None or target.keypoint_ids is None or target.keypoint_xy is None:
        return np.zeros(0, np.int32), np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32)
    ids, mine, theirs = np.intersect1d(source.keypoint_ids, target.keypoint_ids, return_indices=True)
    return ids, source.keypoint_xy[mine], target.keypoint_xy[theirs]


def outside_image(xy: np.ndarray, letterbox: Letterbox) -> np.ndarray:
    """Which points (K, 2) lie outside their image: (K,) bool. They are scored all the same, from the nearest border cell."""
    return np.asarray((xy < 0).any(axis=1) | (xy > letterbox.size).any(axis=1))


def geo_aware(keypoint_ids: np.ndarray, target_ids: np.ndarray, groups: Iterable[Sequence[int]]) -> np.ndarray:
    """Which of ``keypoint_ids`` (K,) belong to a group of look-alikes with at least two points among ``target_ids``: (K,) bool.

    ``groups`` hold raw keypoint ids. (The per-keypoint score of GeoAware-SC renumbers them for a few categories, which is wrong.)
    """
    visible = set(np.asarray(target_ids).tolist())
    chosen = {i for group in groups if len(visible.intersection(group)) >= 2 for i in group}
    return np.isin(keypoint_ids, list(chosen))


def read_cells(similarity: np.ndarray, side: int, config: EvaluateConfig) -> dict[str, np.ndarray]:
    """The fractional (column, row) cells (K, 2) that each readout finds in a similarity (K, side * side)."""
    zero = config.masking == "zero"
    return {
        NEAREST: nearest_cells(similarity, side),
        WINDOW: window_soft_argmax(similarity, side, config.window, config.temperature, zero),
    }


def score_pair(
    source: ImageRecord,
    target: ImageRecord,
    descriptors: tuple[CellDescriptors, CellDescriptors],
    config: EvaluateConfig,
    groups: Iterable[Sequence[int]] = (),
    method: str = "",
    unit: Unit = "box",
) -> tuple[PckPair, ...]:
    """Predict a pair's common keypoints by nearest neighbour and by window soft-argmax, and measure the distances.

    Args:
        descriptors: of the source and of the target.
        groups: look-alike keypoints of the category (raw ids), for the geo-aware subset.
        method: what the descriptors are, the first word of the records' ``method``.
        unit: of the distances.

    Returns:
        Two records, or none if the pair has no common keypoint: such pairs are left out, and to be counted by the caller.

    Raises:
        InputError: the target lacks what the unit is made of.
        FeatureError: the two images were described differently.
    """
    ids, source_xy, _ = common_keypoints(source, target)
    if len(ids) == 0:
        return ()
    boxes = (descriptors[0].letterbox, descriptors[1].letterbox)
    similarity = descriptors[0].similarity(boxes[0].cells_of(source_xy), descriptors[1])
    return score_cells(source, target, read_cells(similarity, boxes[1].side, config), boxes[1], groups, method, unit)


def score_cells(
    source: ImageRecord,
    target: ImageRecord,
    readouts: dict[str, np.ndarray],
    letterbox: Letterbox,
    groups: Iterable[Sequence[int]] = (),
    method: str = "",
    unit: Unit = "box",
) -> tuple[PckPair, ...]:
    """Measure predictions: a record for each of ``readouts``, which hold the cells (K, 2) of the common keypoints in the target's grid
    ``letterbox``. For the others see :func:`score_pair`."""
    ids, _, target_xy = common_keypoints(source, target)
    size = unit_size(unit, target, target_xy, letterbox) * letterbox.scale
    truth = letterbox.to_square(target_xy)
    annotations = cKDTree(truth)
    member = geo_aware(ids, target.keypoint_ids if target.keypoint_ids is not None else ids, groups)
    records = []
    for readout, cells in readouts.items():
        predicted = cell_to_square(cells, letterbox)
        own = np.linalg.norm(predicted - truth, axis=1)
        nearest, _ = annotations.query(predicted)
        records.append(
            PckPair(
                pair_id=pair_id_of(source.image_id, target.image_id),
                category=source.category,
                method=f"{method} {readout}".strip(),
                keypoint_ids=ids,
                distances=own / size,
                # Two annotations at one place are equally near, but for the last bit of what measured them.
                nearest_own=own <= nearest * (1 + 1e-9),
                geo_aware=member,
                predicted_xy=letterbox.to_image(predicted),
            )
        )
    return tuple(records)


def pck(
    pairs: Iterable[PckPair], alpha: float, average: str = PER_IMAGE, subset: str = ALL, own: bool = False
) -> tuple[float, int]:
    """PCK in [0, 1] at ``alpha``, and the number of pairs that count.

    Args:
        average: ``image``: the mean over pairs of the share of correct points; ``keypoint``: the share of correct points of all.
        subset: ``all``, or ``geo-aware``: look-alike keypoints only; pairs without any are left out.
        own: also ask that the prediction is nearer to its own annotation than to any other of the pair's (PCK-dagger of SPair-U).

    Returns:
        ``(nan, 0)`` if no pair counts.
    """
    if average not in (PER_IMAGE, PER_KEYPOINT) or subset not in (ALL, GEO_AWARE):
        raise ValueError(f"unknown average '{average}' or subset '{subset}'")
    correct, total = [], []
    for pair in pairs:
        member = pair.geo_aware if subset == GEO_AWARE else np.ones(len(pair.distances), bool)
        right = pair.distances < alpha
        if own:
            right = right & pair.nearest_own
        if member.any():
            correct.append(int((right & member).sum()))
            total.append(int(member.sum()))
    if not total:
        return math.nan, 0
    if average == PER_IMAGE:
        return float(np.mean(np.array(correct) / np.array(total))), len(total)
    return sum(correct) / sum(total), len(total)

"""Percentage of correct keypoints (PCK), by the SPair-71k protocol of GeoAware-SC (which DIY-SC shares).

A keypoint's descriptor is the one of its cell; its prediction is read from its similarities to all cells of the target, background
included, in the square frame of the letterbox. It is correct at ``alpha`` if its distance to the annotation is (strictly) less than
``alpha`` times the longer side of the target's box.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from sc3d.config import EvaluateConfig
from sc3d.errors import FeatureError, InputError
from sc3d.grid import Letterbox
from sc3d.records import ImageRecord, pair_id_of
from sc3d.schema import Record, array, column

PER_IMAGE, PER_KEYPOINT = "image", "keypoint"
ALL, GEO_AWARE = "all", "geo-aware"


@dataclass(frozen=True, eq=False)
class PckPair(Record):
    """The predictions of one pair's mutually visible keypoints by one method. All list columns have one length K >= 1."""

    pair_id: str = column("source id ~ target id")
    category: str = column("object category")
    method: str = column("what predicted, and how the prediction was read from the similarities")
    keypoint_ids: np.ndarray = array("int32", -1, doc="ids of the mutually visible keypoints")
    distances: np.ndarray = array("float64", -1, doc="prediction to annotation, in longer sides of the target's box")
    nearest_own: np.ndarray = array("bool", -1, doc="of the pair's annotations in the target, the keypoint's own is nearest")
    geo_aware: np.ndarray = array("bool", -1, doc="its group of look-alikes has at least two points visible in the target")


def keypoint_similarity(
    source_map: np.ndarray, target_map: np.ndarray, source_xy: np.ndarray, source_letterbox: Letterbox
) -> np.ndarray:
    """Cosines (K, side * side) float32 of each keypoint's cell with all cells of the target.

    Only the rows of the keypoints are multiplied, and the target is normalised by scaling its columns of the product.

    Args:
        source_map, target_map: (C, side, side).
        source_xy: (K, 2) pixels of the source image.

    Raises:
        FeatureError: the maps do not fit each other or the grid.
    """
    side = source_letterbox.side
    if source_map.shape != target_map.shape or source_map.shape[1:] != (side, side):
        raise FeatureError(f"maps of shape {source_map.shape} and {target_map.shape} on a grid of side {side}")
    cells = source_letterbox.cells_of(source_xy)
    queries = source_map.reshape(len(source_map), -1)[:, cells].T.astype(np.float32)
    target = np.ascontiguousarray(target_map.reshape(len(target_map), -1), np.float32)
    # The tiny terms are the protocol's: a descriptor of zeros has similarity 0 to everything.
    queries /= np.linalg.norm(queries, axis=1, keepdims=True) + 1e-10
    return (queries @ target) / (np.sqrt(np.einsum("cn,cn->n", target, target)) + 1e-10)


def nearest_cells(similarity: np.ndarray, side: int) -> np.ndarray:
    """The best cell of each row of a similarity (K, side * side) as (column, row): (K, 2) float64."""
    best = similarity.argmax(axis=1)
    return np.stack([best % side, best // side], axis=1).astype(np.float64)


def window_soft_argmax(
    similarity: np.ndarray, side: int, window: int = 7, temperature: float = 0.02, zero_masking: bool = True
) -> np.ndarray:
    """Expected cell of each row of a similarity (K, side * side) as fractional (column, row): (K, 2) float64.

    The softmax runs over the whole map; similarities farther than ``window`` cells from the best one in either axis are first multiplied by
    0, as the protocol has it, or excluded if not ``zero_masking``. The window is clipped at the map's border; 0 means no window.
    """
    best = similarity.argmax(axis=1)
    axis = np.arange(side)
    values = similarity.astype(np.float64).reshape(-1, side, side)
    if window > 0:
        rows = np.abs(axis - (best // side)[:, None]) <= window
        columns = np.abs(axis - (best % side)[:, None]) <= window
        inside = rows[:, :, None] & columns[:, None, :]
        values = np.where(inside, values, 0.0 if zero_masking else -np.inf)
    weights = np.exp((values - values.max(axis=(1, 2), keepdims=True)) / temperature)
    weights /= weights.sum(axis=(1, 2), keepdims=True)
    return np.stack([weights.sum(axis=1) @ axis, weights.sum(axis=2) @ axis], axis=1)


def cell_to_square(cells: np.ndarray, letterbox: Letterbox) -> np.ndarray:
    """Fractional (column, row) cells (K, 2) -> pixels of the square frame (K, 2): cell size times the index, plus half a cell."""
    return cells * letterbox.cell_size + letterbox.cell_size / 2


def transfer_keypoints(
    source_map: np.ndarray,
    target_map: np.ndarray,
    source_xy: np.ndarray,
    letterboxes: tuple[Letterbox, Letterbox],
    window: int | None = 7,
    temperature: float = 0.02,
    zero_masking: bool = True,
) -> np.ndarray:
    """Predict where keypoints of the source are in the target: (K, 2) float64 in pixels of the target's square frame.

    Args:
        source_map, target_map: (C, side, side) descriptors.
        source_xy: (K, 2) pixels of the source image.
        letterboxes: of the source and of the target.
        window: half window of the soft-argmax in cells, 0 for the whole map; ``None`` takes the nearest cell.
        temperature, zero_masking: as in :func:`window_soft_argmax`.

    Raises:
        FeatureError: the maps do not fit each other or the grid.
    """
    similarity = keypoint_similarity(source_map, target_map, source_xy, letterboxes[0])
    side = letterboxes[1].side
    if window is None:
        return cell_to_square(nearest_cells(similarity, side), letterboxes[1])
    return cell_to_square(window_soft_argmax(similarity, side, window, temperature, zero_masking), letterboxes[1])


def box_size(bbox: np.ndarray) -> float:
    """Longer side of a box x1, y1, x2, y2, in its pixels.

    Raises:
        InputError: the box is empty.
    """
    size = float(max(bbox[2] - bbox[0], bbox[3] - bbox[1]))
    if not size > 0:
        raise InputError(f"the box {np.asarray(bbox).tolist()} is empty; expected x1, y1, x2, y2")
    return size


def common_keypoints(source: ImageRecord, target: ImageRecord) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids (K,) ascending of the keypoints visible in both images, and their pixels in each, both (K, 2)."""
    if source.keypoint_ids is None or source.keypoint_xy is None or target.keypoint_ids is None or target.keypoint_xy is None:
        return np.zeros(0, np.int32), np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32)
    ids, mine, theirs = np.intersect1d(source.keypoint_ids, target.keypoint_ids, return_indices=True)
    return ids, source.keypoint_xy[mine], target.keypoint_xy[theirs]


def geo_aware(keypoint_ids: np.ndarray, target_ids: np.ndarray, groups: Iterable[Sequence[int]]) -> np.ndarray:
    """Which of ``keypoint_ids`` (K,) belong to a group of look-alikes with at least two points among ``target_ids``: (K,) bool.

    ``groups`` hold raw keypoint ids. (The per-keypoint score of GeoAware-SC renumbers them for a few categories, which is wrong.)
    """
    visible = set(np.asarray(target_ids).tolist())
    chosen = {i for group in groups if len(visible.intersection(group)) >= 2 for i in group}
    return np.isin(keypoint_ids, list(chosen))


def score_pair(
    source: ImageRecord,
    target: ImageRecord,
    source_map: np.ndarray,
    target_map: np.ndarray,
    letterboxes: tuple[Letterbox, Letterbox],
    config: EvaluateConfig,
    groups: Iterable[Sequence[int]] = (),
    descriptors: str = "",
) -> tuple[PckPair, ...]:
    """Predict a pair's common keypoints by nearest neighbour and by window soft-argmax, and measure the distances.

    Args:
        groups: look-alike keypoints of the category (raw ids), for the geo-aware subset.
        descriptors: what the maps are, the first word of the records' ``method``.

    Returns:
        Two records, or none if the pair has no common keypoint: such pairs are left out, and to be counted by the caller.

    Raises:
        InputError: the target has no box.
        FeatureError: the maps do not fit each other or the grid.
    """
    ids, source_xy, target_xy = common_keypoints(source, target)
    if len(ids) == 0:
        return ()
    if target.bbox is None or target.keypoint_ids is None:
        raise InputError(f"{target.image_id}: PCK needs the target's box; add bbox to the manifest")
    source_box, target_box = letterboxes
    similarity = keypoint_similarity(source_map, target_map, source_xy, source_box)
    readouts = {
        "nearest": nearest_cells(similarity, target_box.side),
        "window soft-argmax": window_soft_argmax(similarity, target_box.side, config.window, config.temperature),
    }
    truth = target_box.to_square(target_xy)
    size = box_size(target.bbox) * target_box.scale
    records = []
    for readout, cells in readouts.items():
        to_truth = np.linalg.norm(cell_to_square(cells, target_box)[:, None] - truth[None], axis=2)
        records.append(
            PckPair(
                pair_id=pair_id_of(source.image_id, target.image_id),
                category=source.category,
                method=f"{descriptors} {readout}".strip(),
                keypoint_ids=ids,
                distances=np.diagonal(to_truth) / size,
                nearest_own=to_truth.argmin(axis=1) == np.arange(len(ids)),
                geo_aware=geo_aware(ids, target.keypoint_ids, groups),
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

"""Adaptive flip: where the mirrored source is closer to the target, keypoints are predicted from it (GeoAware-SC, zero-shot only).

Mirroring turns a left wheel into a right one; so the keypoint ``k`` is looked for with the mirrored place of its counterpart, which the
source has to show too. How close two images are is a mean distance of unit descriptors. GeoAware-SC measures on maps resized to 64 x 64;
here it is the working grid.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np

from sc3d.evaluation.readout import CellDescriptors

Distance = Literal["mutual", "mask"]


def mirrored_pixels(xy: np.ndarray, width: int) -> np.ndarray:
    """Pixels (K, 2) of an image in its mirror image."""
    return np.asarray(xy, np.float64) * [-1.0, 1.0] + [float(width), 0.0]


def counterparts(keypoint_ids: np.ndarray, visible_ids: np.ndarray, mirrored: Iterable[Sequence[int]]) -> np.ndarray:
    """Row (K,) in ``visible_ids`` (V,) of the keypoint that each of ``keypoint_ids`` (K,) becomes in a mirror; -1 if it is not visible."""
    swap = {int(a): int(b) for pair in mirrored for a, b in (pair, pair[::-1])}
    row = {int(i): n for n, i in enumerate(visible_ids)}
    return np.array([row.get(swap.get(int(i), int(i)), -1) for i in keypoint_ids], np.int64)


def descriptor_distance(
    source: CellDescriptors,
    target: CellDescriptors,
    kind: Distance,
    masks: tuple[np.ndarray, np.ndarray],
) -> float:
    """How far two images are apart: the mean L2 distance of unit descriptors.

    Args:
        kind: ``mask``: of each foreground cell of the source to its nearest one of the target's; ``mutual``: over the cells that are each
            other's nearest, background included.
        masks: foreground (side, side) of the source and the target.

    Returns:
        ``inf`` if a mask is empty.
    """
    if kind == "mask":
        mine, theirs = (np.flatnonzero(mask.reshape(-1)) for mask in masks)
        if not len(mine) or not len(theirs):
            return float("inf")
        best = source.similarity(mine, target)[:, theirs].max(axis=1)
        return float(_distance(best).mean())
    cosines = source.similarity(np.arange(source.letterbox.side**2), target)
    forward, backward = cosines.argmax(axis=1), cosines.argmax(axis=0)
    cells = np.arange(len(forward))
    mutual = backward[forward] == cells
    return float(_distance(cosines[cells, forward][mutual]).mean())


def _distance(cosines: np.ndarray) -> np.ndarray:
    return np.asarray(np.sqrt(np.maximum(2 - 2 * cosines.astype(np.float64), 0.0)))

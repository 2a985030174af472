"""Where cells lie in the box around their object: the control that every descriptor and every filter has to beat, since it sees nothing."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

_BEYOND = 0.5


def box_positions(cells: np.ndarray, of: np.ndarray, side: int) -> np.ndarray:
    """Positions (N, 2), x first, of flat ``cells`` (N,) in the box around the cells ``of`` (M,): 0 to 1 from edge to edge.

    M may be 0 where N is.
    """
    if len(cells) == 0:
        return np.zeros((0, 2))
    xy, object_xy = (np.stack([flat % side, flat // side], axis=1) for flat in (cells, of))
    low, high = object_xy.min(axis=0), object_xy.max(axis=0)
    return np.asarray((xy - low + 0.5) / (high - low + 1))


def copied_cells(source: np.ndarray, target: np.ndarray, side: int) -> np.ndarray:
    """The cell of ``target`` (M,) that is nearest to the place of each of ``source`` (N,) in its own box: (N,); none without a target."""
    if len(target) == 0:
        return target
    _, rows = cKDTree(box_positions(target, target, side)).query(box_positions(source, source, side))
    return np.asarray(target[rows])


def position_descriptors(foreground: np.ndarray) -> np.ndarray:
    """Unit descriptors (4, side, side) float32 of a map's cells whose nearest neighbours have the same place in the object's box.

    Each coordinate is an angle, a quarter turn from edge to edge, so that the cosine of two cells falls with their distance. From half
    a box outside of the box on, all places are the same. Zeros without an object.

    Args:
        foreground: the object's cells (side, side) bool.
    """
    side = len(foreground)
    if not foreground.any():
        return np.zeros((4, side, side), np.float32)
    positions = box_positions(np.arange(side * side), np.flatnonzero(foreground), side)
    angles = np.pi / 2 * np.clip(positions, -_BEYOND, 1 + _BEYOND)
    values = np.concatenate([np.cos(angles), np.sin(angles)], axis=1) / np.sqrt(2)
    return np.asarray(values.T.reshape(4, side, side), np.float32)

"""Landmarks that nobody annotated: points of a reference mesh, found on every mesh that is registered to it. Ours; neither paper has it.

They stand where annotated keypoints would: the same class shapes are built on them, without supervision.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

COUNT = 20
"""Landmarks of a category."""
NEAR = 0.05
"""A mesh has a landmark if one of its vertices lies so near to it, in diagonals of the reference."""


def choose_landmarks(points: np.ndarray, count: int = COUNT) -> np.ndarray:
    """Positions (K, 3) of landmarks that lie far apart on a reference whose vertices are ``points`` (V, 3), in diagonals.

    The reference is in the canonical frame (y up, front +z) and centred. A landmark off the middle brings its mirror image with it, as far
    as the reference has a vertex there, so that a class shape knows which of them a mirror exchanges. The next one is the vertex that is
    farthest from all of them, mirror images included: two that nearly meet say nothing, and make the statistics of all others too sure.
    """
    tree = cKDTree(points)
    chosen: list[int] = []
    clear = np.linalg.norm(points - points.mean(axis=0), axis=1)
    while len(chosen) < count and clear.max(initial=0) > 0:
        vertex = int(clear.argmax())
        away, other = tree.query(points[vertex] * [-1, 1, 1])
        twin = [int(other)] if away < NEAR and abs(points[vertex, 0]) > NEAR else []
        for one in (vertex, *twin)[: count - len(chosen)]:
            chosen.append(one)
            own = np.linalg.norm(points - points[one], axis=1)
            clear = own if len(chosen) == 1 else np.minimum(clear, own)
    return np.asarray(points[chosen], np.float64)


def mirror_pairs(landmarks: np.ndarray) -> dict[int, int]:
    """Which landmarks (K, 3) a mirror left to right exchanges: number -> number, of those that are each other's mirror image."""
    away, other = cKDTree(landmarks).query(landmarks * [-1, 1, 1])
    numbers = np.arange(len(landmarks))
    paired = (away < NEAR) & (other != numbers) & (other[other] == numbers)
    return {int(one): int(other[one]) for one in numbers[paired]}


def landmark_vertices(landmarks: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The landmarks that a registered mesh has.

    Args:
        landmarks: (K, 3).
        places: (V, 3) where the registration puts the mesh's vertices, in diagonals of the reference.

    Returns:
        Numbers (n,) of the landmarks, and the vertex (n,) of each.
    """
    away, vertex = cKDTree(places).query(landmarks)
    kept = np.flatnonzero(away < NEAR)
    return kept, np.asarray(vertex[kept], np.int64)

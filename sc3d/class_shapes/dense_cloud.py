"""Points between the keypoints that follow them linearly: X = M C, with the rows of M (N, K) summing to 1.

A pixel of an annotated image, lifted with its depth, has barycentric coordinates in every tetrahedron of visible keypoints. Where it lies
inside (or nearly), the same coordinates of the canonical keypoints say where it is in the class; the tetrahedra's answers are averaged with
the inverse distance to their centroids. Exact; that this is one matrix, that points outside every tetrahedron are left out instead of
falling on the origin, and that flat tetrahedra do not count, is ours.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.cluster.vq import kmeans2
from scipy.spatial import cKDTree

OUTSIDE = 0.1
"""How far below 0 a barycentric coordinate may be."""
_TETRAHEDRA = 1500
_FLAT = 1e-3
"""Least volume of a tetrahedron, in cubes of its longest edge."""
_BLOCK = 256
_LEAST_SHARE = 5e-4
"""Of all points, of a cluster that is kept."""


def barycentric_rows(points: np.ndarray, keypoints: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """How points follow the keypoints of their image.

    Args:
        points: (P, 3) lifted pixels.
        keypoints: (K, 3) lifted keypoints in the same frame; NaN where the image does not show one.
        seed: which tetrahedra are taken, where there are more than 1,500.

    Returns:
        Rows (n, K) float32 that sum to 1, and which points (n,) of the P they are: those inside a tetrahedron.
    """
    visible = np.flatnonzero(np.isfinite(keypoints).all(axis=1))
    fours = np.array(list(combinations(visible.tolist(), 4)), np.int64).reshape(-1, 4)
    corners = keypoints[fours]
    edges = corners[:, 1:] - corners[:, :1]
    span = np.linalg.norm(edges, axis=2).max(axis=1, initial=0)
    solid = np.abs(np.linalg.det(edges)) > 6 * _FLAT * span**3
    chosen = np.sort(np.random.default_rng(seed).permutation(np.flatnonzero(solid))[:_TETRAHEDRA])
    if not len(chosen) or not len(points):
        return np.zeros((0, len(keypoints)), np.float32), np.zeros(0, np.int64)
    fours, origin, inverse = fours[chosen], corners[chosen, 0], np.linalg.inv(edges[chosen])
    centroid = corners[chosen].mean(axis=1)
    # A tetrahedron's column of weights, spread over the keypoints it is made of.
    spread = np.zeros((4, len(chosen), len(keypoints)), np.float32)
    for corner in range(4):
        spread[corner, np.arange(len(chosen)), fours[:, corner]] = 1
    rows, kept = [], []
    for at in range(0, len(points), _BLOCK):
        block = points[at : at + _BLOCK]
        rest = np.einsum("pti,tij->ptj", block[:, None] - origin, inverse).astype(np.float32)
        b = np.concatenate([1 - rest.sum(axis=2, keepdims=True), rest], axis=2)
        weight = (b >= -OUTSIDE).all(axis=2) / np.maximum(np.linalg.norm(block[:, None] - centroid, axis=2), 1e-9)
        inside = np.flatnonzero(weight.any(axis=1))
        weight = (weight[inside] / weight[inside].sum(axis=1, keepdims=True)).astype(np.float32)
        rows.append(np.sum([(weight * b[inside, :, corner]) @ spread[corner] for corner in range(4)], axis=0))
        kept.append(at + inside)
    return np.concatenate(rows), np.concatenate(kept)


@dataclass(frozen=True, eq=False)
class DenseCloud:
    """N points of a class: ``matrix`` (N, K) float32 with rows that sum to 1, and ``near`` (N, m) int64: of all merged points, the nearest
    ones of each, whose features make its prototype. The last points are the placed keypoints themselves."""

    matrix: np.ndarray
    near: np.ndarray


def merge_rows(rows: np.ndarray, keypoints: np.ndarray, count: int, neighbours: int, seed: int = 0) -> DenseCloud:
    """Cluster the rows of all images into a cloud.

    Args:
        rows: (R, K) of :func:`barycentric_rows`, of all images together.
        keypoints: (K, 3) canonical; NaN where a keypoint has no place.
        count: most clusters.
        neighbours: merged points that make a prototype.

    Clusters of less than 0.05 % of the points are left out; the keypoints are appended.
    """
    placed = np.flatnonzero(np.isfinite(keypoints).all(axis=1))
    anchors = np.eye(len(keypoints), dtype=np.float32)[placed]
    filled = np.nan_to_num(keypoints)
    positions = rows.astype(np.float64) @ filled
    matrix = np.zeros((0, len(keypoints)), np.float32)
    if len(rows):
        start = positions[np.random.default_rng(seed).permutation(len(rows))[: min(count, len(rows))]]
        with warnings.catch_warnings():
            # An empty cluster keeps its last centre; it has no members and is left out below.
            warnings.filterwarnings("ignore", "One of the clusters is empty")
            _, member = kmeans2(positions, start, iter=10, minit="matrix", missing="warn")
        size = np.bincount(member, minlength=len(start))
        sums = np.zeros((len(start), len(keypoints)))
        np.add.at(sums, member, rows)
        kept = size > max(_LEAST_SHARE * len(rows), 0)
        matrix = (sums[kept] / size[kept, None]).astype(np.float32)
    matrix = np.concatenate([matrix, anchors])
    take = min(neighbours, len(rows))
    _, near = cKDTree(positions).query(matrix @ filled, take) if take else (None, np.zeros((len(matrix), 0)))
    return DenseCloud(matrix, np.asarray(near, np.int64).reshape(len(matrix), take))

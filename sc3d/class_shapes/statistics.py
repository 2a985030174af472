"""How the keypoints of a category lie to each other: a beta distribution for each geometric feature, and the energy they make. Exact.

Samples are the lifted keypoints of the annotated images, each with noisy copies of a fifth of its shortest edge. A feature counts where
enough images show all its keypoints and its distributions have one peak.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from sc3d.class_shapes.beta import CLAMP, BetaLikelihood, fit_beta
from sc3d.class_shapes.geometric_features import (
    CORNER_EDGES,
    N_CORNER,
    N_PAIR,
    PAIR_EDGES,
    Ends,
    corner_features,
    corners,
    edge_pairs,
    edges_of,
    features_of_corner,
    features_of_pair,
    pair_features,
)

COPIES, NOISE = 10, 0.2
"""Noisy copies an image, and their standard deviation in shortest edges."""
_LEAST_IMAGES = 4
_RATIOS = (0.01, 0.99)
_DENSE = 1_000_000
"""Entries of a matrix of differences up to which it is made."""


@dataclass(frozen=True, eq=False)
class GeometryStatistics:
    """Beta distributions of the geometric features of K keypoints.

    Attributes:
        pairs: (Q, 4) int64 pairs of edges; ``pair_ab`` (Q, 2, 2) float32: alpha and beta of angle and ratio.
        corners: (T, 4) int64 triangles with a point; ``corner_ab`` (T, 3, 2) float32: of x, y and z.
    """

    pairs: np.ndarray
    pair_ab: np.ndarray
    corners: np.ndarray
    corner_ab: np.ndarray

    def most_certain(self, count: int) -> GeometryStatistics:
        """The features of the narrowest distributions, at most ``count`` of either kind, so that every keypoint keeps its share.

        Ours: the authors take the first ones. The energy of those kept stands for that of all, at a cost that K does not raise.
        """
        return GeometryStatistics(*_narrowest(self.pairs, self.pair_ab, count), *_narrowest(self.corners, self.corner_ab, count))


def _narrowest(of: np.ndarray, ab: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    if len(of) <= count:
        return of, ab
    total = ab.sum(axis=-1)
    variance = (ab.prod(axis=-1) / (total**2 * (total + 1))).mean(axis=-1)
    order = np.argsort(variance, kind="stable")
    # Rank among the features of the same keypoint; a feature's place is the best of its four.
    rank = np.full(len(of), len(of))
    for point in np.unique(of):
        mine = order[(of[order] == point).any(axis=1)]
        rank[mine] = np.minimum(rank[mine], np.arange(len(mine)))
    kept = np.sort(np.lexsort((variance, rank))[:count])
    return of[kept], ab[kept]


def fit_statistics(lifted: Iterable[np.ndarray], n_points: int, seed: int = 0) -> GeometryStatistics:
    """Fit the distributions.

    Args:
        lifted: of each image, its keypoints (K, 3) in the camera's frame; NaN where it does not show one.
        n_points: K.
        seed: of the noise.
    """
    pairs, fours = edge_pairs(n_points), corners(n_points)
    tables = ((pairs, pair_features, N_PAIR), (fours, corner_features, N_CORNER))
    sums = [np.zeros((len(of), width, 2)) for of, _, width in tables]
    counts = [np.zeros(len(of), np.int64) for of, _, _ in tables]
    rng = np.random.default_rng(seed)
    for points in lifted:
        visible = np.isfinite(points).all(axis=1)
        if visible.sum() < 2:
            continue
        copies = torch.from_numpy(_noisy(points[visible], rng))
        row = np.cumsum(visible) - 1
        for number, (of, features, _) in enumerate(tables):
            shown = np.flatnonzero(visible[of].all(axis=1))
            values = features(copies, torch.from_numpy(row[of[shown]])).clamp(CLAMP, 1 - CLAMP)
            logs = torch.stack([values.log().sum(0), (1 - values).log().sum(0)], dim=-1)
            sums[number][shown] += logs.double().numpy()
            counts[number][shown] += COPIES
    (kept_pairs, pair_ab), (kept_corners, corner_ab) = (
        _fitted(of, total, count) for (of, _, _), total, count in zip(tables, sums, counts, strict=True)
    )
    mode = (pair_ab[:, 1, 0] - 1) / (pair_ab[:, 1].sum(axis=1) - 2)
    sane = (mode >= _RATIOS[0]) & (mode <= _RATIOS[1])
    return GeometryStatistics(kept_pairs[sane], pair_ab[sane], kept_corners, corner_ab)


def _noisy(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Copies (COPIES, V, 3) float32 of points (V, 3)."""
    edges = np.linalg.norm(points[:, None] - points[None], axis=-1)[np.triu_indices(len(points), 1)]
    noise = rng.normal(size=(COPIES, *points.shape)) * (NOISE * edges.min())
    return np.asarray(points + noise, np.float32)


def _fitted(of: np.ndarray, sums: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The features with enough samples and distributions of one peak, and their parameters (Q, F, 2) float32."""
    seen = counts >= _LEAST_IMAGES * COPIES
    means = sums[seen] / counts[seen, None, None]
    ab = fit_beta(means[..., 0], means[..., 1])
    peaked = (ab > 1).all(axis=(1, 2))
    return of[seen][peaked], ab[peaked].astype(np.float32)


class GeometricEnergy:
    """The energy of keypoints by their statistics: (1/5) the sum over the five kinds of features of the mean of -log Beta. Exact.

    Args:
        statistics: of K keypoints.
        device, dtype: where and in what it computes.
    """

    def __init__(
        self, statistics: GeometryStatistics, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> None:
        self._tables = [
            (_Edges(of, ends, device, dtype), features, BetaLikelihood(torch.from_numpy(ab).to(device, dtype)))
            for of, ends, features, ab in (
                (statistics.pairs, PAIR_EDGES, features_of_pair, statistics.pair_ab),
                (statistics.corners, CORNER_EDGES, features_of_corner, statistics.corner_ab),
            )
            if len(of)
        ]

    def __call__(self, points: torch.Tensor) -> torch.Tensor:
        """Points (..., K, 3) of any size and pose -> energies (...); 0 where there are no statistics."""
        total = points.new_zeros(points.shape[:-2])
        for edges, features, likelihood in self._tables:
            total = total + likelihood(features(*edges(points))).mean(dim=-2).sum(dim=-1)
        return total / (N_PAIR + N_CORNER)


class _Edges:
    """The edges of the features: of few features by one product with a matrix of +1 and -1, whose gradient is a product too, where that of
    a look-up is a slow scatter."""

    def __init__(self, of: np.ndarray, ends: Ends, device: torch.device | str, dtype: torch.dtype) -> None:
        self._of, self._ends, self._count = torch.from_numpy(of).to(device), ends, int(of.max()) + 1
        self._matrix = None
        if len(of) * len(ends) * self._count <= _DENSE:
            identity = torch.eye(self._count, dtype=dtype, device=device)
            self._matrix = torch.cat([identity[self._of[:, end]] - identity[self._of[:, start]] for start, end in ends])

    def __call__(self, points: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if self._matrix is None:
            return edges_of(points, self._of, self._ends)
        # Not more rows than the features speak of; the poses side by side, so that it is one product.
        flat = points[..., : self._count, :].movedim(-2, 0)
        edges = (self._matrix @ flat.reshape(self._count, -1)).reshape(len(self._ends), len(self._of), *flat.shape[1:])
        return tuple(edge.movedim(0, -2) for edge in edges)

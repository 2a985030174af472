"""Angles, ratios of lengths and directions between keypoints: the same for every size and pose of an object. Exact.

- of two edges (i, j) and (k, l): the cosine of their angle, and ``|e_ij| / (|e_ij| + |e_kl|)``;
- of a triangle (a, b, c) and a fourth point v: the components of the direction from a to v along x = b - a, z = (b - a) x (c - a) and
  y = z x x. **The last one, along z, is the only feature that changes in a mirror.**

All are brought to [0, 1]: a cosine c as (1 + c) / 2.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import torch

N_PAIR, N_CORNER = 2, 3
"""Features of two edges, and of a triangle with a point."""

_TINY = 1e-12


def edge_pairs(n_points: int) -> np.ndarray:
    """All pairs of edges between ``n_points`` keypoints: (Q, 4) int64 rows i, j, k, l of the edges (i, j) and (k, l)."""
    edges = np.array(list(combinations(range(n_points), 2)), np.int64).reshape(-1, 2)
    first, second = np.triu_indices(len(edges), 1)
    return np.concatenate([edges[first], edges[second]], axis=1)


def corners(n_points: int) -> np.ndarray:
    """All triangles with a fourth point: (T, 4) int64 rows a, b, c, v; each four keypoints give four of them."""
    fours = np.array(list(combinations(range(n_points), 4)), np.int64).reshape(-1, 4)
    return np.concatenate([fours[:, order] for order in ([0, 1, 2, 3], [0, 1, 3, 2], [0, 2, 3, 1], [1, 2, 3, 0])])


def pair_features(points: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor:
    """Of points (..., K, 3) and pairs of edges (Q, 4): the angle and the ratio, (..., Q, 2) in [0, 1]."""
    i, j, k, m = pairs.unbind(-1)
    first, second = points[..., j, :] - points[..., i, :], points[..., m, :] - points[..., k, :]
    lengths = [edge.square().sum(-1).clamp_min(_TINY).sqrt() for edge in (first, second)]
    cosine = (first * second).sum(-1) / (lengths[0] * lengths[1])
    return torch.stack([(1 + cosine) / 2, lengths[0] / (lengths[0] + lengths[1])], dim=-1)


def corner_features(points: torch.Tensor, of: torch.Tensor) -> torch.Tensor:
    """Of points (..., K, 3) and triangles with a point (T, 4): the direction's x, y and z, (..., T, 3) in [0, 1]."""
    a, b, c, v = (points[..., index, :] for index in of.unbind(-1))
    x, z = _unit(b - a), _unit(torch.linalg.cross(b - a, c - a))
    d = _unit(v - a)
    return (1 + torch.stack([(d * axis).sum(-1) for axis in (x, torch.linalg.cross(z, x), z)], dim=-1)) / 2


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    return vectors / vectors.square().sum(-1, keepdim=True).clamp_min(_TINY).sqrt()

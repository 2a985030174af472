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

Ends = tuple[tuple[int, int], ...]
PAIR_EDGES: Ends = ((0, 1), (2, 3))
CORNER_EDGES: Ends = ((0, 1), (0, 2), (0, 3))
"""Columns of the rows that each edge runs from and to."""

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


def edges_of(points: torch.Tensor, of: torch.Tensor, ends: Ends) -> tuple[torch.Tensor, ...]:
    """Of points (..., K, 3) and rows of them (Q, 4): the edges (..., Q, 3) between the rows' columns ``ends``."""
    return tuple(points[..., of[:, end], :] - points[..., of[:, start], :] for start, end in ends)


def pair_features(points: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor:
    """Of points (..., K, 3) and pairs of edges (Q, 4): the angle and the ratio, (..., Q, 2) in [0, 1]."""
    return features_of_pair(*edges_of(points, pairs, PAIR_EDGES))


def corner_features(points: torch.Tensor, of: torch.Tensor) -> torch.Tensor:
    """Of points (..., K, 3) and triangles with a point (T, 4): the direction's x, y and z, (..., T, 3) in [0, 1]."""
    return features_of_corner(*edges_of(points, of, CORNER_EDGES))


def features_of_pair(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Edges (..., Q, 3) by :data:`PAIR_EDGES` -> the angle and the ratio, (..., Q, 2)."""
    lengths = [edge.square().sum(-1).clamp_min(_TINY).sqrt() for edge in (first, second)]
    cosine = (first * second).sum(-1) / (lengths[0] * lengths[1])
    return torch.stack([(1 + cosine) / 2, lengths[0] / (lengths[0] + lengths[1])], dim=-1)


def features_of_corner(along: torch.Tensor, other: torch.Tensor, towards: torch.Tensor) -> torch.Tensor:
    """Edges (..., T, 3) by :data:`CORNER_EDGES` -> the direction's x, y and z, (..., T, 3)."""
    x, z, d = _unit(along), _unit(torch.linalg.cross(along, other)), _unit(towards)
    return (1 + torch.stack([(d * axis).sum(-1) for axis in (x, torch.linalg.cross(z, x), z)], dim=-1)) / 2


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    return vectors / vectors.square().sum(-1, keepdim=True).clamp_min(_TINY).sqrt()

"""Geometric features: the same for every size and pose, and one of them another in a mirror."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sc3d.class_shapes.geometric_features import corner_features, corners, edge_pairs, pair_features

seeds = st.integers(0, 2**32 - 1)


def _features(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    at, n = torch.from_numpy(points), points.shape[-2]
    return pair_features(at, torch.from_numpy(edge_pairs(n))).numpy(), corner_features(at, torch.from_numpy(corners(n))).numpy()


def test_counts() -> None:
    """Those of the specification, section 2.2, for K = 25."""
    assert len(edge_pairs(25)) == comb(300, 2) == 44850
    assert len(corners(25)) == 50600
    assert len(np.unique(edge_pairs(6), axis=0)) == comb(15, 2)
    fours = {(frozenset(row[:3]), row[3]) for row in corners(6).tolist()}
    assert fours == {(frozenset(set(four) - {v}), v) for four in combinations(range(6), 4) for v in four}


@settings(max_examples=30, deadline=None)
@given(seed=seeds, scale=st.floats(0.1, 10), distance=st.floats(-5, 5))
def test_a_similarity_changes_nothing(seed: int, scale: float, distance: float) -> None:
    """A rotation, a scale and a shift."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-1, 1, (6, 3))
    moved = scale * points @ Rotation.random(rng=rng).as_matrix().T + distance
    for first, second in zip(_features(points), _features(moved), strict=True):
        np.testing.assert_allclose(first, second, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(seed=seeds)
def test_a_mirror_changes_the_side_alone(seed: int) -> None:
    """The direction along the triangle's normal changes its sign: z becomes 1 - z. Nothing else does."""
    points = np.random.default_rng(seed).uniform(-1, 1, (6, 3))
    (pair, corner), (mirrored_pair, mirrored) = _features(points), _features(points * [1, 1, -1])
    np.testing.assert_allclose(pair, mirrored_pair, atol=1e-9)
    np.testing.assert_allclose(corner[..., :2], mirrored[..., :2], atol=1e-9)
    np.testing.assert_allclose(corner[..., 2], 1 - mirrored[..., 2], atol=1e-9)
    assert np.abs(corner[..., 2] - 0.5).max() > 1e-3


def test_values_by_hand() -> None:
    """Edges of lengths 1 and 3 at a right angle; a point above a triangle's first corner."""
    points = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 3, 0], [0, 0, 2]])
    assert pair_features(points, torch.tensor([[0, 1, 0, 2]]))[0].tolist() == pytest.approx([0.5, 0.25])
    # From (0, 0, 0) to (0, 0, 2) along z = x cross y: straight up.
    assert corner_features(points, torch.tensor([[0, 1, 2, 3]]))[0].tolist() == pytest.approx([0.5, 0.5, 1.0])


def test_points_that_coincide_stay_finite() -> None:
    """So do their gradients."""
    points = torch.zeros((4, 3), requires_grad=True)
    total = pair_features(points, torch.from_numpy(edge_pairs(4))).sum()
    total = total + corner_features(points, torch.from_numpy(corners(4))).sum()
    total.backward()
    assert torch.isfinite(total)
    assert points.grad is not None
    assert torch.isfinite(points.grad).all()

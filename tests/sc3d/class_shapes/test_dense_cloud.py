"""The dense cloud: points that follow the keypoints linearly, beside a loop over tetrahedra."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sc3d.class_shapes.dense_cloud import OUTSIDE, barycentric_rows, merge_rows

KEYPOINTS = np.random.default_rng(0).uniform(-0.5, 0.5, (7, 3))


def cloud(seed: int, count: int = 200) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.7, 0.7, (count, 3))


def plain_row(point: np.ndarray, keypoints: np.ndarray) -> np.ndarray | None:
    """The row of one point, tetrahedron by tetrahedron."""
    row, total = np.zeros(len(keypoints)), 0.0
    seen = [i for i, one in enumerate(keypoints) if np.isfinite(one).all()]
    for four in combinations(seen, 4):
        corners = keypoints[list(four)]
        b = np.linalg.solve(np.vstack([corners.T, np.ones(4)]), np.append(point, 1))
        if (b >= -OUTSIDE).all():
            weight = 1 / np.linalg.norm(point - corners.mean(axis=0))
            row[list(four)] += weight * b
            total += weight
    return row / total if total else None


def test_rows_are_those_of_a_loop_and_no_point_outside_survives() -> None:
    keypoints = KEYPOINTS.copy()
    keypoints[3] = np.nan
    points = cloud(1)
    rows, kept = barycentric_rows(points, keypoints)
    wanted = {i: row for i, point in enumerate(points) if (row := plain_row(point, keypoints)) is not None}
    assert kept.tolist() == sorted(wanted)
    assert 0 < len(kept) < len(points)
    np.testing.assert_allclose(rows, [wanted[i] for i in kept.tolist()], atol=1e-5)
    assert (rows[:, 3] == 0).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_an_affine_motion_of_the_keypoints_moves_every_point_along(seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix, offset = rng.normal(size=(3, 3)), rng.normal(size=3)
    points = cloud(seed, 40)
    rows, kept = barycentric_rows(points, KEYPOINTS)
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(rows @ (KEYPOINTS @ matrix + offset), points[kept] @ matrix + offset, atol=1e-4)


def test_keypoints_in_one_plane_hold_nothing() -> None:
    flat = KEYPOINTS * [1, 1, 0]
    rows, kept = barycentric_rows(cloud(2), flat)
    assert rows.shape == (0, 7)
    assert len(kept) == 0
    rows, kept = barycentric_rows(cloud(2), np.full((7, 3), np.nan))
    assert len(rows) == len(kept) == 0


def test_a_merged_cloud_lies_where_its_points_do_and_ends_with_the_keypoints() -> None:
    rows, _ = barycentric_rows(cloud(3, 2000), KEYPOINTS)
    merged = merge_rows(rows, KEYPOINTS, 60, 10)
    assert len(merged.matrix) <= 67
    np.testing.assert_allclose(merged.matrix.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(merged.matrix[-7:], np.eye(7))
    assert merged.near.shape == (len(merged.matrix), 10)
    positions = rows @ KEYPOINTS
    for point, near in zip(merged.matrix @ KEYPOINTS, merged.near, strict=True):
        away = np.linalg.norm(positions - point, axis=1)
        assert away[near].max() == pytest.approx(np.sort(away)[9])


def test_without_points_the_keypoints_are_the_cloud() -> None:
    merged = merge_rows(np.zeros((0, 7), np.float32), KEYPOINTS, 60, 10)
    np.testing.assert_array_equal(merged.matrix, np.eye(7))

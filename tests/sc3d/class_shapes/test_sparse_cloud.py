"""The sparse cloud: keypoints' mean shape by their statistics alone."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic import hidden, procrustes_error, views

from sc3d.class_shapes.sparse_cloud import build_sparse_cloud, only
from sc3d.class_shapes.statistics import fit_statistics
from sc3d.errors import InputError


def test_the_shape_is_found_and_not_its_mirror_image() -> None:
    """10 points, 60 views, 60 % seen, 3 % noise: 2 % of the diameter, no reflection; the mirror image costs 1 more (section 8)."""
    made = views(10, 60, 0.6, 0.03, seed=1)
    cloud = build_sparse_cloud(fit_statistics(hidden(made.points, made.visible), 10), 10)
    assert procrustes_error(cloud.points, made.shape) < 0.02 < 0.1 < procrustes_error(cloud.points, made.shape, mirrored=True)
    assert cloud.mirror_gap > 1
    assert cloud.placed.all()
    assert np.abs(cloud.points.mean(axis=0)).max() < 1e-9
    assert np.linalg.norm(cloud.points[:, None] - cloud.points[None], axis=-1).max() == pytest.approx(1)


def test_a_point_that_is_hardly_seen_has_no_place() -> None:
    """The others have."""
    made = views(8, 40, 0.9, 0.02, seed=2)
    made.visible[3:, 5] = False
    cloud = build_sparse_cloud(fit_statistics(hidden(made.points, made.visible), 8), 8)
    assert cloud.placed.tolist() == [number != 5 for number in range(8)]
    assert np.isnan(cloud.points[5]).all()
    assert procrustes_error(np.delete(cloud.points, 5, 0), np.delete(made.shape, 5, 0)) < 0.02


def test_annotations_of_both_hands_leave_no_gap() -> None:
    """Half of the images annotated as a mirror shows them: nothing tells left from right any more."""
    made = views(8, 40, 0.9, 0.03, seed=3)
    made.points[::2] *= [-1, 1, 1]
    cloud = build_sparse_cloud(fit_statistics(hidden(made.points, made.visible), 8), 8)
    assert abs(cloud.mirror_gap) < 0.3


def test_fewer_than_four_related_points_are_refused() -> None:
    """With what to do."""
    made = views(8, 30, 1.0, 0.02, seed=4)
    made.visible[:, 3:] = False
    with pytest.raises(InputError, match="annotate more images"):
        build_sparse_cloud(fit_statistics(hidden(made.points, made.visible), 8), 8)
    with pytest.raises(InputError, match="annotate more images"):
        build_sparse_cloud(fit_statistics(made.points[:0], 8), 8)


def test_statistics_of_some_points_alone() -> None:
    """Features with another are left out, the rest renumbered."""
    made = views(6, 20, 1.0, 0.03, seed=5)
    every = fit_statistics(made.points, 6)
    some = only(every, np.array([0, 2, 3, 5]), 6)
    inside = np.isin(every.pairs, [0, 2, 3, 5]).all(axis=1)
    np.testing.assert_array_equal(np.array([0, 2, 3, 5])[some.pairs], every.pairs[inside])
    np.testing.assert_array_equal(some.pair_ab, every.pair_ab[inside])
    assert 0 < len(some.corners) < len(every.corners)

"""Rotations from vectors and between point sets, beside SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from sc3d.class_shapes.rotations import angles_between, best_rotation, rotation_of


def test_a_vector_and_two_point_sets_tell_a_rotation() -> None:
    vector = torch.tensor([[0.3, -0.2, 0.9]])
    np.testing.assert_allclose(rotation_of(vector)[0].numpy(), Rotation.from_rotvec(vector[0].numpy()).as_matrix(), atol=1e-6)
    points, R = np.random.default_rng(4).normal(size=(8, 3)), Rotation.random(rng=np.random.default_rng(5)).as_matrix()
    np.testing.assert_allclose(best_rotation(points, 3 * points @ R.T + 7), R, atol=1e-9)
    assert np.linalg.det(best_rotation(points, points * [1, 1, -1])) == pytest.approx(1)


def test_angles_are_those_of_the_rotation_between() -> None:
    first, second = (Rotation.random(20, rng=np.random.default_rng(seed)) for seed in (6, 7))
    wanted = (first.inv() * second).magnitude()
    np.testing.assert_allclose(angles_between(first.as_matrix(), second.as_matrix()), wanted, atol=1e-6)

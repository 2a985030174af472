"""The camera: lifting undoes projecting, for images of either shape and their mirror images."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sc3d.class_shapes.camera import in_sides, lift, principal_point, project

POINTS = torch.tensor([[0.2, -0.1, 2.0], [-0.5, 0.4, 3.0], [0.0, 0.0, 1.0]], dtype=torch.float64)


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (100, 100)])
def test_lift_undoes_project(size: tuple[int, int]) -> None:
    """A seen point with its depth is the point again."""
    principal = torch.from_numpy(principal_point(size))
    seen = project(POINTS, 1 / 0.4, principal)
    np.testing.assert_allclose(lift(seen, POINTS[:, 2], 0.4, principal), POINTS, atol=1e-12)
    assert seen[2].tolist() == principal.tolist() == [size[0] / (2 * max(size)), size[1] / (2 * max(size))]


def test_pixels_are_those_of_a_matrix_of_intrinsics() -> None:
    """The focal length is in longer sides: f m pixels, whichever side is the longer."""
    for size in ((640, 480), (480, 640)):
        K = np.array([[2.5 * 640, 0, size[0] / 2], [0, 2.5 * 640, size[1] / 2], [0, 0, 1]])
        pixels = POINTS.numpy() @ K.T
        wanted = in_sides(pixels[:, :2] / pixels[:, 2:], size)
        np.testing.assert_allclose(project(POINTS, 2.5, principal_point(size).tolist()), wanted, atol=1e-12)


@pytest.mark.parametrize("size", [(640, 480), (480, 640)])
def test_a_mirrored_image_lifts_to_mirrored_points(size: tuple[int, int]) -> None:
    """Pixels counted from the other side give x with the other sign."""
    principal = torch.from_numpy(principal_point(size))
    seen = project(POINTS, 2.0, principal)
    seen[:, 0] = size[0] / max(size) - seen[:, 0]
    np.testing.assert_allclose(lift(seen, POINTS[:, 2], 0.5, principal), POINTS * torch.tensor([-1, 1, 1]), atol=1e-12)


def test_a_point_behind_the_camera_stays_finite() -> None:
    """So does its gradient."""
    behind = torch.tensor([[0.1, 0.1, -1.0]], requires_grad=True)
    seen = project(behind, 2.0, [0.5, 0.5])
    seen.sum().backward()
    assert torch.isfinite(seen).all()
    assert behind.grad is not None
    assert torch.isfinite(behind.grad).all()

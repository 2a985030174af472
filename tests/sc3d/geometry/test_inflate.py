"""Silhouettes become closed meshes that project back onto them."""

import cv2
import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from sc3d.errors import InputError
from sc3d.geometry.camera import project
from sc3d.geometry.inflate import inflate
from sc3d.geometry.mesh import Mesh

HEIGHT, WIDTH = 150, 200


def silhouette(vertices, faces, pose, camera):
    """Union of the projected triangles, sampled at pixel centres: plain polygon filling at five times the resolution."""
    xy, depth = project(vertices, pose, camera)
    assert (depth > 0).all()
    canvas = np.zeros((5 * camera.height, 5 * camera.width), np.uint8)
    for triangle in xy[faces]:
        cv2.fillConvexPoly(canvas, np.round((triangle * 5 - 0.5) * 16).astype(np.int32), 1, shift=4)
    return canvas[2::5, 2::5] > 0


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def disc(x, y, radius, height=HEIGHT, width=WIDTH):
    rows, columns = np.mgrid[:height, :width] + 0.5
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


def quadruped():
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[50:90, 25:175] = True
    mask[90:140, 30:38] = mask[90:140, 162:170] = mask[20:50, 160:172] = True
    return mask


SHAPES = {
    "disc": disc(100, 75, 60),
    "off the centre": disc(25, 30, 20),
    "ring": disc(100, 75, 60) & ~disc(100, 75, 35),
    "thin legs": quadruped(),
    "bar of 4 pixels": np.pad(np.ones((4, 150), bool), ((70, 76), (25, 25))),
    "cut by the image": disc(0, 75, 60),
    "nearly full": np.pad(np.ones((HEIGHT - 1, WIDTH), bool), ((1, 0), (0, 0))),
    "9 pixels": np.pad(np.ones((6, 9), bool), ((7, 7), (5, 6))),
}


@pytest.mark.parametrize("name", SHAPES)
def test_mesh_is_closed_and_projects_onto_the_mask(name):
    mask = SHAPES[name]
    vertices, faces, camera, pose = inflate(mask)
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    assert mesh.is_watertight
    assert mesh.body_count == 1
    assert mesh.volume > 0  # outward normals
    Mesh(vertices, faces)
    assert (camera.width, camera.height) == mask.shape[::-1]
    assert camera.K[0, 0] == pytest.approx(1.2 * max(mask.shape))
    assert iou(silhouette(vertices, faces, pose, camera), mask) > 0.97


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 6))
def test_any_blob_projects_onto_itself(seed, blobs):
    generator = np.random.default_rng(seed)
    mask = np.zeros((HEIGHT, WIDTH), bool)
    x, y = 100.0, 75.0
    for _ in range(blobs):
        mask |= disc(x, y, generator.uniform(8, 30))
        x, y = x + generator.uniform(-8, 8), y + generator.uniform(-8, 8)
    vertices, faces, camera, pose = inflate(mask)
    assert trimesh.Trimesh(vertices, faces, process=False).is_watertight
    assert iou(silhouette(vertices, faces, pose, camera), mask) > 0.97


def test_canonical_frame():
    """Unit box in the middle; y up and x as in the image; the front looks at the camera."""
    mask = quadruped()
    vertices, _, camera, pose = inflate(mask)
    np.testing.assert_allclose(np.ptp(vertices, axis=0).max(), 1)
    np.testing.assert_allclose(vertices.max(axis=0) + vertices.min(axis=0), 0, atol=1e-9)
    xy, depth = project(vertices, pose, camera)
    assert np.corrcoef(vertices[:, 0], xy[:, 0])[0, 1] > 0.99
    assert np.corrcoef(vertices[:, 1], xy[:, 1])[0, 1] < -0.99
    assert depth[np.argmax(vertices[:, 2])] < depth[np.argmin(vertices[:, 2])]


def test_disc_becomes_a_ball_and_a_bar_stays_thin():
    """Over a disc of radius r the solution is r^2 - rho^2, whose root is a half ball; over a strip of half width a it is 2 (a^2 - x^2)."""
    ball = np.ptp(inflate(disc(100, 75, 30))[0], axis=0)
    assert ball[2] / ball[0] == pytest.approx(1, abs=0.06)
    strip = np.zeros((HEIGHT, WIDTH), bool)
    strip[60:90, 10:190] = True
    bar = np.ptp(inflate(strip)[0], axis=0)
    assert bar[2] / bar[1] == pytest.approx(np.sqrt(2), abs=0.08)


def test_only_the_largest_piece_is_inflated():
    mask = disc(60, 75, 40) | disc(170, 75, 15)
    vertices, faces, camera, pose = inflate(mask)
    assert iou(silhouette(vertices, faces, pose, camera), disc(60, 75, 40)) > 0.97


def test_resolution_is_that_of_the_grid_not_of_the_image():
    small, large = (len(inflate(disc(100 * k, 75 * k, 50 * k, HEIGHT * k, WIDTH * k))[0]) for k in (1, 6))
    assert abs(large / small - 1) < 0.1


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((20, 20), bool), "empty mask"),
        (np.pad(np.ones((3, 4), bool), 8), "4 x 3 pixels: too small"),
    ],
)
def test_masks_without_a_shape_are_input_errors(mask, message):
    with pytest.raises(InputError, match=message):
        inflate(mask)

"""Frames, silhouettes and renders of a template."""

import numpy as np
import pytest

from sc3d.datasets.toys.template import toy_template
from sc3d.geometry.camera import Camera, Pose, looking_from, project
from sc3d.geometry.templates.views import (
    IMAGE_SIDE,
    MARGIN,
    STRETCHES,
    VIEWS,
    Frame,
    cell_masks,
    described_cells,
    distance_of,
    render_views,
    stretched,
    view_silhouettes,
)


@pytest.fixture(scope="module")
def chair():
    return toy_template("chair")


def test_stretching_keeps_the_numbering(chair):
    longer = stretched(chair.mesh, 1.25, 0.75)
    np.testing.assert_array_equal(longer.faces, chair.mesh.faces)
    np.testing.assert_allclose(longer.vertices, chair.mesh.vertices * [1, 1.25, 0.75])


def test_silhouettes_and_renders_show_the_same_in_their_frames(chair):
    silhouettes, (pictures, masks) = view_silhouettes(chair.mesh), render_views(chair)
    unstretched = silhouettes[:, STRETCHES.index((1.0, 1.0))]
    shrunk = masks.reshape(len(VIEWS), 64, 5, 64, 5).mean(axis=(2, 4))
    assert np.abs(unstretched - shrunk).mean() < 0.01
    for mask in masks:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        longest = max(np.ptp(rows), np.ptp(columns)) + 1
        assert longest == pytest.approx(IMAGE_SIDE / MARGIN, abs=2)
    assert (pictures[~masks] == 127).all()


def test_a_frame_goes_to_the_image_and_back():
    frame, K = Frame(-10.0, 20.0, 80.0), np.array([[300, 0, 100], [0, 310, 90], [0, 0, 1.0]])
    np.testing.assert_allclose(frame.restored(frame.intrinsics(K, 64), 64), K)


def test_a_crop_is_where_the_camera_of_the_frame_says(chair):
    camera = Camera.from_focal(400.0, 300, 200)
    pose = Pose(looking_from(40, 20, 0), np.array([0.3, -0.1, distance_of(chair.mesh)]))
    xy = project(chair.mesh.vertices, pose, camera)[0]
    frame = Frame.around(xy.min(axis=0), xy.max(axis=0))
    image = np.zeros((200, 300), np.float32)
    column, row = np.floor(xy[17]).astype(int)
    image[row, column] = 1.0
    inside = project(chair.mesh.vertices[17:18], pose, Camera(frame.intrinsics(camera.K, 320), 320, 320))[0][0]
    found = np.array(np.unravel_index(frame.crop(image, 320).argmax(), (320, 320)))[::-1] + 0.5
    assert np.abs(found - inside).max() <= 1.5 * 320 / frame.side


def test_described_cells_are_of_unit_length_on_the_foreground_alone():
    generator = np.random.default_rng(0)
    layers = [generator.normal(size=(3, channels, 20, 20)).astype(np.float32) for channels in (4, 5, 6)]
    foreground = generator.random((3, 400)) < 0.5
    for per_picture in (True, False):
        cells = described_cells(layers, foreground, per_picture)
        np.testing.assert_allclose(np.linalg.norm(cells, axis=2), foreground, atol=1e-5)
    # What all cells of a picture share says nothing.
    moved = [layer + np.float32(3) for layer in layers]
    np.testing.assert_allclose(described_cells(moved, foreground, True), described_cells(layers, foreground, True), atol=1e-4)


def test_a_thin_mask_keeps_its_best_cell():
    masks = np.zeros((1, 320, 320), bool)
    masks[0, 100:103, 40:46] = True
    assert cell_masks(masks).sum() == 1

"""Adaptive flip: counterparts of keypoints in a mirror, and distances of images against plain loops."""

import numpy as np
import pytest

from sc3d.evaluation.flip import counterparts, descriptor_distance, mirrored_pixels
from sc3d.evaluation.readout import CellDescriptors
from sc3d.grid import Letterbox

BOX = Letterbox(60, 60, side=6, cell_size=10)


def maps(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(4, 6, 6))


def unit(values: np.ndarray) -> np.ndarray:
    flat = values.reshape(len(values), -1).T
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)


def test_left_becomes_right_if_it_is_visible():
    # 1 and 2 swap, 3 stays; 5 swaps with 6, which is not visible.
    found = counterparts(np.array([1, 2, 3, 5]), np.array([1, 2, 3, 5]), [(1, 2), (5, 6)])
    assert found.tolist() == [1, 0, 2, -1]


def test_mirrored_pixels_are_where_the_mirror_image_shows_them():
    photo = np.zeros((4, 7))
    photo[2, 1] = 1  # the centre of this pixel is (1.5, 2.5)
    row, column = np.argwhere(photo[:, ::-1])[0]
    np.testing.assert_allclose(mirrored_pixels(np.array([[1.5, 2.5]]), 7), [[column + 0.5, row + 0.5]])


def test_mask_distance_equals_plain_loops():
    source, target = maps(0), maps(1)
    masks = np.random.default_rng(2).random((2, 6, 6)) < 0.4
    expected = np.mean([min(np.linalg.norm(a - b) for b in unit(target)[masks[1].ravel()]) for a in unit(source)[masks[0].ravel()]])
    cells = CellDescriptors.of_map(source, BOX), CellDescriptors.of_map(target, BOX)
    assert descriptor_distance(*cells, "mask", (masks[0], masks[1])) == pytest.approx(expected, abs=1e-5)
    assert descriptor_distance(*cells, "mask", (masks[0], np.zeros((6, 6), bool))) == float("inf")


def test_mutual_distance_equals_plain_loops():
    source, target = unit(maps(0)), unit(maps(1))
    distances = np.linalg.norm(source[:, None] - target[None], axis=2)
    pairs = [(i, j) for i in range(36) for j in range(36) if distances[i].argmin() == j and distances[:, j].argmin() == i]
    cells = CellDescriptors.of_map(maps(0), BOX), CellDescriptors.of_map(maps(1), BOX)
    found = descriptor_distance(*cells, "mutual", (np.zeros((6, 6), bool),) * 2)
    assert found == pytest.approx(np.mean([distances[p] for p in pairs]), abs=1e-5)


@pytest.mark.parametrize("kind", ["mask", "mutual"])
def test_the_mirror_image_of_the_target_is_closer_than_another(kind):
    """A target that shows the source's mirror image, and descriptors that are mirrored with their photo."""
    source = maps(0)
    mirrored = source[:, :, ::-1] + 0.01 * maps(3)
    target = source[:, :, ::-1]
    masks = (np.ones((6, 6), bool),) * 2
    far, near = (
        descriptor_distance(CellDescriptors.of_map(one, BOX), CellDescriptors.of_map(target, BOX), kind, masks)
        for one in (maps(7), mirrored)
    )
    assert near < 0.1 < far

"""The working grid: images lie in the middle of their square, and pixels, cells and masks speak of the same places."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sc3d.errors import InputError
from sc3d.grid import Letterbox

sides = st.integers(1, 2000)


def test_a_wide_image_has_equal_borders_above_and_below() -> None:
    box = Letterbox(400, 300)
    assert (box.square, box.scale, box.resized, box.offset) == (840, 2.1, (840, 630), (0, 105))
    np.testing.assert_allclose(box.to_square(np.array([[0, 0], [400, 300], [200, 150]])), [[0, 105], [840, 735], [420, 420]])
    assert box.cell_pixels == pytest.approx(14 / 2.1)


@given(sides, sides)
def test_the_image_is_in_the_middle_of_its_square(width: int, height: int) -> None:
    box = Letterbox(width, height)
    for border, length in zip(box.offset, box.resized, strict=True):
        assert 0 <= box.square - length - 2 * border <= 1
    assert max(box.resized) == box.square


@given(sides, sides, st.lists(st.integers(0, 3599), min_size=1, max_size=8))
def test_the_centre_of_a_cell_is_in_the_cell(width: int, height: int, cells: list[int]) -> None:
    box = Letterbox(width, height)
    assert box.cells_of(box.centres(np.array(cells))).tolist() == cells


def test_what_is_outside_takes_the_nearest_border_cell() -> None:
    box = Letterbox(100, 100, side=10)
    assert box.cells_of(np.array([[-50.0, -50.0], [500.0, 5.0], [5.0, 500.0], [500.0, 500.0]])).tolist() == [0, 9, 90, 99]


def test_a_mask_is_read_at_the_centres_and_borders_are_background() -> None:
    box = Letterbox(8, 4, side=4)
    mask = np.zeros((4, 8), bool)
    mask[:, :4] = True
    expected = np.zeros((4, 4), bool)
    expected[1:3, :2] = True
    assert box.sample_mask(mask).tolist() == expected.tolist()
    with pytest.raises(InputError, match="mask of 4 x 8 for an image of 8 x 4"):
        box.sample_mask(mask.T)


def test_an_image_without_pixels_has_no_grid() -> None:
    with pytest.raises(InputError, match="0 x 4 pixels has no grid"):
        Letterbox(0, 4)

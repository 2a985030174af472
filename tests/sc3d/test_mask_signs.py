"""Signs of a bad mask: each on a mask that has it alone, and none on a good one."""

import numpy as np
import pytest

from sc3d.mask_signs import ALL_ROUND, IN_PIECES, LOW_CONTRAST, border_contrast, mask_signs


def disc(height, width, x, y, radius):
    rows, columns = np.mgrid[:height, :width] + 0.5
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


def painted(mask, inside=(190, 60, 40), outside=(70, 110, 160), noise=15, seed=0):
    image = np.where(mask[..., None], inside, outside) + np.random.default_rng(seed).normal(0, noise, (*mask.shape, 3))
    return image.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("size", [(300, 400), (1200, 900), (40, 40)])
def test_a_clear_object_has_no_sign(size):
    mask = disc(*size, size[1] / 2, size[0] / 2, min(size) / 3)
    assert mask_signs(painted(mask), mask) == ()


def test_an_object_that_two_borders_cut_has_none():
    mask = disc(300, 400, 20, 20, 150)
    assert mask_signs(painted(mask), mask) == ()


def test_a_mask_that_touches_the_frame_all_round():
    mask = ~disc(300, 400, 200, 150, 60)
    assert mask_signs(painted(mask), mask) == (ALL_ROUND,)


def test_pieces_count_when_they_are_large_and_far():
    two = disc(300, 400, 90, 150, 60) | disc(300, 400, 310, 150, 50)
    assert mask_signs(painted(two), two) == (IN_PIECES,)
    near = disc(300, 400, 140, 150, 60) | disc(300, 400, 259, 150, 55)
    assert mask_signs(painted(near), near) == ()
    small = disc(300, 400, 90, 150, 60) | disc(300, 400, 350, 150, 8)
    assert mask_signs(painted(small), small) == ()


def test_an_outline_across_one_colour():
    mask = disc(300, 400, 200, 150, 80)
    image = painted(np.zeros_like(mask))
    assert mask_signs(image, mask) == (LOW_CONTRAST,)
    # Half of the outline is enough to be seen.
    image[:, :200] = painted(mask)[:, :200]
    image[:, 195:260] = painted(mask)[:, 195:260]
    assert mask_signs(image, mask) == ()


def test_contrast_is_the_distance_of_the_two_colours_in_lab():
    mask = disc(300, 300, 150, 150, 80)
    grey = painted(mask, (119, 119, 119), (161, 161, 161), noise=0)
    # L* of these greys, from the sRGB curve and CIE's cube root: 50.0 and 66.2.
    assert border_contrast(grey, mask) == pytest.approx(16.2, abs=0.5)
    assert border_contrast(grey, np.ones_like(mask)) == float("inf")

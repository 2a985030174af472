"""Tiles: what lies where, and that maps of tiles come together as the map of the frame."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d

from actors.foundation.tiles import Tiling
from sc3d.errors import ConfigError


def test_four_tiles_of_512_in_960():
    tiling = Tiling(960, 512)
    assert tiling.offsets == (0, 448)
    assert Tiling(960, 960).offsets == (0,)
    assert Tiling(120, 64).cut(torch.zeros(3, 2, 120, 120)).shape == (12, 2, 64, 64)


@pytest.mark.parametrize("cell", [2, 4, 8])
@pytest.mark.parametrize(("frame", "tile"), [(120, 64), (120, 120), (56, 24), (32, 16)])
def test_pooled_tiles_are_the_pooled_frame(frame, tile, cell):
    """With a network that only pools cells, tiles put together equal the whole frame pooled: each cell lands where its pixels were."""
    frames = torch.randn(2, 3, frame, frame, generator=torch.Generator().manual_seed(0))
    tiling = Tiling(frame, tile)
    joined = tiling.join(avg_pool2d(tiling.cut(frames), cell))
    torch.testing.assert_close(joined, avg_pool2d(frames, cell))


def test_overlaps_are_the_plain_mean():
    """Against counting, cell by cell, with values that differ between the tiles."""
    tiling = Tiling(120, 64)
    maps = torch.randn(2 * 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    joined = tiling.join(maps)
    assert joined.shape == (2, 3, 15, 15)
    for image in range(2):
        for y in range(15):
            for x in range(15):
                values = [
                    maps[image * 4 + 2 * row + column, :, y - 7 * row, x - 7 * column]
                    for row in range(2)
                    for column in range(2)
                    if 0 <= y - 7 * row < 8 and 0 <= x - 7 * column < 8
                ]
                np.testing.assert_allclose(joined[image, :, y, x], torch.stack(values).mean(dim=0), rtol=1e-6)


def test_half_precision_is_summed_in_single():
    maps = torch.full((4, 1, 32, 32), 40_000.0, dtype=torch.float16)
    joined = Tiling(960, 512).join(maps)
    assert joined.dtype == torch.float32
    assert (joined == 40_000).all()


def test_tiles_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="do not fit"):
        Tiling(64, 65)
    with pytest.raises(ConfigError, match="evenly"):
        Tiling(64, 25)
    with pytest.raises(ConfigError, match="whole cells"):
        Tiling(64, 24).join(torch.zeros(9, 1, 2, 2))

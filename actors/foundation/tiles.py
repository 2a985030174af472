"""A square frame in overlapping square tiles, and their feature maps put together again.

SD-DINO and what followed it show the diffusion model four tiles of 512 pixels, the size it was trained at, instead of the whole
frame of 960, and average the features where tiles overlap.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import torch

from sc3d.errors import ConfigError


@dataclass(frozen=True)
class Tiling:
    """As few evenly spaced tiles of ``tile`` pixels as cover a frame of ``frame`` pixels, both ways."""

    frame: int
    tile: int

    def __post_init__(self) -> None:
        if not 0 < self.tile <= self.frame:
            raise ConfigError(f"tiles of {self.tile} pixels do not fit into a frame of {self.frame}")
        if self.frame > self.tile and (self.frame - self.tile) % (self._along - 1):
            raise ConfigError(f"{self._along} tiles of {self.tile} pixels cannot be spaced evenly in a frame of {self.frame}")

    @property
    def _along(self) -> int:
        return ceil(self.frame / self.tile)

    @property
    def offsets(self) -> tuple[int, ...]:
        """Where tiles begin along one axis, in pixels: (0, 448) for 512 in 960."""
        step = (self.frame - self.tile) // max(self._along - 1, 1)
        return tuple(i * step for i in range(self._along))

    def cut(self, frames: torch.Tensor) -> torch.Tensor:
        """Frames (B, C, frame, frame) -> tiles (B * T, C, tile, tile), row by row, those of one frame beside each other."""
        size = self.tile
        tiles = [frames[:, :, y : y + size, x : x + size] for y in self.offsets for x in self.offsets]
        return torch.stack(tiles, dim=1).flatten(0, 1)

    def join(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps (B * T, C, h, h) of tiles in the order of :meth:`cut` -> (B, C, H, H) float32 of frames, the mean where tiles overlap.

        Raises:
            ConfigError: a tile does not begin on a whole cell of the maps.
        """
        h, offsets = maps.shape[-1], self.offsets
        if any(offset * h % self.tile for offset in offsets) or self.frame * h % self.tile:
            raise ConfigError(f"tiles at {offsets} of {self.frame} pixels do not begin on whole cells of {self.tile / h:g} pixels")
        parts = maps.unflatten(0, (-1, len(offsets) ** 2))
        starts = [offset * h // self.tile for offset in offsets]
        side = self.frame * h // self.tile
        total = torch.zeros(len(parts), maps.shape[1], side, side, device=maps.device)
        count = torch.zeros(side, side, device=maps.device)
        for i, (y, x) in enumerate((y, x) for y in starts for x in starts):
            total[:, :, y : y + h, x : x + h] += parts[:, i]
            count[y : y + h, x : x + h] += 1
        return total / count

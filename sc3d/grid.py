"""The working grid: a square letterbox around the image, cut into ``side x side`` cells.

Follows the SPair-71k evaluation of GeoAware-SC: the long side is resized to ``side * cell_size`` pixels, the short side to the rounded
proportional length, and the image is centred with integer offsets. All features, surface hits and labels speak of the same cells,
whatever resolution their model sees.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sc3d.errors import InputError

SIDE = 60
CELL_SIZE = 14


@dataclass(frozen=True)
class Letterbox:
    """Maps between pixels of a ``width x height`` image and the square frame of ``square`` pixels around it."""

    width: int
    height: int
    side: int = SIDE
    cell_size: int = CELL_SIZE

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise InputError(f"an image of {self.width} x {self.height} pixels has no grid")

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the image in its pixels."""
        return self.width, self.height

    @property
    def square(self) -> int:
        """Side of the square frame in its own pixels (840 for 60 cells of 14)."""
        return self.side * self.cell_size

    @property
    def scale(self) -> float:
        """Square pixels an image pixel."""
        return self.square / max(self.width, self.height)

    @property
    def resized(self) -> tuple[int, int]:
        """Width and height of the resized image inside the frame; at least one pixel each."""
        long = max(self.width, self.height)
        w, h = (int(np.around(self.square * n / long)) for n in (self.width, self.height))
        return max(w, 1), max(h, 1)

    @property
    def offset(self) -> tuple[int, int]:
        """Left and top border in square pixels."""
        w, h = self.resized
        return (self.square - w) // 2, (self.square - h) // 2

    @property
    def cell_pixels(self) -> float:
        """Side of one cell in image pixels."""
        return self.cell_size / self.scale

    def to_square(self, xy: np.ndarray) -> np.ndarray:
        """Image pixels (N, 2) -> frame pixels (N, 2)."""
        return np.asarray(xy, np.float64) * self.scale + np.asarray(self.offset, np.float64)

    def to_image(self, xy: np.ndarray) -> np.ndarray:
        """Frame pixels (N, 2) -> image pixels (N, 2)."""
        return (np.asarray(xy, np.float64) - np.asarray(self.offset, np.float64)) / self.scale

    def cells_of(self, xy: np.ndarray) -> np.ndarray:
        """Flat cell (N,) of each image pixel (N, 2), by truncation; points outside the frame take the nearest border cell."""
        column_row = np.clip((self.to_square(xy) / self.cell_size).astype(np.int64), 0, self.side - 1)
        return column_row[:, 1] * self.side + column_row[:, 0]

    def centres(self, cells: np.ndarray | None = None) -> np.ndarray:
        """Image pixels (N, 2) of the centres of flat ``cells`` (N,), or of all cells in row-major order."""
        flat = np.arange(self.side * self.side) if cells is None else np.asarray(cells)
        square = np.stack([flat % self.side, flat // self.side], axis=1) * self.cell_size + self.cell_size / 2
        return self.to_image(square)

    def sample_mask(self, mask: np.ndarray) -> np.ndarray:
        """Boolean mask (height, width) -> foreground (side, side): the mask at each cell's centre, False in the borders."""
        if mask.shape != (self.height, self.width):
            raise InputError(f"mask of {mask.shape[1]} x {mask.shape[0]} for an image of {self.width} x {self.height}")
        xy = np.floor(self.centres()).astype(np.int64)
        inside = (xy[:, 0] >= 0) & (xy[:, 1] >= 0) & (xy[:, 0] < self.width) & (xy[:, 1] < self.height)
        result = np.zeros(self.side * self.side, bool)
        result[inside] = mask[xy[inside, 1], xy[inside, 0]]
        return result.reshape(self.side, self.side)


def object_extent(mask: np.ndarray) -> float:
    """max(height, width) in pixels of the box around a non-empty mask (H, W)."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1)

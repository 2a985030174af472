"""Feature maps in colours: the first three principal components, found jointly over a few images of a category."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from sc3d.features import Features
from sc3d.grid import Letterbox
from sc3d.matching.fusion import DINO, SD, SHAPE, group_descriptors
from sc3d.report.pictures import grid_picture, png_uri, principal_colours, shrink, webp_uri

_PHOTO_PIXELS = 180


@dataclass(frozen=True)
class FeatureRow:
    """The maps of one group over the images of a category: data URIs, in the order of the photos; empty where an image lacks it."""

    group: str
    title: str
    maps: tuple[str, ...]


@dataclass(frozen=True)
class FeatureCard:
    """A category: square windows of the photos around the object, above the maps of each group."""

    category: str
    image_ids: tuple[str, ...]
    photos: tuple[str, ...]
    rows: tuple[FeatureRow, ...]


def feature_card(
    category: str, photos: Sequence[np.ndarray], features: Sequence[Features], titles: Mapping[str, str]
) -> FeatureCard:
    """The card of a category from some of its images. ``photos`` (H, W, 3): the upright images; ``titles``: what fills each group."""
    cells = [np.flatnonzero(f.foreground.reshape(-1)) for f in features]
    described = [group_descriptors(f, c) for f, c in zip(features, cells, strict=True)]
    windows = [_Window.around(f.foreground) for f in features]
    rows = []
    for group in (DINO, SD, SHAPE):
        have = [i for i, groups in enumerate(described) if group in groups and len(cells[i])]
        if not have:
            continue
        maps = [""] * len(features)
        colours = principal_colours([described[i][group].numpy() for i in have])
        for i, colour in zip(have, colours, strict=True):
            maps[i] = png_uri(windows[i].of_grid(grid_picture(cells[i], colour, features[i].letterbox.side)))
        rows.append(FeatureRow(group, titles.get(group, group), tuple(maps)))
    pictures = tuple(
        webp_uri(shrink(window.of_photo(photo, f.letterbox), _PHOTO_PIXELS))
        for photo, f, window in zip(photos, features, windows, strict=True)
    )
    return FeatureCard(category, tuple(f.image_id for f in features), pictures, tuple(rows))


@dataclass(frozen=True)
class _Window:
    """A square of cells around the object, which may reach beyond the grid."""

    top: int
    left: int
    size: int

    @classmethod
    def around(cls, foreground: np.ndarray) -> _Window:
        rows, columns = np.nonzero(foreground)
        if len(rows) == 0:
            return cls(0, 0, len(foreground))
        size = int(max(np.ptp(rows), np.ptp(columns))) + 5
        top, left = (int(np.round((v.min() + v.max() + 1 - size) / 2)) for v in (rows, columns))
        return cls(top, left, size)

    def of_grid(self, picture: np.ndarray) -> np.ndarray:
        """The window of a grid picture (side, side, 4), clear beyond the grid."""
        padded = np.pad(picture, ((self.size, self.size), (self.size, self.size), (0, 0)))
        top, left = self.top + self.size, self.left + self.size
        return padded[top : top + self.size, left : left + self.size]

    def of_photo(self, photo: np.ndarray, box: Letterbox) -> np.ndarray:
        """The same window of the photo (h, w, 4), clear beyond it."""
        corners = np.array([[self.left, self.top], [self.left + self.size, self.top + self.size]]) * box.cell_size
        (left, top), (right, bottom) = np.round(box.to_image(corners)).astype(int)
        canvas = Image.new("RGBA", (right - left, bottom - top))
        canvas.paste(Image.fromarray(photo), (-left, -top))
        return np.asarray(canvas)

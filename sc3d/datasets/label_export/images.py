"""The images that labels are about: their names, splits and sizes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
from PIL import Image

from sc3d.config import DownloadConfig
from sc3d.display import scheme_of, shown
from sc3d.errors import InputError
from sc3d.images import load_image

_LOSSLESS = (".png", ".bmp", ".gif", ".tif", ".tiff")


class LabelledImages:
    """The images of a run's manifest as columns. ``ids``, ``paths``, ``categories``, ``splits``: one a row; ``index``: id -> row.

    Args:
        manifest: the columns image_id, path, category and split.
        root: folder of the data set; empty: none.
        sizes: the columns image_id, width and height of upright images, as far as they are known.
        download: limits for images that do not lie here.

    Attributes:
        known_sizes: width and height (images, 2) int64 of each upright image; 0 where not known.
    """

    def __init__(self, manifest: pa.Table, root: str, sizes: pa.Table, download: DownloadConfig | None = None) -> None:
        self._root, self._download = root, download
        self.ids, self.paths, self.categories, self.splits = (
            manifest[name].to_pylist() for name in ("image_id", "path", "category", "split")
        )
        self.index: Mapping[str, int] = {image_id: row for row, image_id in enumerate(self.ids)}
        self.known_sizes = np.zeros((len(self), 2), np.int64)
        for image_id, width, height in zip(*(sizes[name].to_pylist() for name in ("image_id", "width", "height")), strict=True):
            if image_id in self.index:
                self.known_sizes[self.index[image_id]] = width, height

    def __len__(self) -> int:
        return len(self.ids)

    def row_of(self, image_id: str) -> int:
        """Row of an image.

        Raises:
            InputError: the manifest does not have it.
        """
        try:
            return self.index[image_id]
        except KeyError:
            raise InputError(f"labels name the image '{image_id}', which the run's manifest does not have") from None

    def file_name(self, row: int) -> str:
        """The image's file name, without folders."""
        return shown(self.paths[row]).rpartition("/")[2]

    def name_by_id(self, row: int) -> str:
        """The image's id with the ending of its file name."""
        return f"{self.ids[row]}{PurePosixPath(self.file_name(row)).suffix}"

    def file_below_root(self, row: int) -> str:
        """The image's path below the root of its data set, or its file name where it lies elsewhere."""
        root, path = self._root, self.paths[row]
        if root and not scheme_of(path) and Path(path).is_relative_to(root):
            return Path(path).relative_to(root).as_posix()
        return self.file_name(row)

    def size(self, row: int) -> tuple[int, int]:
        """Width and height of an upright image; one that was not reconstructed is opened.

        Raises:
            InputError: it cannot be read.
        """
        if not self.known_sizes[row, 0]:
            height, width, _ = load_image(self.paths[row], self._download).shape
            self.known_sizes[row] = width, height
        width, height = self.known_sizes[row].tolist()
        return width, height

    def copy(self, row: int) -> tuple[bytes, str]:
        """The upright image as a file without metadata, and its ending: JPEG, or PNG where it was stored without loss.

        Raises:
            InputError: it cannot be read.
        """
        path = self.paths[row]
        picture = Image.fromarray(load_image(path, self._download))
        kind = "png" if PurePosixPath(self.file_name(row)).suffix.lower() in _LOSSLESS else "jpg"
        stream = io.BytesIO()
        picture.save(stream, "PNG" if kind == "png" else "JPEG", **({} if kind == "png" else {"quality": 95}))
        return stream.getvalue(), kind

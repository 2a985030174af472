"""Reading the photo: the first actor of every stage that looks at pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from actors.base import Actor, Row
from sc3d.images import load_photo


class LoadImage(Actor):
    """Reads a photo into the row. The pixels travel with the row, also to actors in other processes; they are never written to the run
    folder, only what later actors derive from them is."""

    requires: ClassVar[Mapping[str, str]] = {"path": "where the image is: a local path or a URI"}
    provides: ClassVar[Mapping[str, str]] = {
        "image": "upright RGB, (H, W, 3) uint8",
        "width": "width of the upright image in pixels",
        "height": "height of the upright image in pixels",
        "cut_out": "the opaque part of a photo that was cut out, (H, W) bool, or None",
    }
    version: ClassVar[str] = "upright-rgb-2"

    def process(self, row: Row) -> Row:
        """Read ``row["path"]``; raises :class:`~sc3d.errors.InputError` for files that cannot be used."""
        image, cut_out = load_photo(row["path"], self.config.dataset.download)
        return {"image": image, "width": image.shape[1], "height": image.shape[0], "cut_out": cut_out}

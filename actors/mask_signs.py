"""Signs that a mask is likely bad, of masks that nobody drew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from actors.base import Actor, Row
from actors.offline.masks import is_from_file
from sc3d.mask_signs import mask_signs


class MaskSigns(Actor):
    """Looks at every mask that was found by a program. One from a file is taken as meant."""

    requires: ClassVar[Mapping[str, str]] = {
        "image": "upright RGB, (H, W, 3) uint8",
        "mask": "object mask, (H, W) bool",
        "mask_path": "mask file of the data set, if it has one",
    }
    provides: ClassVar[Mapping[str, str]] = {"mask_flags": "signs that the mask is bad: see sc3d.mask_signs"}
    version: ClassVar[str] = "mask-signs-1"
    options: ClassVar[tuple[str, ...]] = ("reconstruct.mask",)

    def process(self, row: Row) -> Row:
        """Look at one mask."""
        return {"mask_flags": () if is_from_file(row, self.config) else mask_signs(row["image"], row["mask"])}

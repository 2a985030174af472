"""Signs that a mask is likely bad, of masks that nobody drew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from actors.base import Actor, Row
from sc3d.mask_signs import mask_signs


class MaskSigns(Actor):
    """Looks at every mask: where none comes from a file."""

    requires: ClassVar[Mapping[str, str]] = {"image": "upright RGB, (H, W, 3) uint8", "mask": "object mask, (H, W) bool"}
    provides: ClassVar[Mapping[str, str]] = {"mask_flags": "signs that the mask is bad: see sc3d.mask_signs"}
    version: ClassVar[str] = "mask-signs-1"

    def process(self, row: Row) -> Row:
        """Look at one mask."""
        return {"mask_flags": mask_signs(row["image"], row["mask"])}


class MaskSignsBesideFiles(MaskSigns):
    """Takes a mask from a file as meant, and looks at the others: where files come first."""

    requires: ClassVar[Mapping[str, str]] = {**MaskSigns.requires, "mask_path": "mask file of the data set, if it has one"}

    def process(self, row: Row) -> Row:
        """See :class:`MaskSigns`."""
        return {"mask_flags": ()} if row["mask_path"] is not None else super().process(row)

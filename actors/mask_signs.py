"""What is done with every mask that was found or read: stray pixels are taken out, and signs that it is likely bad are looked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from actors.base import Actor, Row
from sc3d.mask_files import without_specks
from sc3d.mask_signs import mask_signs


class MaskSigns(Actor):
    """Looks at every mask: where none comes from somebody."""

    requires: ClassVar[Mapping[str, str]] = {"image": "upright RGB, (H, W, 3) uint8", "mask": "object mask, (H, W) bool"}
    provides: ClassVar[Mapping[str, str]] = {
        "mask": "object mask without specks, (H, W) bool",
        "mask_flags": "signs that the mask is bad: see sc3d.mask_signs",
    }
    version: ClassVar[str] = "mask-signs-2"

    def process(self, row: Row) -> Row:
        """Look at one mask."""
        mask = without_specks(row["mask"])
        return {"mask": mask, "mask_flags": mask_signs(row["image"], mask)}


class MaskSignsBesideFiles(MaskSigns):
    """Takes a mask that somebody made as meant, and looks for signs in the others: where files come first."""

    requires: ClassVar[Mapping[str, str]] = {
        **MaskSigns.requires,
        "mask_path": "mask file of the data set, if it has one",
        "cut_out": "the opaque part of a photo that was cut out, (H, W) bool, or None",
    }

    def process(self, row: Row) -> Row:
        """See :class:`MaskSigns`."""
        is_given = row["mask_path"] is not None or row["cut_out"] is not None
        return {"mask": without_specks(row["mask"]), "mask_flags": ()} if is_given else super().process(row)

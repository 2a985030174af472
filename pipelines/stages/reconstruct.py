"""images -> mask, mesh, camera, aligned pose -> ``reconstructions/``."""

from __future__ import annotations

import dataclasses

from actors.base import Row
from pipelines.runner.stage import Stage
from sc3d.images import encode_mask
from sc3d.records import ImageRecord, Reconstruction
from sc3d.shards import Shard


class ReconstructStage(Stage):
    """Mask, mesh, camera and aligned pose of each image."""

    name = "reconstruct"
    folder = "reconstructions"
    record = Reconstruction
    slots = ("load", "reconstruct.mask", "mask signs", "reconstruct.mesh", "align")

    def load(self, shard: Shard) -> list[Row]:
        images = self.images
        return [image_row(images[image_id]) for image_id in shard.ids]

    def finish(self, row: Row, seconds: float) -> Reconstruction:
        names = {f.name for f in dataclasses.fields(Reconstruction)}
        values = {k: v for k, v in row.items() if k in names}
        flags = (*row["mask_flags"], *row["flags"])
        return Reconstruction(**{**values, "mask": encode_mask(row["mask"]), "flags": flags, "seconds": seconds})


def image_row(image: ImageRecord) -> Row:
    """The manifest columns of an image as a row."""
    return {f.name: getattr(image, f.name) for f in dataclasses.fields(image)}

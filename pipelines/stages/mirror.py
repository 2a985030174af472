"""photos, mirrored -> 2D features -> ``mirrored/``: for adaptive flip, which also looks at the mirror image of a source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from actors.base import Actor, Row
from pipelines.stages.describe import DescribeStage, FeatureStage
from pipelines.stages.reconstruct import image_row
from sc3d.features import Features
from sc3d.records import FeatureIndex
from sc3d.shards import Shard


class MirrorImage(Actor):
    """Turns a photo into its mirror image, left to right."""

    requires: ClassVar[Mapping[str, str]] = {"image": "upright RGB, (H, W, 3) uint8"}
    provides: ClassVar[Mapping[str, str]] = {"image": "its mirror image"}
    version: ClassVar[str] = "mirror-1"

    def process(self, row: Row) -> Row:
        """Mirror one photo."""
        return {"image": np.ascontiguousarray(row["image"][:, ::-1])}


class MirrorStage(FeatureStage):
    """The 2D features of mirror images, in one file an image, named after the photo. They have no mesh."""

    name = "mirror"
    folder = "mirrored"
    slots = ("load", MirrorImage, "describe.dino", "describe.sd")
    upstream = (DescribeStage,)
    command = "evaluate"

    def load(self, shard: Shard) -> list[Row]:
        return [image_row(self.images[image_id]) for image_id in shard.ids]

    def finish(self, row: Row, seconds: float) -> FeatureIndex:
        original = self.other(DescribeStage).read_features(row["image_id"])
        features = Features(
            image_id=row["image_id"],
            letterbox=original.letterbox,
            foreground=np.ascontiguousarray(original.foreground[:, ::-1]),
            extent=original.extent,
            sources={"dino": row["dino"], **row["sd"]},
        )
        return self.write(features, row["category"], 0, 0, seconds)

"""photos, mirrored -> 2D features -> ``mirrored/``: for adaptive flip, which also looks at the mirror image of a source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from actors.base import Actor, Row
from actors.offline.load import LoadImage
from actors.registry import actor_of
from pipelines.describe import DescribeStage
from pipelines.reconstruct import image_row
from pipelines.stage import Stage
from sc3d.config import RunConfig
from sc3d.features import Features, decode_features, encode_features
from sc3d.records import FeatureIndex, ImageRecord
from sc3d.schema import column_meanings
from sc3d.shards import Shard


class MirrorImage(Actor):
    """Turns a photo into its mirror image, left to right."""

    requires = {"image": "upright RGB, (H, W, 3) uint8"}
    provides = {"image": "its mirror image"}

    @classmethod
    def fingerprint(cls, config: RunConfig) -> Mapping[str, Any]:
        return {"version": "mirror-1"}

    def process(self, row: Row) -> Row:
        return {"image": np.ascontiguousarray(row["image"][:, ::-1])}


class MirrorStage(Stage):
    """The 2D features of mirror images, in one file an image, named after the photo. They have no mesh."""

    name = "mirror"
    folder = "mirrored"
    record = FeatureIndex
    upstream = (DescribeStage,)
    given = column_meanings(ImageRecord)

    def actors(self) -> Sequence[type[Actor]]:
        return LoadImage, MirrorImage, *(actor_of(self.config, slot) for slot in ("describe.dino", "describe.sd"))

    def load(self, shard: Shard) -> list[Row]:
        return [image_row(self.images[image_id]) for image_id in shard.ids]

    @cached_property
    def _described(self) -> DescribeStage:
        return DescribeStage(self.config)

    def feature_file(self, image_id: str) -> str:
        """Name of the feature file of an image's mirror image."""
        return f"{self.artefacts.prefix}/{image_id}.safetensors"

    def read_features(self, image_id: str) -> Features:
        """The features of an image's mirror image. Raises StoreError or SchemaError with the file's name."""
        name = self.feature_file(image_id)
        return decode_features(self.run.read_bytes(name), name)

    def finish(self, row: Row, seconds: float) -> FeatureIndex:
        original = self._described.read_features(row["image_id"])
        features = Features(
            image_id=row["image_id"],
            letterbox=original.letterbox,
            foreground=np.ascontiguousarray(original.foreground[:, ::-1]),
            extent=original.extent,
            sources={"dino": row["dino"], **row["sd"]},
        )
        data = encode_features(features)
        self.run.write_bytes(self.feature_file(row["image_id"]), data)
        return FeatureIndex(row["image_id"], row["category"], int(features.foreground.sum()), 0, 0, len(data), seconds)

"""reconstructions + orientations -> per-image features, surface hits and geodesic balls -> ``features/``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from actors.base import Actor, Row
from actors.registry import actor_of
from pipelines.reconstruct import OrientStage, ReconstructStage, image_row
from pipelines.stage import Stage
from sc3d.features import Features, decode_features, encode_features
from sc3d.geometry.camera import yaw_rotation
from sc3d.images import decode_mask
from sc3d.records import FeatureIndex, ImageRecord
from sc3d.schema import column_meanings
from sc3d.shards import Shard


class DescribeStage(Stage):
    """2D features of both slots, 3D descriptors, surface hits and geodesic balls of each image, in one file an image."""

    name = "describe"
    folder = "features"
    record = FeatureIndex
    upstream = (ReconstructStage, OrientStage)
    given = {
        **column_meanings(ImageRecord),
        "mask": "object mask (H, W) bool",
        "vertices": "canonical mesh, after the yaw correction",
        "faces": "triangles",
        "intrinsics": "K in pixels",
        "rotation": "R that belongs to the turned mesh",
        "scale": "aligned scale",
        "translation": "aligned translation",
    }

    def actors(self) -> Sequence[type[Actor]]:
        return tuple(actor_of(self.config, slot) for slot in ("load", "describe.dino", "describe.sd", "describe.shape", "surface"))

    def load(self, shard: Shard) -> list[Row]:
        images = self.images
        reconstructions = self.made_from(ReconstructStage, shard)
        orientations = self.made_from(OrientStage, shard)
        rows = []
        for image_id in shard.ids:
            one = reconstructions[image_id]
            turn = yaw_rotation(orientations[image_id].turn)
            row = image_row(images[image_id])
            row |= {
                "mask": decode_mask(one.mask),
                "vertices": (one.vertices @ turn.T).astype(np.float32),
                "faces": one.faces,
                "intrinsics": one.intrinsics,
                "rotation": one.rotation @ turn.T,
                "scale": one.scale,
                "translation": one.translation,
            }
            rows.append(row)
        return rows

    def finish(self, row: Row, seconds: float) -> FeatureIndex:
        features = Features(
            image_id=row["image_id"],
            letterbox=row["letterbox"],
            foreground=row["foreground"],
            extent=row["extent"],
            sources={"dino": row["dino"], **row["sd"]},
            shape=row["shape"],
            surface=row["surface"],
        )
        data = encode_features(features)
        self.run.write_bytes(self.feature_file(row["image_id"]), data)
        return FeatureIndex(
            image_id=row["image_id"],
            category=row["category"],
            n_foreground=int(features.foreground.sum()),
            n_covered=int((row["surface"].fill_distance == 0).sum()),
            n_vertices=len(row["vertices"]),
            n_bytes=len(data),
            seconds=seconds,
        )

    def feature_file(self, image_id: str) -> str:
        """Name of an image's feature file."""
        return f"{self.artefacts.prefix}/{image_id}.safetensors"

    def read_features(self, image_id: str) -> Features:
        """The features of an image. Raises StoreError or SchemaError with the file's name."""
        name = self.feature_file(image_id)
        return decode_features(self.run.read_bytes(name), name)

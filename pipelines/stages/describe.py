"""reconstructions + orientations -> per-image features, surface hits and geodesic balls -> ``features/``."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
import pyarrow as pa

from actors.base import Row
from pipelines.runner.stage import Stage
from pipelines.stages.orient import OrientStage
from pipelines.stages.reconstruct import ReconstructStage, image_row
from sc3d.errors import SchemaError
from sc3d.features import FEATURES_VERSION, Features, decode_features, encode_features
from sc3d.geometry.camera import yaw_rotation
from sc3d.images import decode_mask
from sc3d.mask_signs import count_signs
from sc3d.records import LOW_CONFIDENCE, FeatureIndex, ImageRecord
from sc3d.schema import column_meanings
from sc3d.shards import Shard


class FeatureStage(Stage):
    """A stage whose artefacts are a feature file an image, with a row about each."""

    record = FeatureIndex
    version: ClassVar[str] = f"features-{FEATURES_VERSION}"

    def feature_file(self, image_id: str) -> str:
        """Name of an image's feature file: what it was made from is in it, so that no row can point to a file of other inputs."""
        inputs = self.image_inputs(pa.array([image_id]), "inputs")[0]
        return f"{self.artefacts.prefix}/{image_id}.{inputs}.safetensors"

    def read_features(self, image_id: str) -> Features:
        """The features of an image. Raises StoreError, SchemaError or FeatureError with the file's name."""
        name = self.feature_file(image_id)
        features = decode_features(self.run.read_bytes(name), name)
        if features.image_id != image_id:
            raise SchemaError(f"{name}: holds the features of {features.image_id}; delete it and describe again")
        return features

    def write(self, features: Features, category: str, covered: int, vertices: int, seconds: float) -> FeatureIndex:
        """Write a feature file; returns the row about it."""
        data = encode_features(features)
        self.run.write_bytes(self.feature_file(features.image_id), data)
        foreground = int(features.foreground.sum())
        return FeatureIndex(features.image_id, category, foreground, covered, vertices, len(data), seconds)


class DescribeStage(FeatureStage):
    """2D features of both slots, 3D descriptors, surface hits and geodesic balls of each image, in one file an image."""

    name = "describe"
    folder = "features"
    slots = ("load", "describe.dino", "describe.sd", "describe.shape", "surface")
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
        "numbering": "hash of the template that the mesh is numbered as; empty for a mesh of its own",
        "is_sure": "whether pose and orientation count",
        "mask_signs": "how many signs of a bad mask there are",
    }

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
                "numbering": one.numbering,
                "is_sure": LOW_CONFIDENCE not in one.flags and orientations[image_id].counts,
                "mask_signs": count_signs(one.flags),
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
            surface=dataclasses.replace(row["surface"], numbering=row["numbering"], is_sure=row["is_sure"]),
            mask_signs=row["mask_signs"],
        )
        covered = int((row["surface"].fill_distance == 0).sum())
        return self.write(features, row["category"], covered, len(row["vertices"]), seconds)

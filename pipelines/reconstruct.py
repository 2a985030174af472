"""images -> mask, mesh, camera, aligned pose -> ``reconstructions/``, and then the yaw of each mesh -> ``orientations/``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from hashlib import sha256

import numpy as np

from actors.base import Actor, Row
from actors.registry import actor_of, is_rehearsal
from pipelines.stage import Stage
from sc3d.config import RunConfig
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.yaw import render_yaw_views
from sc3d.images import encode_mask
from sc3d.records import ImageRecord, Orientation, Reconstruction
from sc3d.schema import column_meanings
from sc3d.shards import Shard


class ReconstructStage(Stage):
    """Mask, mesh, camera and aligned pose of each image."""

    name = "reconstruct"
    folder = "reconstructions"
    record = Reconstruction
    given = column_meanings(ImageRecord)

    def actors(self) -> Sequence[type[Actor]]:
        return tuple(actor_of(self.config, slot) for slot in ("load", "reconstruct.mask", "reconstruct.mesh", "align"))

    def load(self, shard: Shard) -> list[Row]:
        images = self.images
        return [image_row(images[image_id]) for image_id in shard.ids]

    def finish(self, row: Row, seconds: float) -> Reconstruction:
        names = {f.name for f in dataclasses.fields(Reconstruction)}
        values = {k: v for k, v in row.items() if k in names}
        return Reconstruction(**{**values, "mask": encode_mask(row["mask"]), "seconds": seconds})


def image_row(image: ImageRecord) -> Row:
    """The manifest columns of an image as a row."""
    return {f.name: getattr(image, f.name) for f in dataclasses.fields(image)}


class OrientStage(Stage):
    """The yaw correction of each mesh, by agreement with other meshes of its category."""

    name = "orient"
    folder = "orientations"
    record = Orientation
    by_category = True
    upstream = (ReconstructStage,)
    given = {
        "image_id": "image id",
        "category": "object category",
        "vertices": "welded mesh",
        "faces": "triangles",
        "reference_views": "rendered yaw views of other meshes of the category (R, views, h, w)",
    }

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        self._viewed: tuple[str | None, dict[str, np.ndarray]] = (None, {})

    def actors(self) -> Sequence[type[Actor]]:
        return (actor_of(self.config, "orient.estimator"),)

    def needs_whole_category(self) -> bool:
        return self.config.orient.estimator == "consensus" and not is_rehearsal(self.config)

    def load(self, shard: Shard) -> list[Row]:
        found = self.made_from(ReconstructStage, shard)
        views = self._reference_views(shard.category) if self.needs_whole_category() else {}
        rows: list[Row] = []
        for image_id in shard.ids:
            one = found[image_id]
            references = [view for i, view in views.items() if i != image_id][: self.config.orient.references]
            rows.append(
                {
                    "image_id": image_id,
                    "category": one.category,
                    "vertices": one.vertices,
                    "faces": one.faces,
                    "reference_views": references,
                }
            )
        return rows

    def _reference_views(self, category: str) -> dict[str, np.ndarray]:
        """Image id -> views of its mesh, of the images that the others of the category are compared with.

        One more than wanted, so that an image that is a reference itself still has enough others. Kept until another category comes:
        the shards of one follow each other.
        """
        if self._viewed[0] != category:
            reconstructions = self.inputs[ReconstructStage]
            peers = sorted(self.images.ids_of(category) & reconstructions.located.keys(), key=_shuffled)
            found = reconstructions.read(peers[: self.config.orient.references + 1])
            yaws = [360.0 * view / self.config.orient.views for view in range(self.config.orient.views)]
            views = {i: render_yaw_views(Mesh(one.vertices, one.faces), yaws) for i, one in found.items()}
            self._viewed = category, {i: views[i] for i in peers if i in views}
        return self._viewed[1]

    def finish(self, row: Row, seconds: float) -> Orientation:
        kept = {k: row[k] for k in ("image_id", "category", "turn", "votes", "uncertain", "symmetric")}
        return Orientation(**kept, seconds=seconds)


def _shuffled(image_id: str) -> str:
    return sha256(image_id.encode()).hexdigest()

"""reconstructions -> the yaw of each mesh -> ``orientations/``."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import numpy as np
import pyarrow as pa

from actors.base import Row
from actors.registry import is_rehearsal
from pipelines.runner.stage import Stage
from pipelines.stages.reconstruct import ReconstructStage
from pipelines.stages.render import RenderStage
from sc3d.config import RunConfig
from sc3d.errors import DamagedFileError
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.orientation.category import CategoryCompass, decode_category, orient_category
from sc3d.geometry.yaw import render_yaw_views
from sc3d.records import MeshViews, Orientation
from sc3d.shards import Shard, shard_name

JOINT = ("joint", "joint_normals")
"""The estimators that go by the stage render."""


class OrientStage(Stage):
    """The yaw correction of each mesh, by agreement with other meshes of its category.

    One that was found stays when other images of the category come or change: else each photo more would make everything anew. So does
    what was learned of the category, which lies beside the shards, until there are twice as many meshes to learn from.
    """

    name = "orient"
    folder = "orientations"
    record = Orientation
    by_category = True
    slots = ("orient.estimator",)
    upstream: tuple[type[Stage], ...] = (ReconstructStage,)
    given = {
        "image_id": "image id",
        "category": "object category",
        "vertices": "welded mesh",
        "faces": "triangles",
        "reference_views": "rendered yaw views of other meshes of the category (R, views, h, w)",
        "descriptor": "(8, D) what the mesh looks like all around",
        "numbering": "hash of the template that the mesh is numbered as; empty for a mesh of its own",
        "compass": "what the anchors of the category have taught",
        "anchored": "of an anchor the probabilities (4,) of its turns; None for another mesh",
    }

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        self._is_joint = config.orient.estimator in JOINT
        if self._is_joint:
            self.upstream = (RenderStage,)
        self._viewed: tuple[str | None, dict[str, np.ndarray]] = (None, {})
        self._compasses: dict[str, CategoryCompass] = {}

    def reads(self) -> Sequence[str]:
        if not self.needs_whole_category():
            return ()
        return ("orient.anchors",) if self.whole.orient.estimator in JOINT else ("orient.views", "orient.references")

    def needs_whole_category(self) -> bool:
        return self.whole.orient.estimator in ("consensus", *JOINT) and not is_rehearsal(self.whole)

    def load(self, shard: Shard) -> list[Row]:
        return self._joint_rows(shard) if self._is_joint else self._mesh_rows(shard)

    def _joint_rows(self, shard: Shard) -> list[Row]:
        found: dict[str, MeshViews] = self.made_from(RenderStage, shard)
        if not self.needs_whole_category():
            return [{"image_id": image_id, "category": shard.category} for image_id in shard.ids]
        category = self._compass(shard.category)
        names = dict(zip(shard.ids, self._anchor_names(shard.ids), strict=True))
        return [
            {
                "image_id": image_id,
                "category": one.category,
                "descriptor": one.descriptor,
                "numbering": one.numbering,
                "compass": category.compass,
                "anchored": category.of_anchor.get(names[image_id]),
            }
            for image_id, one in ((image_id, found[image_id]) for image_id in shard.ids)
        ]

    def _compass(self, category: str) -> CategoryCompass:
        """What is known of a category. The first process that needs it solves it; whichever does, the same comes out."""
        if category not in self._compasses:
            views, folder = self.other(RenderStage).known, f"{self.artefacts.prefix}/compasses/{category}"
            peers = sorted(self.images.ids_of(category) & views.located.keys(), key=shuffled)[: self.config.orient.anchors]
            compass = self._newest_compass(folder)
            if compass is None or not compass.serves(len(peers)):
                found = views.read(peers)
                anchors = [found[image_id] for image_id in peers]
                descriptors, forward = np.stack([one.descriptor for one in anchors]), [bool(one.numbering) for one in anchors]
                names = self._anchor_names(peers)
                compass = orient_category(names, descriptors, forward, anchors[0].sharpness, compass)
                # The number of anchors comes first: the newest one has most.
                self.run.write_bytes(f"{folder}/{len(peers):06}-{shard_name(names)}.safetensors", compass.encode())
            self._compasses = {category: compass}
        return self._compasses[category]

    def _newest_compass(self, folder: str) -> CategoryCompass | None:
        names = self.run.names(folder, ".safetensors")
        try:
            return decode_category(self.run.read_bytes(names[-1]), names[-1]) if names else None
        except DamagedFileError:  # it is made again, from the same meshes
            return None

    def _anchor_names(self, ids: Sequence[str]) -> list[str]:
        """Images with what they are made from: of a photo that was changed nothing is known."""
        return [f"{id_} {inputs}" for id_, inputs in zip(ids, self.inputs_of(pa.array(ids, pa.string())).to_pylist(), strict=True)]

    def _mesh_rows(self, shard: Shard) -> list[Row]:
        found = self.made_from(ReconstructStage, shard)
        views = self._reference_views(shard.category) if self.needs_whole_category() else {}
        rows: list[Row] = []
        for image_id in shard.ids:
            one = found[image_id]
            references = [view for i, view in views.items() if i != image_id]
            rows.append(
                {
                    "image_id": image_id,
                    "category": one.category,
                    "vertices": one.vertices,
                    "faces": one.faces,
                    "reference_views": references[: self.config.orient.references] if references else [],
                }
            )
        return rows

    def _reference_views(self, category: str) -> dict[str, np.ndarray]:
        """Image id -> views of its mesh, of the images that the others of the category are compared with.

        One more than wanted, so that an image that is a reference itself still has enough others. Kept until another category comes:
        the shards of one follow each other.
        """
        if self._viewed[0] != category:
            reconstructions = self.other(ReconstructStage).known
            peers = sorted(self.images.ids_of(category) & reconstructions.located.keys(), key=shuffled)
            found = reconstructions.read(peers[: self.config.orient.references + 1])
            yaws = [360.0 * view / self.config.orient.views for view in range(self.config.orient.views)]
            views = {i: render_yaw_views(Mesh(one.vertices, one.faces), yaws) for i, one in found.items()}
            self._viewed = category, {i: views[i] for i in peers if i in views}
        return self._viewed[1]

    def finish(self, row: Row, seconds: float) -> Orientation:
        kept = {k: row[k] for k in ("image_id", "category", "turn", "votes", "uncertain", "symmetric", "posterior")}
        return Orientation(**kept, seconds=seconds)


def shuffled(image_id: str) -> str:
    """A key that draws images by lot, the same ones whatever the order and whichever others there are."""
    return sha256(image_id.encode()).hexdigest()

"""reconstructions -> the yaw of each mesh -> ``orientations/``."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import numpy as np

from actors.base import Row
from actors.registry import is_rehearsal
from pipelines.runner.stage import Stage
from pipelines.stages.reconstruct import ReconstructStage
from sc3d.config import RunConfig
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.yaw import render_yaw_views
from sc3d.records import Orientation
from sc3d.shards import Shard


class OrientStage(Stage):
    """The yaw correction of each mesh, by agreement with other meshes of its category.

    One that was found stays when other images of the category come or change: else each photo more would make everything anew.
    """

    name = "orient"
    folder = "orientations"
    record = Orientation
    by_category = True
    slots = ("orient.estimator",)
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

    def reads(self) -> Sequence[str]:
        return ("orient.views", "orient.references") if self.needs_whole_category() else ()

    def needs_whole_category(self) -> bool:
        return self.whole.orient.estimator == "consensus" and not is_rehearsal(self.whole)

    def load(self, shard: Shard) -> list[Row]:
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

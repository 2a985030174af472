"""reconstructions -> what each mesh looks like all around -> ``renders/``: for the stage orient, where that compares learned features."""

from __future__ import annotations

from actors.base import Row
from pipelines.runner.stage import Stage
from pipelines.stages.reconstruct import ReconstructStage
from sc3d.records import MeshViews
from sc3d.shards import Shard


class RenderStage(Stage):
    """A descriptor of each mesh as seen from all around, by which the stage orient tells its front. None sees another mesh."""

    name = "render"
    folder = "renders"
    record = MeshViews
    by_category = True
    slots = ("render",)
    upstream = (ReconstructStage,)
    given = {
        "image_id": "image id",
        "category": "object category",
        "vertices": "welded mesh",
        "faces": "triangles",
        "numbering": "hash of the template whose numbering of vertices the mesh has; empty for a mesh of its own",
    }

    def load(self, shard: Shard) -> list[Row]:
        found = self.made_from(ReconstructStage, shard)
        return [{name: getattr(found[image_id], name) for name in self.given} for image_id in shard.ids]

    def finish(self, row: Row, seconds: float) -> MeshViews:
        names = ("image_id", "category", "descriptor", "sharpness", "numbering")
        return MeshViews(**{name: row[name] for name in names}, seconds=seconds)

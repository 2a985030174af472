"""What a mesh looks like all around without a network: surface normals and outlines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from actors.base import Actor, Row
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.orientation.pooling import describe_normals


class NormalRenders(Actor):
    """A mesh's descriptor for the stage orient. It tells fronts from backs less well than learned features do."""

    requires: ClassVar[Mapping[str, str]] = {
        "vertices": "(V, 3) welded mesh, canonical frame",
        "faces": "(F, 3) triangles, vertex indices",
    }
    provides: ClassVar[Mapping[str, str]] = {
        "descriptor": "(8, D) what the mesh looks like all around, a row a yaw",
        "sharpness": "how much a difference of scores says with such descriptors in most categories",
    }
    version: ClassVar[str] = "normal-renders-1"
    sharpness: ClassVar[float] = 6.6

    def process(self, row: Row) -> Row:
        """Describe one mesh; raises :class:`~sc3d.errors.GeometryError` if it cannot be rendered."""
        descriptor = describe_normals(Mesh(row["vertices"], row["faces"]))
        return {"descriptor": descriptor.astype(np.float16), "sharpness": self.sharpness}

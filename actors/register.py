"""Registration of a mesh to the references of its category: the actor of the register stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from actors.base import Actor, Row
from sc3d.errors import GeometryError
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.registration.registrable import registrable
from sc3d.geometry.registration.warp import registered


class RegisterActor(Actor):
    """Warps a mesh onto each reference (:mod:`sc3d.geometry.registration`)."""

    requires: ClassVar[Mapping[str, str]] = {
        "vertices": "(V, 3) welded mesh, canonical frame",
        "faces": "(F, 3) triangles, vertex indices",
        "references": "the references, prepared",
    }
    provides: ClassVar[Mapping[str, str]] = {"places": "(R * V, 6) float32, where each of R references puts the vertices"}
    version: ClassVar[str] = "register-1"

    def process(self, row: Row) -> Row:
        """Register one mesh; raises :class:`~sc3d.errors.GeometryError` if it, or every mesh of its category, cannot be used."""
        mesh = registrable(Mesh(row["vertices"], row["faces"]))
        if not row["references"]:
            raise GeometryError("no mesh of the category could be a reference when they were chosen")
        return {"places": np.concatenate(registered(mesh, row["references"]))}

"""Descriptors of mesh vertices without a learned part field.

Spectral signatures and coarse position in the canonical frame say where on a body a vertex is; they know nothing of parts that differ
in meaning but not in shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from actors.base import Actor, Row
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.shape_descriptors import shape_descriptors


class SpectralShape(Actor):
    """The part field's slot: :func:`sc3d.geometry.shape_descriptors.shape_descriptors` of the canonical mesh."""

    requires: ClassVar[Mapping[str, str]] = {
        "vertices": "(V, 3) welded mesh, canonical frame",
        "faces": "(F, 3) triangles, vertex indices",
    }
    provides: ClassVar[Mapping[str, str]] = {"shape": "(V, D) float16 descriptor per vertex"}
    version: ClassVar[str] = "spectral-1"

    def process(self, row: Row) -> Row:
        """Describe one mesh; raises :class:`~sc3d.errors.GeometryError` if it cannot be used."""
        return {"shape": shape_descriptors(Mesh(row["vertices"], row["faces"])).astype(np.float16)}

"""Triangle meshes: validation, welding, cleaning, loading, decimation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sc3d.errors import GeometryError

MIN_FACES = 4


@dataclass(frozen=True)
class Mesh:
    """A validated triangle mesh: ``vertices`` (V, 3) float64, ``faces`` (F, 3) int32. Canonical frame: y up, front +z, unit box.

    Raises:
        GeometryError: non-finite vertices, faces out of range, or fewer than 4 faces. Checked before any native library sees the arrays.
    """

    vertices: np.ndarray
    faces: np.ndarray

    def __post_init__(self) -> None:
        vertices, faces = np.asarray(self.vertices), np.asarray(self.faces)
        if vertices.ndim != 2 or vertices.shape[1] != 3:
            raise GeometryError(f"vertices must have the shape (V, 3), got {vertices.shape}")
        if faces.ndim != 2 or faces.shape[1] != 3:
            raise GeometryError(f"faces must have the shape (F, 3), got {faces.shape}")
        if len(faces) < MIN_FACES:
            raise GeometryError(f"a mesh needs at least {MIN_FACES} faces, got {len(faces)}")
        if not np.isfinite(vertices).all():
            bad = int(np.flatnonzero(~np.isfinite(vertices).all(axis=1))[0])
            raise GeometryError(f"vertex {bad} is not finite; the mesh is broken, reconstruct it again")
        if faces.min() < 0 or faces.max() >= len(vertices):
            raise GeometryError(f"faces refer to vertices 0 to {faces.max()}, but there are {len(vertices)}")
        object.__setattr__(self, "vertices", np.ascontiguousarray(vertices, np.float64))
        object.__setattr__(self, "faces", np.ascontiguousarray(faces, np.int32))

    @cached_property
    def diagonal(self) -> float:
        """Length of the bounding box's diagonal: the unit of geodesic errors."""
        return float(np.linalg.norm(np.ptp(self.vertices, axis=0)))

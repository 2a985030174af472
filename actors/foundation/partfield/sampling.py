"""From a mesh to what PartField sees of it: points spread over the surface, and the vertices, in the network's frame."""

from __future__ import annotations

import numpy as np
import trimesh

from sc3d.errors import GeometryError
from sc3d.geometry.mesh import Mesh, to_unit_box

_LONGEST_SIDE = 1.8
"""Of the box in the network's frame, which is centred at 0."""


def to_network_frame(mesh: Mesh) -> Mesh:
    """The mesh within [-0.9, 0.9] along its longest side, its box centred at 0; the axes stay (y up, as in the GLB files of Objaverse).

    Raises:
        GeometryError: all vertices coincide.
    """
    unit = to_unit_box(mesh)
    return Mesh(unit.vertices * _LONGEST_SIDE, unit.faces)


def sample_surface(mesh: Mesh, count: int, seed: int = 0) -> np.ndarray:
    """Points (count, 3) float32 spread uniformly by area over the surface of ``mesh``; the same for the same seed.

    Raises:
        GeometryError: the faces have no area.
    """
    surface = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    if not surface.area > 0:
        raise GeometryError(f"none of the mesh's {len(mesh.faces)} faces has an area; reconstruct it again")
    points, _ = trimesh.sample.sample_surface(surface, count, seed=seed)
    return np.asarray(points, np.float32)

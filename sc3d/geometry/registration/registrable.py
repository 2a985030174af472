"""A mesh with everything that its registration needs, worked out once however many references it is registered to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sc3d.errors import GeometryError
from sc3d.geometry.mesh import Mesh, vertex_normals
from sc3d.geometry.registration.extremities import Extremities, find_extremities
from sc3d.geometry.sampling import scattered
from sc3d.geometry.shape_descriptors import kernel_signatures
from sc3d.geometry.spectrum import laplacian_spectrum

_SAMPLES = 700
"""Scattered vertices of a mesh that are matched to another."""
_FUNCTIONS = 32
"""Eigenfunctions of a mesh."""


@dataclass(frozen=True, eq=False)
class Registrable:
    """A mesh in the canonical frame (y up, front +z), moved to the centre of its box and scaled to the diagonal 1.

    ``mesh`` with V vertices; unit ``normals`` (V, 3); ``values`` (k,) ascending eigenvalues of its Laplacian and ``functions`` (V, k) its
    eigenfunctions; ``signatures`` (V, 32) heat and wave kernel signatures of unit length; ``samples`` (S,) scattered vertices;
    ``extremities`` its ends.
    """

    mesh: Mesh
    normals: np.ndarray
    values: np.ndarray
    functions: np.ndarray
    signatures: np.ndarray
    samples: np.ndarray
    extremities: Extremities

    @property
    def extent(self) -> np.ndarray:
        """Sides (3,) of its box, none of them 0."""
        return np.maximum(np.ptp(self.mesh.vertices, axis=0), 1e-9)


def registrable(mesh: Mesh) -> Registrable:
    """Work out what the registration of a mesh needs.

    Args:
        mesh: welded, in the canonical frame, any unit.

    Raises:
        GeometryError: all vertices coincide, the mesh has no area, or its Laplacian's spectrum cannot be computed.
    """
    if not 0 < mesh.diagonal < np.inf:
        raise GeometryError(f"no registration of a mesh whose box has the diagonal {mesh.diagonal}")
    middle = (mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0)) / 2
    unit = Mesh((mesh.vertices - middle) / mesh.diagonal, mesh.faces)
    values, functions = laplacian_spectrum(unit, _FUNCTIONS)
    signatures = kernel_signatures(values, functions)
    normals = vertex_normals(unit.vertices, unit.faces)
    return Registrable(unit, normals, values, functions, signatures, scattered(unit.vertices, _SAMPLES), find_extremities(unit))

"""A mesh as functional maps see it: the smooth functions on it, and its descriptors in terms of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sc3d.geometry.spectrum import points_spectrum


@dataclass(frozen=True, eq=False)
class Spectral:
    """The spectral side of a mesh.

    ``values`` (k,) float64 smallest eigenvalues of its Laplacian at total area 1; ``functions`` (V, k) float32 their eigenfunctions;
    ``coefficients`` (k, D) float64 of its D vertex descriptors, each a function on the mesh, in the basis of the eigenfunctions.
    """

    values: np.ndarray
    functions: np.ndarray
    coefficients: np.ndarray

    @property
    def n_bytes(self) -> int:
        """Memory of the arrays."""
        return self.values.nbytes + self.functions.nbytes + self.coefficients.nbytes


def spectral(vertices: np.ndarray, descriptors: np.ndarray, n: int) -> Spectral:
    """The spectral side of a mesh with ``vertices`` (V, 3) and vertex ``descriptors`` (V, D), with ``n`` eigenfunctions, fewer if V < n.

    The vertices alone are needed: a described image does not keep its faces.

    Raises:
        GeometryError: the vertices span no surface, or are fewer than 3.
    """
    values, functions, shares = points_spectrum(vertices, n)
    return Spectral(values, functions.astype(np.float32), functions.T @ (shares[:, None] * descriptors))

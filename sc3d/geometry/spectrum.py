"""The smallest eigenvalues and the eigenfunctions of the Laplacian of a mesh, or of its vertices alone."""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh
from scipy.sparse import coo_matrix, csc_matrix, diags, spmatrix
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import ArpackError, eigsh

from sc3d.errors import GeometryError
from sc3d.geometry.geodesic_graph import bridges
from sc3d.geometry.mesh import Mesh, components

_SEED = 20605
# Factorising the Laplacian takes half a minute at this size; at a million vertices it would take hours and all memory.
_MOST_VERTICES = 50_000
_NEIGHBOURS = 30
"""Points of a local triangulation, as many as Sharp and Crane take."""


def laplacian_spectrum(mesh: Mesh, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The ``n`` smallest eigenvalues (n,) and eigenfunctions (V, n) of the mesh's Laplacian at total area 1; fewer on smaller meshes.

    The cotangent Laplacian of the tufted cover (Sharp and Crane 2020) takes non-manifold and degenerate faces. Components are coupled by
    their closest vertex pairs, so that the smallest eigenvalue alone is 0.

    Raises:
        GeometryError: the mesh has too many vertices or no area, or the eigenvalue solver fails.
    """
    import robust_laplacian

    if len(mesh.vertices) > _MOST_VERTICES:
        raise GeometryError(f"no Laplacian for {len(mesh.vertices)} vertices; decimate the mesh to at most {_MOST_VERTICES}")
    faces = mesh.faces[(mesh.faces != np.roll(mesh.faces, 1, axis=1)).all(axis=1)]
    if len(faces) == 0:
        raise GeometryError("no Laplacian for a mesh whose faces have no area")
    points = mesh.vertices / mesh.diagonal
    stiffness, mass = robust_laplacian.mesh_laplacian(points, faces)
    return _spectrum(points, components(mesh), stiffness, _shares(mass), n)


def points_spectrum(points: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The ``n`` smallest eigenvalues (n,) and eigenfunctions (V, n) of the Laplacian of a surface that is known by ``points`` (V, 3) alone.

    The tufted Laplacian of local triangulations (Sharp and Crane 2020), at total area 1; fewer of both for fewer points. The
    eigenfunctions are orthonormal under the third result: the share (V,) of the area that each point stands for.

    Raises:
        GeometryError: points that are not finite, coincide, lie on a line or are fewer than 3; or the eigenvalue solver fails.
    """
    import robust_laplacian

    points = np.asarray(points, np.float64)
    if not np.isfinite(points).all():
        raise GeometryError("no Laplacian for points that are not finite")
    diagonal = float(np.linalg.norm(np.ptp(points, axis=0))) if len(points) else 0.0
    if len(points) < 3 or diagonal == 0:
        raise GeometryError(f"no Laplacian for {len(points)} points whose box has the diagonal {diagonal}")
    points = points / diagonal
    try:
        stiffness, mass = robust_laplacian.point_cloud_laplacian(points, n_neighbors=min(_NEIGHBOURS, len(points) - 1))
    except RuntimeError as error:
        raise GeometryError(f"no Laplacian for {len(points)} points that span no surface ({error})") from None
    shares = _shares(mass)
    return *_spectrum(points, connected_components(stiffness, directed=False)[1], stiffness, shares, n), shares


def _shares(mass: spmatrix) -> np.ndarray:
    # An unreferenced vertex has no mass, which would make its eigenvalue infinite.
    return np.maximum(mass.diagonal() / mass.diagonal().sum(), 1e-9)


def _spectrum(
    points: np.ndarray, labels: np.ndarray, stiffness: spmatrix, shares: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray]:
    pairs = bridges(points, labels, 0.0)
    coupling = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=stiffness.shape)
    coupling = coupling + coupling.T
    degree = np.asarray(coupling.sum(axis=1)).ravel()
    inverse_root = 1 / np.sqrt(shares)
    # The symmetric form with the mass folded in: a plain eigenproblem whose lower bound is 0.
    symmetric = csc_matrix(diags(inverse_root) @ (stiffness + diags(degree) - coupling) @ diags(inverse_root))
    return _smallest(symmetric, n, inverse_root)


def _smallest(symmetric: csc_matrix, n: int, inverse_root: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    size = symmetric.shape[0]
    try:
        if size <= 4 * n:
            values, vectors = eigh(symmetric.toarray(), subset_by_index=[0, min(n, size) - 1])
        else:
            # A shift below the spectrum makes the matrix definite. The start is seeded, so that the answer repeats, and random, since on a
            # symmetric mesh a symmetric one misses eigenfunctions.
            start = np.random.default_rng(_SEED).standard_normal(size)
            values, vectors = eigsh(symmetric, n, sigma=-0.1, which="LM", v0=start)
    except (ArpackError, np.linalg.LinAlgError, RuntimeError, ValueError) as error:
        raise GeometryError(f"the Laplacian's spectrum cannot be computed ({error}); clean the mesh first") from None
    order = np.argsort(values)
    return np.maximum(values[order], 0), vectors[:, order] * inverse_root[:, None]

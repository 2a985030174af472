"""The warp of one mesh onto another: smooth displacements, coarse ones first, that follow robust matches both ways."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.spatial import cKDTree

from sc3d.geometry.mesh import vertex_normals
from sc3d.geometry.registration.extremities import match_extremities
from sc3d.geometry.registration.registrable import Registrable

# All numbers were chosen on toys and sample meshes before they met others.
_STAGES = (4, 6, 9, 13, 18, 24, 30)
"""Eigenfunctions that a displacement is made of, stage by stage."""
_ITERATIONS = 3
_NORMAL_WEIGHT = 0.2
_RIGIDITY = 2e-3
_RIGIDITY_AT = 10
"""The eigenvalue that the penalty of the others is relative to."""
_PLACE_NORMAL_WEIGHT = 0.05

Guide = tuple[np.ndarray, np.ndarray, tuple[float, float, float]]
"""What beside place and normal tells where on a body a vertex is, of a mesh (V, n) and of the reference (W, n), and how its weight begins,
falls from stage to stage, and ends."""


def rigid_guide(mesh: Registrable, reference: Registrable) -> Guide:
    """Heat and wave kernel signatures: for things without joints."""
    return mesh.signatures, reference.signatures, (0.2, 0.7, 0.04)


def articulated_guide(mesh: Registrable, reference: Registrable) -> Guide:
    """These, and the geodesic distances to matched extremities: for bodies that move."""
    order, _ = match_extremities(mesh.extremities, reference.extremities)
    mine, theirs = mesh.extremities.coordinates(order), reference.extremities.coordinates(np.arange(len(order)))
    return np.hstack([mesh.signatures, mine]), np.hstack([reference.signatures, theirs]), (0.2, 0.6, 0.02)


def warp(
    mesh: Registrable,
    reference: Registrable,
    guided: Callable[[Registrable, Registrable], Guide] = rigid_guide,
) -> np.ndarray:
    """The vertices (V, 3) of ``mesh``, in mesh diagonals, moved onto ``reference``.

    The box is stretched to the reference's. Then matches of scattered vertices, both ways, in the space of place, normal and guide pull
    the mesh; each is weighted by ``1 / (1 + (d / 2 median d)^2)`` of its distance there. The displacement is the ridge regression of the
    pulls on the mesh's own smoothest functions, rough ones penalised by their eigenvalue.
    """
    mine, theirs, (weight, fall, least) = guided(mesh, reference)
    start = mesh.mesh.vertices * (reference.extent / mesh.extent)
    goal = reference.mesh.vertices
    moved = start
    for count in _STAGES:
        there = np.hstack([goal, _NORMAL_WEIGHT * reference.normals, weight * theirs])
        tree = cKDTree(there)
        functions, values = mesh.functions[:, :count], mesh.values[:count]
        for _ in range(_ITERATIONS):
            normals = vertex_normals(moved, mesh.mesh.faces)
            here = np.hstack([moved, _NORMAL_WEIGHT * normals, weight * mine])
            out, nearest = tree.query(here[mesh.samples])
            back, pulled = _tree(here).query(there[reference.samples])
            rows = np.concatenate([mesh.samples, pulled])
            targets = np.concatenate([goal[nearest], goal[reference.samples]])
            moved = start + functions @ _fit(
                functions[rows], _rigidity(mesh.values, values), targets - start[rows], np.concatenate([out, back])
            )
        weight = max(weight * fall, least)
    return np.asarray(moved)


def places(mesh: Registrable, warped: np.ndarray) -> np.ndarray:
    """What is compared of two meshes that were warped onto one reference: (V, 6) places and a twentieth of the normals."""
    return np.hstack([warped, _PLACE_NORMAL_WEIGHT * vertex_normals(warped, mesh.mesh.faces)])


def _tree(points: np.ndarray) -> cKDTree:
    # Asked once: a tree that is made faster beats one that answers faster.
    return cKDTree(points, compact_nodes=False, balanced_tree=False)


def _rigidity(all_values: np.ndarray, values: np.ndarray) -> np.ndarray:
    unit = max(float(all_values[min(_RIGIDITY_AT, len(all_values) - 1)]), 1e-12)
    return np.asarray(_RIGIDITY * values / unit)


def _fit(functions: np.ndarray, rigidity: np.ndarray, pulls: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Coefficients (k, 3) of the displacement from ``functions`` (n, k) at the n matches, their ``pulls`` (n, 3) and ``distances`` (n,)."""
    scale = max(2 * float(np.median(distances)), 1e-9)
    weighted = functions / (1 + (distances / scale) ** 2)[:, None]
    penalty = np.diag(len(functions) * (functions**2).mean() * rigidity)
    # Fewer matched places than functions leave some of these undecided; the least norm then decides.
    return np.asarray(np.linalg.lstsq(weighted.T @ functions + penalty, weighted.T @ pulls, rcond=None)[0])

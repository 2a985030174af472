"""The warp of one mesh onto another: smooth displacements, coarse ones first, that follow robust matches both ways."""

from __future__ import annotations

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

_GUIDE_WEIGHT, _GUIDE_FALL, _GUIDE_LEAST = 0.2, 0.6, 0.02
"""How much of the matching space the guide is at first, by what it falls from stage to stage, and where it ends."""


def warp(mesh: Registrable, reference: Registrable) -> np.ndarray:
    """The vertices (V, 3) of ``mesh``, in mesh diagonals, moved onto ``reference``.

    The box is stretched to the reference's. Then matches of scattered vertices, both ways, in the space of place, normal and guide pull
    the mesh; each is weighted by ``1 / (1 + (d / 2 median d)^2)`` of its distance there. The displacement is the ridge regression of the
    pulls on the mesh's own smoothest functions, rough ones penalised by their eigenvalue.

    The guide tells where on a body a vertex is, however that bends: kernel signatures, and geodesic distances to matched extremities.
    """
    order, _ = match_extremities(mesh.extremities, reference.extremities)
    mine = np.hstack([mesh.signatures, mesh.extremities.coordinates(order)])
    theirs = np.hstack([reference.signatures, reference.extremities.coordinates(np.arange(len(order)))])
    weight = _GUIDE_WEIGHT
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
        weight = max(weight * _GUIDE_FALL, _GUIDE_LEAST)
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

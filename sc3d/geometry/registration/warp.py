"""The warp of one mesh onto another: smooth displacements, coarse ones first, that follow robust matches both ways."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree

from sc3d.geometry.mesh import vertex_normals
from sc3d.geometry.registration.extremities import match_extremities
from sc3d.geometry.registration.registrable import Registrable

# All numbers were chosen on toys and sample meshes before they met others. More than one iteration a stage, and less rigidity, follow what
# one body has and the other lacks: of mixed toys 4 % fewer vertices then correspond.
_STAGES = (4, 6, 9, 13, 18, 24, 30)
"""Eigenfunctions that a displacement is made of, stage by stage."""
_NORMAL_WEIGHT = 0.2
_RIGIDITY = 2e-2
_RIGIDITY_AT = 10
"""The eigenvalue that the penalty of the others is relative to."""
_PLACE_NORMAL_WEIGHT = 0.05

_GUIDE_CHANNELS = 8
"""Principal ones that the guide is reduced to: trees of few dimensions answer twice as fast, and say the same."""
_GUIDE_WEIGHT, _GUIDE_FALL, _GUIDE_LEAST = 0.2, 0.6, 0.02
"""How much of the matching space the guide is at first, by what it falls from stage to stage, and where it ends."""


def warp(mesh: Registrable, reference: Registrable) -> np.ndarray:
    """The vertices (V, 3) of ``mesh``, in mesh diagonals, moved onto ``reference``.

    The box is stretched to the reference's. Then matches of scattered vertices, both ways, in the space of place, normal and guide pull
    the mesh; each is weighted by ``1 / (1 + (d / 2 median d)^2)`` of its distance there. The displacement is the ridge regression of the
    pulls on the mesh's own smoothest functions, rough ones penalised by their eigenvalue.

    The guide tells where on a body a vertex is, however that bends: kernel signatures, and geodesic distances to matched extremities.
    """
    mine, theirs = _guide(mesh, reference)
    weight = _GUIDE_WEIGHT
    start = mesh.mesh.vertices * (reference.extent / mesh.extent)
    goal = reference.mesh.vertices
    moved = start
    for count in _STAGES:
        here = np.hstack([moved, _NORMAL_WEIGHT * vertex_normals(moved, mesh.mesh.faces), weight * mine])
        there = np.hstack([goal, _NORMAL_WEIGHT * reference.normals, weight * theirs])
        out, nearest = _tree(there).query(here[mesh.samples])
        back, pulled = _tree(here).query(there[reference.samples])
        rows = np.concatenate([mesh.samples, pulled])
        pulls = np.concatenate([goal[nearest], goal[reference.samples]]) - start[rows]
        functions = mesh.functions[:, :count]
        fitted = _fit(functions[rows], _rigidity(mesh.values, count), pulls, np.concatenate([out, back]))
        moved = start + functions @ fitted
        weight = max(weight * _GUIDE_FALL, _GUIDE_LEAST)
    return np.asarray(moved)


def _guide(mesh: Registrable, reference: Registrable) -> tuple[np.ndarray, np.ndarray]:
    """What tells where on a body a vertex is, of both meshes: (V, 8) and (W, 8)."""
    order, _ = match_extremities(mesh.extremities, reference.extremities)
    mine = np.hstack([mesh.signatures, mesh.extremities.coordinates(order)])
    theirs = np.hstack([reference.signatures, reference.extremities.coordinates(np.arange(len(order)))])
    middle = theirs.mean(axis=0)
    both = np.vstack([mine, theirs]) - middle
    axes = np.linalg.eigh(both.T @ both)[1][:, -_GUIDE_CHANNELS:]
    return (mine - middle) @ axes, (theirs - middle) @ axes


def places(mesh: Registrable, warped: np.ndarray) -> np.ndarray:
    """What is compared of two meshes that were warped onto one reference: (V, 6) places and a twentieth of the normals."""
    return np.hstack([warped, _PLACE_NORMAL_WEIGHT * vertex_normals(warped, mesh.mesh.faces)])


def registered(mesh: Registrable, references: Sequence[Registrable]) -> np.ndarray:
    """Where each of R references puts the vertices of ``mesh``: :func:`places` (R, V, 6) float32."""
    return np.stack([places(mesh, warp(mesh, reference)) for reference in references]).astype(np.float32)


def _tree(points: np.ndarray) -> cKDTree:
    # Asked once: a tree that is made faster beats one that answers faster.
    return cKDTree(points, compact_nodes=False, balanced_tree=False)


def _rigidity(values: np.ndarray, count: int) -> np.ndarray:
    unit = max(float(values[min(_RIGIDITY_AT, len(values) - 1)]), 1e-12)
    return np.asarray(_RIGIDITY * values[:count] / unit)


def _fit(functions: np.ndarray, rigidity: np.ndarray, pulls: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Coefficients (k, 3) of the displacement from ``functions`` (n, k) at the n matches, their ``pulls`` (n, 3) and ``distances`` (n,)."""
    scale = max(2 * float(np.median(distances)), 1e-9)
    weighted = functions / (1 + (distances / scale) ** 2)[:, None]
    penalty = np.diag(len(functions) * (functions**2).mean() * rigidity)
    # Fewer matched places than functions leave some of these undecided; the least norm then decides.
    return np.asarray(np.linalg.lstsq(weighted.T @ functions + penalty, weighted.T @ pulls, rcond=None)[0])

"""Which meshes of a category the others are registered to."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.spatial import cKDTree

from sc3d.geometry.mesh import Mesh
from sc3d.geometry.sampling import scattered

COUNT = 3
"""References of a category. The median of what they say is right where one of them is an odd body."""

_POINTS = 400


def choose_references(meshes: Mapping[str, Mesh], count: int = COUNT) -> list[str]:
    """The ``count`` most central of some meshes of one category, all of them where there are no more; the most central first.

    The distance of two meshes is the mean distance of scattered points of each from the nearest of the other, with both boxes stretched to
    one: what a registration has to bridge after its own first step.

    Args:
        meshes: id -> mesh in the canonical frame.
    """
    ids = sorted(meshes)
    clouds = [_boxed(meshes[id_]) for id_ in ids]
    trees = [cKDTree(cloud) for cloud in clouds]
    totals = np.zeros(len(ids))
    for tree in trees:
        totals += [tree.query(cloud)[0].mean() for cloud in clouds]
    for cloud in clouds:
        totals += [tree.query(cloud)[0].mean() for tree in trees]
    return [ids[i] for i in np.argsort(totals, kind="stable")[:count]]


def _boxed(mesh: Mesh) -> np.ndarray:
    """Scattered points (n, 3) of a mesh, in shares of its box from the centre."""
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    points = mesh.vertices[scattered(mesh.vertices, _POINTS)]
    return np.asarray((points - (low + high) / 2) / np.maximum(high - low, 1e-9))

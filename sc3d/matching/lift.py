"""Lifting matched cells onto the posed meshes (3D-SC, stage 2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sc3d.features import Surface
from sc3d.matching.described import Described


@dataclass(frozen=True)
class Lifted:
    """Matches of a pair on both surfaces.

    ``index`` (K,) rows of the matches that could be lifted; ``source_hits``, ``target_hits`` (K,) rows of each image's surface.
    """

    index: np.ndarray
    source_hits: np.ndarray
    target_hits: np.ndarray


def lift(source: Described, target: Described, source_rows: np.ndarray, target_rows: np.ndarray) -> Lifted:
    """Lift matches between rows of ``source.cells`` and ``target.cells``, both (N,).

    A match is dropped if either image has no mesh or one whose pose is not sure, or the cell has no hit of its own and no covered cell
    within one cell.
    """
    if source.mesh is None or target.mesh is None or not (source.mesh.surface.is_sure and target.mesh.surface.is_sure):
        nothing = np.zeros(0, np.int64)
        return Lifted(nothing, nothing, nothing)
    source_hits, target_hits = source.mesh.hits[source_rows], target.mesh.hits[target_rows]
    index = np.flatnonzero((source_hits >= 0) & (target_hits >= 0))
    return Lifted(index, source_hits[index], target_hits[index])


def spread(n: int, rows: np.ndarray, values: np.ndarray, elsewhere: float) -> np.ndarray:
    """(n,) of the type of ``values`` (K,): those at ``rows`` (K,), and ``elsewhere`` in all others."""
    result = np.full(n, elsewhere, values.dtype)
    result[rows] = values
    return result


def interpolated(values: np.ndarray, surface: Surface, hits: np.ndarray) -> np.ndarray:
    """What vertices have, ``values`` (V, C), at surface ``hits`` (K,): (K, C) float64."""
    corners = values[surface.corners[hits]].astype(np.float64)
    return np.asarray((corners * surface.barycentric[hits][..., None]).sum(axis=1))


def positions(surface: Surface, hits: np.ndarray) -> np.ndarray:
    """Canonical positions (K, 3) float64 of surface ``hits`` (K,), centred on the mesh's box and in units of its diagonal."""
    points = interpolated(surface.vertices, surface, hits)
    low, high = surface.vertices.min(axis=0), surface.vertices.max(axis=0)
    return (points - (low.astype(np.float64) + high) / 2) / surface.diagonal

"""The ends of a body that moves (feet, head, tail), found by geodesic distance, and which of them are the same on two bodies."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np

from sc3d.geometry.geodesic import Geodesic
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.sampling import scattered

COUNT = 6
"""Of a quadruped: four feet, head and tail."""
_PROBES = 24
"""Scattered vertices that the mean geodesic distance of a vertex is measured to."""
_PLACE_WEIGHT = 2.0
_ORDERS = np.array(list(permutations(range(COUNT))))


@dataclass(frozen=True, eq=False)
class Extremities:
    """The ends of a mesh, :data:`COUNT` of them, those first that lie farthest from the rest.

    ``distances`` (V, 6) float32 geodesic from each vertex to each end; ``mutual`` (6, 6) between the ends, over the mean distance of the
    mesh; ``places`` (6, 3) from the centre of the box, over its longest side.
    """

    distances: np.ndarray
    mutual: np.ndarray
    places: np.ndarray

    def coordinates(self, order: np.ndarray) -> np.ndarray:
        """Geodesic distances (V, 6) to the ends in an order (6,), each over its largest: places on a body, however that bends."""
        largest = np.maximum(self.distances.max(axis=0), 1e-12)
        return np.asarray((self.distances / largest)[:, order])


def find_extremities(mesh: Mesh) -> Extremities:
    """The ends of a mesh in the canonical frame: first the vertex that is farthest from all, then each time the one farthest from those.

    Raises:
        GeometryError: all vertices coincide.
    """
    solver = Geodesic(mesh)
    mean = solver.distances(scattered(mesh.vertices, _PROBES)).mean(axis=0)
    ends = [int(mean.argmax())]
    distances = [solver.distances(np.array(ends))[0]]
    while len(ends) < COUNT:
        ends.append(int(np.min(distances, axis=0).argmax()))
        distances.append(solver.distances(np.array(ends[-1:]))[0])
    stacked = np.stack(distances, axis=1)
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    places = (mesh.vertices[ends] - (low + high) / 2) / (high - low).max()
    return Extremities(stacked, stacked[ends] / mean.mean(), places)


def match_extremities(one: Extremities, reference: Extremities) -> tuple[np.ndarray, float]:
    """The order (6,) in which the ends of ``one`` are those of ``reference``, and its cost.

    The cost is the mean change of the distances between ends, in mean distances of each mesh, plus twice the mean distance of their
    places, in longest sides; all 720 orders are tried. The places tell left from right, which no distance along a surface can.
    """
    mutual = one.mutual[_ORDERS[:, :, None], _ORDERS[:, None, :]]
    bent = np.abs(mutual - reference.mutual).mean(axis=(1, 2))
    moved = np.linalg.norm(one.places[_ORDERS] - reference.places, axis=2).mean(axis=1)
    costs = bent + _PLACE_WEIGHT * moved
    best = int(costs.argmin())
    return _ORDERS[best], float(costs[best])

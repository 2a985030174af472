"""Dense truth: of every surface point of a toy the name of its part and where within that part it lies.

Points of two toys correspond if they lie at the same place: on the part of the same name, at the same coordinates of its chart
(:mod:`sc3d.datasets.toys.charts`). Left and right parts have different names; a part that only one of two toys has corresponds to
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from sc3d.datasets.toys.charts import Chart, chart_of
from sc3d.datasets.toys.shapes import Shape, mirrored
from sc3d.datasets.toys.toy import Toy, side_name
from sc3d.geometry.mesh import Mesh

REACH = 0.5
"""Coordinates differ by at most this much where two points correspond. Farther ones are of what only one toy has, as the walls of a bed."""


@dataclass(frozen=True, eq=False)
class Places:
    """Where N points lie: ``part`` (N,) int16, index into ``names``; ``within`` (N, 3) float32, coordinates in that part's chart."""

    names: tuple[str, ...]
    part: np.ndarray
    within: np.ndarray

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, rows: np.ndarray) -> Places:
        return Places(self.names, self.part[rows], self.within[rows])

    def part_in(self, names: tuple[str, ...]) -> np.ndarray:
        """The parts (N,) int64 as indices into other ``names``, -1 where they are not among them."""
        table = np.array([names.index(name) if name in names else -1 for name in self.names], np.int64)
        return table[self.part]


def places_of(toy: Toy, points: np.ndarray) -> Places | None:
    """The places of toy points (N, 3) on or near the toy's surface; ``None`` for a toy whose parts have no names.

    A point is the nearest part's, as its paint is; inside a zone on that part it is the zone's, the last one's of several.
    """
    if not all(part.name for part in toy.parts):
        return None
    points = np.asarray(points, np.float64)
    nearest, owner = np.full(len(points), np.inf), np.zeros(len(points), np.int64)
    for index, part in enumerate(toy.parts):
        distance = part.shape.distance(_folded(points, part.mirrored))
        closer = distance < nearest
        nearest[closer], owner[closer] = distance[closer], index
    on = np.array([part.name for part in toy.parts])[owner]
    charts: list[tuple[str, Shape, Chart | None]] = [(part.name, part.shape, part.chart) for part in toy.parts]
    for zone in toy.zones:
        inside = (on == zone.on) & (zone.shape.distance(_folded(points, zone.mirrored)) < 0)
        owner[inside] = len(charts)
        charts.append((zone.name, zone.shape, zone.chart))
    names, within = np.empty(len(points), object), np.empty((len(points), 3), np.float32)
    for index in np.unique(owner):
        rows = np.flatnonzero(owner == index)
        name, shape, chart = charts[index]
        # What is mirrored and has one name is one part over both sides, as the posts of a backrest are.
        both = "*" in name
        within[rows] = (chart or chart_of(shape)).within(_folded(points[rows], both))
        left = points[rows, 0] >= 0
        names[rows] = np.where(left, side_name(name, 1), side_name(name, -1)) if both else name
    known, part = np.unique(names.astype(str), return_inverse=True)
    return Places(tuple(known.tolist()), part.astype(np.int16), within)


def _folded(points: np.ndarray, both: bool) -> np.ndarray:
    return mirrored(points) if both else points


class PlacedMesh:
    """A mesh whose vertices have places, ready to be asked for the point at a place.

    Args:
        mesh: with V vertices, in any frame.
        places: of its vertices (V,).
    """

    def __init__(self, mesh: Mesh, places: Places) -> None:
        self.mesh, self.places = mesh, places
        points, known = self._samples()
        self._points = points
        self._search = PlaceSearch(known)

    def at(self, faces: np.ndarray, barycentric: np.ndarray) -> Places:
        """The places of surface points: face (N,) and barycentric coordinates (N, 3). Across a border of parts, the nearest corner's
        part counts, with the coordinates of its own corners."""
        corners = self.mesh.faces[faces]
        part = self.places.part[corners]
        chosen = part[np.arange(len(faces)), barycentric.argmax(axis=1)]
        weights = np.where(part == chosen[:, None], barycentric, 0)
        weights = weights / weights.sum(axis=1, keepdims=True)
        within = np.einsum("nk,nkc->nc", weights, self.places.within[corners])
        return Places(self.places.names, chosen, within.astype(np.float32))

    def find(self, places: Places) -> np.ndarray:
        """The surface points (N, 3) at places (N,) of another toy; NaN where this one lacks the part, or has nothing of it within
        :data:`REACH`."""
        rows, distance = self._search.nearest(places)
        return np.where((distance <= REACH)[:, None], self._points[rows], np.nan)

    def _samples(self) -> tuple[np.ndarray, Places]:
        """Vertices, and the middles of edges and faces that lie in one part: points (S, 3) and their places."""
        edges, faces = self.mesh.edges, self.mesh.faces
        points, parts, within = [self.mesh.vertices], [self.places.part], [self.places.within]
        for corners in (edges, faces):
            part = self.places.part[corners]
            whole = corners[(part == part[:, :1]).all(axis=1)]
            points.append(self.mesh.vertices[whole].mean(axis=1))
            parts.append(self.places.part[whole[:, 0]])
            within.append(self.places.within[whole].mean(axis=1))
        return np.concatenate(points), Places(self.places.names, np.concatenate(parts), np.concatenate(within))


class PlaceSearch:
    """Finds, among known places (S,), the one of the same part with the nearest coordinates."""

    def __init__(self, known: Places) -> None:
        self.names = known.names
        self._rows = [np.flatnonzero(known.part == index) for index in range(len(known.names))]
        self._trees = [cKDTree(known.within[rows]) if len(rows) else None for rows in self._rows]

    def nearest(self, places: Places) -> tuple[np.ndarray, np.ndarray]:
        """The nearest known place (N,) of each place (N,), and the distance (N,) of their coordinates; 0 and ``inf`` without the part."""
        row, distance = np.zeros(len(places), np.int64), np.full(len(places), np.inf)
        part = places.part_in(self.names)
        for index, tree in enumerate(self._trees):
            asked = np.flatnonzero(part == index)
            if tree is not None and len(asked):
                distance[asked], found = tree.query(places.within[asked])
                row[asked] = self._rows[index][found]
        return row, distance

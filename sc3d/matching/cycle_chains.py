"""Chains of three matches around a triangle of images, and where on the surface of the first image they end.

A match from image A to B is followed by one from B to C and one from C back to A. Were all three right, the chain would end where it began;
that it does not can be seen without annotation. Each leg back takes its pair as it was planned, or the other direction turned round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from sc3d.features import Surface
from sc3d.geometry.geodesic import lookup
from sc3d.grid import SIDE
from sc3d.matching.fusion import surface_rows

STEP = 1.5
"""A chain goes on from the nearest matched cell, which is at most this many cells away: the cell itself, or one of the eight around it."""

_SPREAD = 64


@dataclass(frozen=True, eq=False)
class CellMatches:
    """N matches of an ordered pair: ``source_cells``, ``target_cells`` (N,) int64, flat cells of the working grid."""

    source_cells: np.ndarray
    target_cells: np.ndarray

    def reverse(self) -> CellMatches:
        """From the target to the source; of several that begin at one cell then, the one that ends at the lowest."""
        order = np.lexsort((self.source_cells, self.target_cells))
        first = order[np.unique(self.target_cells[order], return_index=True)[1]]
        return CellMatches(self.target_cells[first], self.source_cells[first])


@dataclass(frozen=True, eq=False)
class SeenSurface:
    """What an image shows of its mesh: the flat ``cells`` (M,) that show it, and the ``distance`` of two arrays of cells, both (N,): (N,),
    along the surface, in its diagonals; ``inf``: far, or not on it."""

    cells: np.ndarray
    distance: Callable[[np.ndarray, np.ndarray], np.ndarray]

    @classmethod
    def of(cls, surface: Surface) -> SeenSurface:
        """Distances between the dominant vertices of cells, by the stored geodesic balls."""

        def distance(cells: np.ndarray, others: np.ndarray) -> np.ndarray:
            rows, ends = surface_rows(surface, cells), surface_rows(surface, others)
            away = np.full(len(rows), np.inf)
            on = (rows >= 0) & (ends >= 0)
            away[on] = lookup(surface.balls, surface.dominant[rows[on]], surface.dominant[ends[on]]) / surface.diagonal
            return away

        return cls(surface.cells, distance)


class Triangle(NamedTuple):
    """Chains begin with the matches of the pair (``first``, ``second``) and come back by way of ``third``."""

    first: str
    second: str
    third: str


class ChainCounts(NamedTuple):
    """Of a triangle: the ``chains`` that could be followed to their end; of them those that end ``open``, farther from their start than
    allowed; and how many would if they ended anywhere on what is seen of the object, ``by_chance``."""

    triangle: Triangle
    chains: int
    open: int
    by_chance: float


def triangles_of(pairs: Iterable[tuple[str, str]], most: int, seed: int = 0) -> list[Triangle]:
    """The triangles around the ordered pairs of one category, the legs back in either direction; at most so many, drawn by lot.

    The draw follows from the set of pairs and the seed alone. It takes one triangle of each pair before a second one of any.
    """
    known = sorted(set(pairs))
    beside: dict[str, set[str]] = {}
    for source, target in known:
        beside.setdefault(source, set()).add(target)
        beside.setdefault(target, set()).add(source)
    rng = np.random.default_rng(seed)
    found: list[list[Triangle]] = []
    for row in rng.permutation(len(known)):
        source, target = known[row]
        thirds = sorted(beside[source] & beside[target])
        if thirds and len(found) < most:
            found.append([Triangle(source, target, thirds[i]) for i in rng.permutation(len(thirds))[:most]])
    deepest = max(map(len, found), default=0)
    return [one[depth] for depth in range(deepest) for one in found if depth < len(one)][:most]


def count_chains(
    matches: Mapping[tuple[str, str], CellMatches],
    triangles: Sequence[Triangle],
    surfaces: Callable[[str], SeenSurface],
    allowed: float,
) -> list[ChainCounts]:
    """Follow the chains of each triangle.

    Args:
        matches: (source id, target id) -> the matches of that pair that count.
        surfaces: of the first images.
        allowed: distance from its start up to which a chain is closed, in mesh diagonals.
    """
    legs: dict[tuple[str, str], _Leg] = {}

    def leg(source: str, target: str) -> _Leg:
        if (source, target) not in legs:
            own = matches.get((source, target))
            legs[source, target] = _Leg(own if own is not None else matches[target, source].reverse())
        return legs[source, target]

    counts = []
    for triangle in triangles:
        first, second, third = triangle
        begun, surface = matches[first, second], surfaces(first)
        ends, at = begun.target_cells, np.arange(len(begun.target_cells))
        for way in (leg(second, third), leg(third, first)):
            ends, found = way.follow(ends)
            at = at[found]
        starts = begun.source_cells[at]
        n_open = int((surface.distance(starts, ends) > allowed).sum())
        counts.append(ChainCounts(triangle, len(starts), n_open, _open_by_chance(surface, starts, allowed)))
    return counts


def _open_by_chance(surface: SeenSurface, starts: np.ndarray, allowed: float) -> float:
    spread = np.linspace(0, len(surface.cells) - 1, min(len(surface.cells), _SPREAD)).astype(np.int64)
    anywhere = surface.cells[spread]
    away = surface.distance(np.repeat(starts, len(anywhere)), np.tile(anywhere, len(starts)))
    return float((away > allowed).sum()) / max(len(anywhere), 1)


class _Leg:
    """Matches that are looked up by the cell that they begin at."""

    def __init__(self, matches: CellMatches) -> None:
        order = np.lexsort((matches.target_cells, matches.source_cells))
        self._targets = matches.target_cells[order]
        self._tree = cKDTree(_positions(matches.source_cells[order])) if len(order) else None

    def follow(self, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the matches nearest to ``cells`` (N,) lead (M,), and which of the cells (M,) have one near enough."""
        if self._tree is None or not len(cells):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        away, row = self._tree.query(_positions(cells), distance_upper_bound=STEP)
        found = np.flatnonzero(np.isfinite(away))
        return self._targets[row[found]], found


def _positions(cells: np.ndarray) -> np.ndarray:
    return np.stack([cells % SIDE, cells // SIDE], axis=1).astype(np.float64)

"""Is a label right? Every pixel of two generated photos against the dense truth of their toys, not only annotated keypoints.

The source pixel is cast onto the true source mesh, which gives its place (:mod:`sc3d.datasets.toys.places`). The right pixel is where the
target photo shows that place, or, where it is out of sight, the nearest place of the same part that is in sight: just behind the horizon
that is next to it. Where the photo shows nothing of the part, no pixel is right, and a label that is kept nevertheless is wrong; to leave
it out would hide that left parts are taken for right ones, since one of them is mostly out of sight. A place that the target toy does not
have, as that of a pickup's bed on a van, cannot be judged: nobody says where a bed lies on a van.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from sc3d.datasets.toys.places import PlacedMesh, Places, PlaceSearch
from sc3d.datasets.toys.truth import ToyTruth
from sc3d.errors import InputError
from sc3d.geometry.raster import Raster

PART_MARGIN = 0.03
"""A label lands on another part if its own is farther away than this, in longest sides of the box: about one cell of the working grid."""


@dataclass(frozen=True, eq=False)
class Judged:
    """N labels of a pair. Distances are pixels of the target over the longest side of the box around its visible toy.

    ``known`` (N,) bool: there is a truth: the source pixel shows the toy, and the target toy has that place. ``error`` (N,): how far the
    label is from the right pixel; ``part_error`` (N,): from the nearest pixel of the right part. Both are ``inf`` where the target photo
    shows nothing of the part, and NaN where nothing is known.
    """

    known: np.ndarray
    error: np.ndarray
    part_error: np.ndarray

    def wrong(self, alpha: float) -> int:
        """Labels that are wrong at PCK@``alpha``: not nearer than that to the right pixel."""
        return int((~(self.error[self.known] < alpha)).sum())

    @property
    def wrong_part(self) -> int:
        """Labels that land on another part."""
        return int((self.part_error[self.known] > PART_MARGIN).sum())


class SeenToy:
    """What a photo shows of a toy with dense truth: the place behind every pixel of its visible mask.

    Raises:
        InputError: the truth has no places, or the photo shows nothing of the toy.
    """

    def __init__(self, truth: ToyTruth) -> None:
        if truth.places is None:
            raise InputError("these toys have no dense truth; generate mixed ones")
        self.truth, self.placed = truth, PlacedMesh(truth.mesh, truth.places)
        self._raster = Raster(truth.mesh)
        rows, columns = np.nonzero(truth.mask)
        self.xy, self.places = self._shown(np.column_stack([columns, rows]) + 0.5)[1:]
        if not len(self.xy):
            raise InputError("the photo shows nothing of its toy")
        self.size = float(np.ptp(self.xy, axis=0).max() + 1)
        self.search = PlaceSearch(self.places)

    def places_at(self, xy: np.ndarray) -> tuple[np.ndarray, Places]:
        """Which pixels (N, 2) show the toy (N,), and the places (M,) of those that do."""
        column_row = np.floor(xy).astype(np.int64)
        height, width = self.truth.mask.shape
        inside = ((column_row >= 0) & (column_row < [width, height])).all(axis=1)
        shown = np.zeros(len(xy), bool)
        shown[inside] = self.truth.mask[column_row[inside, 1], column_row[inside, 0]]
        hit, _, places = self._shown(np.asarray(xy, np.float64)[shown])
        shown[shown] = hit
        return shown, places

    def _shown(self, xy: np.ndarray) -> tuple[np.ndarray, np.ndarray, Places]:
        hits = self._raster.cast(self.truth.pose, self.truth.camera, xy)
        met = hits.face >= 0
        return met, xy[met], self.placed.at(hits.face[met], hits.barycentric[met])


def judge_labels(source: SeenToy, target: SeenToy, source_xy: np.ndarray, target_xy: np.ndarray) -> Judged:
    """Judge labels from ``source_xy`` to ``target_xy`` (N, 2), pixels of the two photos."""
    known, places = source.places_at(source_xy)
    has = np.isfinite(target.placed.find(places)).all(axis=1)
    known[known] = has
    places = places[has]
    error, part_error = np.full(len(source_xy), np.nan), np.full(len(source_xy), np.nan)
    row, distance = target.search.nearest(places)
    at = np.asarray(target_xy, np.float64)[known]
    away = np.linalg.norm(at - target.xy[row], axis=1) / target.size
    error[known] = np.where(np.isfinite(distance), away, np.inf)
    part_error[known] = _to_part(target, places.part_in(target.places.names), at)
    return Judged(known, error, part_error)


def _to_part(target: SeenToy, part: np.ndarray, xy: np.ndarray) -> np.ndarray:
    distance = np.full(len(part), np.inf)
    for index in np.unique(part[part >= 0]):
        seen, asked = target.xy[target.places.part == index], np.flatnonzero(part == index)
        if len(seen):
            distance[asked] = cKDTree(seen).query(xy[asked])[0] / target.size
    return distance


def share_over_pairs(wrong: Iterable[int], judged: Iterable[int], draws: int = 2000) -> tuple[float, float, float]:
    """The share of wrong ones among the judged labels of P pairs in per cent, and the 95 % interval of it when other pairs had been drawn.

    The bootstrap draws whole pairs: labels of one pair are wrong together. All are NaN if nothing was judged.
    """
    w, j = np.asarray(list(wrong), np.float64), np.asarray(list(judged), np.float64)
    if not j.sum():
        return float("nan"), float("nan"), float("nan")
    chosen = np.random.default_rng(0).integers(0, len(w), (draws, len(w)))
    totals = j[chosen].sum(axis=1)
    shares = w[chosen].sum(axis=1)[totals > 0] / totals[totals > 0]
    low, high = np.percentile(shares, (2.5, 97.5))
    return 100 * float(w.sum() / j.sum()), 100 * float(low), 100 * float(high)

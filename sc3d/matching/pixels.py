"""Verification of anybody's matches: pixels of two photos, lifted to the posed meshes where they are, without a grid.

The method is that of a run (:mod:`sc3d.matching.verify`); at the centres of the working grid's cells, errors are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import distance_transform_edt

from sc3d.arrays import checked_array
from sc3d.errors import ConfigError, InputError
from sc3d.features import Surface
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.posed_mesh import PosedMesh
from sc3d.matching.described import DescribedSurface
from sc3d.matching.fusion import interpolate_shape
from sc3d.matching.lift import Lifted, spread
from sc3d.matching.pairing import BALL_RADIUS, Pairing, PairTransfer
from sc3d.matching.search import VertexIndex
from sc3d.matching.thresholds import passes_geodesic
from sc3d.matching.verify import bicyclic_error

SOURCE_PIXEL, TARGET_PIXEL = "source pixel", "target pixel"
"""What rejects a match with a pixel outside its photo, or that is not finite."""
SOURCE_SURFACE, TARGET_SURFACE = "source surface", "target surface"
"""What rejects a match whose pixel shows nothing of the mesh."""
GEODESIC = "geodesic"


@dataclass(frozen=True, eq=False)
class PixelMatches:
    """N matches and what both meshes say of them, in the order in which they were given. All arrays have N rows.

    ``geodesic_error`` (N,) float32: the bicyclic geodesic error in mesh diagonals; ``inf`` where a pixel meets no mesh, or where one of
    its two halves is beyond 0.4 diagonals. ``rejected_by`` (N,) text: what rejects a match first, ``source pixel`` or ``target pixel``
    (outside the photo, or not finite), ``source surface`` or ``target surface`` (its ray misses the mesh), ``geodesic``; empty where it is
    kept. ``source_vertex``, ``target_vertex`` (N,): the vertex nearest to what each pixel shows; ``predicted_target``,
    ``predicted_source`` (N,): where the meshes put these on each other; -1 where nothing is known.
    """

    geodesic_error: np.ndarray
    rejected_by: np.ndarray
    source_vertex: np.ndarray
    target_vertex: np.ndarray
    predicted_target: np.ndarray
    predicted_source: np.ndarray

    def __len__(self) -> int:
        return len(self.geodesic_error)

    @property
    def keep(self) -> np.ndarray:
        """Which matches (N,) bool are verified."""
        return np.asarray(self.rejected_by == "")


def verify(
    source: PosedMesh,
    target: PosedMesh,
    source_xy: Any,
    target_xy: Any,
    *,
    tau_geo: float = 0.05,
    transfer: PairTransfer = "registration",
    references: Sequence[Mesh] = (),
    reach: float = 0.0,
) -> PixelMatches:
    """Verify matches of any origin and number on the meshes of both photos, by their bicyclic geodesic error (3D-SC, stage 2).

    Args:
        source, target: the meshes where the photos show them, in frames that agree (:class:`~sc3d.geometry.posed_mesh.PosedMesh`).
        source_xy, target_xy: (N, 2) pixels of the photos, x to the right and first, the first pixel's centre at (0.5, 0.5); NumPy arrays,
            tensors or lists. Row i of both is match i.
        tau_geo: largest error, in mesh diagonals, of a match that is kept.
        transfer, references: how a place is found on the other mesh, see :class:`~sc3d.matching.pairing.Pairing`.
        reach: a pixel that misses the mesh, by at most so many pixels, stands for the nearest one that does not. 0: a miss is a miss.

    Raises:
        InputError: the pixels have another shape, or are not as many on both sides.
        ConfigError: an unknown transfer, or ``tau_geo`` or ``reach`` is out of range.
        GeometryError: a mesh is not welded, or cannot be registered.
        FeatureError: descriptors are not finite.
    """
    xy = [checked_array(one, name, ("N", 2)) for one, name in ((source_xy, "source_xy"), (target_xy, "target_xy"))]
    if len(xy[0]) != len(xy[1]):
        raise InputError(f"source_xy has {len(xy[0])} pixels and target_xy {len(xy[1])}; row i of both is match i")
    if not (0 < tau_geo < np.inf and 0 <= reach < np.inf):
        raise ConfigError(f"tau_geo must be above 0 and reach at least 0, both finite, got {tau_geo} and {reach}")
    pairing = Pairing(source, target, transfer, references)
    radius = max(BALL_RADIUS, 2 * tau_geo)
    sides = [_Lift.of(one, pixels, radius, reach) for one, pixels in zip((source, target), xy, strict=True)]
    at = np.flatnonzero(sides[0].met & sides[1].met)
    rows = [side.rows[at] for side in sides]
    meshes = [_described(pairing, one, side.surface) for one, side in zip((source, target), sides, strict=True)]
    there, back, error = bicyclic_error(meshes[0], meshes[1], Lifted(at, *rows), pairing.transfer)
    n = len(xy[0])
    errors = spread(n, at, error, np.inf)
    tests = {
        SOURCE_PIXEL: sides[0].inside,
        TARGET_PIXEL: sides[1].inside,
        SOURCE_SURFACE: sides[0].met,
        TARGET_SURFACE: sides[1].met,
        GEODESIC: passes_geodesic(errors, tau_geo),
    }
    return PixelMatches(
        geodesic_error=errors,
        rejected_by=np.select([~passed for passed in tests.values()], list(tests), default=""),
        source_vertex=sides[0].vertices,
        target_vertex=sides[1].vertices,
        predicted_target=spread(n, at, there, -1),
        predicted_source=spread(n, at, back, -1),
    )


@dataclass(frozen=True, eq=False)
class _Lift:
    """N pixels of a photo: which are ``inside`` it, which ``met`` the mesh, and the row of each in ``surface``, -1 without one."""

    inside: np.ndarray
    met: np.ndarray
    rows: np.ndarray
    surface: Surface

    @classmethod
    def of(cls, posed: PosedMesh, xy: np.ndarray, radius: float, reach: float) -> _Lift:
        xy = xy.astype(np.float64)
        size = np.array([posed.camera.width, posed.camera.height])
        inside = np.asarray(((xy >= 0) & (xy <= size)).all(axis=1))
        aimed = np.where(inside[:, None], xy, np.nan)
        if reach > 0:
            aimed = _reaching(posed, aimed, reach)
        met, surface = posed.pixel_surface(aimed, radius)
        return cls(inside, met, np.where(met, np.cumsum(met) - 1, -1), surface)

    @property
    def vertices(self) -> np.ndarray:
        """The dominant vertex (N,) of each pixel, -1 without one."""
        return spread(len(self.met), np.flatnonzero(self.met), self.surface.dominant.astype(np.int64), -1)


def _reaching(posed: PosedMesh, xy: np.ndarray, reach: float) -> np.ndarray:
    """The pixels (N, 2), those that miss the mesh moved to the nearest pixel that shows it, where that is within ``reach``."""
    camera = posed.camera
    seen = posed.raster.render(posed.pose, camera, camera.width, camera.height).mask
    missed = np.flatnonzero(posed.raster.cast(posed.pose, camera, xy).face < 0)
    missed = missed[np.isfinite(xy[missed]).all(axis=1)]
    if not seen.any() or not len(missed):
        return xy
    nearest = distance_transform_edt(~seen, return_distances=False, return_indices=True)
    column, row = np.minimum(xy[missed].astype(np.int64), (camera.width - 1, camera.height - 1)).T
    centres = nearest[::-1, row, column].T + 0.5
    near = np.linalg.norm(centres - xy[missed], axis=1) <= reach
    moved = xy.copy()
    moved[missed[near]] = centres[near]
    return moved


def _described(pairing: Pairing, posed: PosedMesh, surface: Surface) -> DescribedSurface:
    """The mesh side of a photo, of which each pixel that met the mesh is a row."""
    rows = np.arange(len(surface.cells))
    # A stand-in where nobody asks: those of a shape take a spectrum, which not every mesh has.
    descriptors = posed.vertex_descriptors if pairing.asks_descriptors else np.zeros((len(posed.mesh.vertices), 1), np.float16)
    queries = interpolate_shape(descriptors, surface, rows)
    return DescribedSurface(pairing.numbered(surface), rows, queries, VertexIndex(descriptors), pairing.places(posed))

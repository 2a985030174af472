"""Geometric verification of matches: the bicyclic geodesic error (3D-SC, stage 2).

``d = 1/2 (d_Mt(vhat_t, vbar_t) / diag(Mt) + d_Ms(vhat_s, vbar_s) / diag(Ms))``: vbar is the dominant vertex of the hit that a match was
lifted to, vhat the vertex that the other mesh predicts. Since d is the mean of two non-negative terms, a term over twice the threshold
rejects by itself; so geodesic balls of that radius around the dominant vertices decide exactly as full distances would.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sc3d.errors import FeatureError, GeometryError
from sc3d.geometry.geodesic import lookup
from sc3d.matching.described import Described, DescribedSurface
from sc3d.matching.lift import Lifted
from sc3d.matching.transfer import Transfer


@dataclass(frozen=True)
class Verified:
    """The evidence of K lifted matches: ``error`` (K,) float32 in mesh diagonals, ``inf`` if a prediction is outside its ball;
    ``predicted_target``, ``predicted_source`` (K,) vertices vhat, -1 where the first term had already rejected the match."""

    error: np.ndarray
    predicted_target: np.ndarray
    predicted_source: np.ndarray


def check_radius(image: Described, limit: float) -> None:
    """Raise :class:`FeatureError` unless the image's balls are large enough to decide errors up to ``limit`` mesh diagonals."""
    if image.mesh is None:
        return
    radius = image.mesh.surface.balls.radius / image.mesh.surface.diagonal
    if radius < 2 * limit * (1 - 1e-6):
        raise FeatureError(
            f"{image.image_id}: its geodesic balls reach {radius:.3f} mesh diagonals, but tau_geo = {limit} needs {2 * limit:.3f}; "
            f"describe again with describe.ball_radius at least {2 * limit:.3f}, or lower tau_geo"
        )


def bicyclic_error(
    source: Described, target: Described, lifted: Lifted, transfer: Transfer, limit: float | None = None
) -> Verified:
    """The bicyclic geodesic error of lifted matches.

    Args:
        limit: widest error of interest, in mesh diagonals. The way back is not searched for matches whose first term alone exceeds it;
            their error is ``inf``. ``None`` searches both ways for all.

    Raises:
        FeatureError: a dominant vertex has no ball.
    """
    k = len(lifted.index)
    forward, backward = np.full(k, -1, np.int64), np.full(k, -1, np.int64)
    if k == 0 or source.mesh is None or target.mesh is None:
        return Verified(np.zeros(k, np.float32), forward, backward)
    forward = transfer.predict(lifted.source_hits, source.mesh, target.mesh)
    first = _term(target, target.mesh, lifted.target_hits, forward)
    open_ = np.flatnonzero(first <= 2 * limit * (1 + 1e-6)) if limit is not None else np.arange(k)
    error = np.full(k, np.inf)
    if len(open_):
        backward[open_] = transfer.predict(lifted.target_hits[open_], target.mesh, source.mesh)
        second = _term(source, source.mesh, lifted.source_hits[open_], backward[open_])
        error[open_] = (first[open_] + second) / 2
    return Verified(error.astype(np.float32), forward, backward)


def _term(image: Described, mesh: DescribedSurface, hits: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    try:
        distance = lookup(mesh.surface.balls, mesh.surface.dominant[hits], predicted)
    except GeometryError as error:
        raise FeatureError(f"{image.image_id}: {error}") from None
    return distance.astype(np.float64) / mesh.surface.diagonal

"""Geometric verification (3D-SC, stage 2): the bicyclic geodesic error of matches, and of the candidates of a pair.

``d = 1/2 (d_Mt(vhat_t, vbar_t) / diag(Mt) + d_Ms(vhat_s, vbar_s) / diag(Ms))``: vbar is the dominant vertex of the hit that a match was
lifted to, vhat the vertex that the other mesh predicts. Since d is the mean of two non-negative terms, a term over twice the threshold
rejects by itself; so geodesic balls of that radius around the dominant vertices decide exactly as full distances would.

A registration adds to each term the gap that it leaves between the hit and vhat: where it could not bring two bodies together, it is a poor
witness.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sc3d.config import MatchConfig
from sc3d.errors import FeatureError, GeometryError
from sc3d.geometry.geodesic import lookup
from sc3d.matching.candidates import Candidates, find_candidates, within_cycle
from sc3d.matching.described import Described, DescribedSurface
from sc3d.matching.lift import Lifted, lift, spread
from sc3d.matching.template_prior import reprojection_errors, share_pose
from sc3d.matching.transfer import Transfer, predict_with_gap, transfers_between


@dataclass(frozen=True)
class Verified:
    """What both meshes say of N matches; of one without a hit on both surfaces nothing: -1 and ``inf``. All arrays have N rows.

    ``source_hits``, ``target_hits`` (N,) rows of each image's surface; ``predicted_target``, ``predicted_source`` (N,) vertices vhat, -1
    where the way was not searched; ``error`` (N,) float32 in mesh diagonals, ``inf`` if a prediction is outside its ball;
    ``reprojects`` (N,) whether the reprojection error is within the limit of the images, if they have one
    (:func:`~sc3d.matching.template_prior.reprojection_errors`).
    """

    source_hits: np.ndarray
    target_hits: np.ndarray
    predicted_target: np.ndarray
    predicted_source: np.ndarray
    error: np.ndarray
    reprojects: np.ndarray

    @property
    def evidence(self) -> np.ndarray:
        """The error (N,) of what reprojects, ``inf`` for the others: what labels are decided by."""
        return np.where(self.reprojects, self.error, np.float32(np.inf))


@dataclass(frozen=True)
class VerifiedPair:
    """The candidates of a pair, and what both meshes say of P of them, whose ascending rows are ``searched`` (P,)."""

    candidates: Candidates
    searched: np.ndarray
    verified: Verified

    @property
    def geodesic_error(self) -> np.ndarray:
        """The error of each candidate (N,) float32 in mesh diagonals, ``inf`` for those that were not searched or do not reproject."""
        return spread(len(self.candidates), self.searched, self.verified.evidence, np.inf)


def verify_pair(source: Described, target: Described, transfer: Transfer, limit: MatchConfig | None = None) -> VerifiedPair:
    """A pair from its images to the errors of its candidates: candidates, relaxed cycle, lifting, transfer, bicyclic error, in order.

    Args:
        limit: the widest thresholds of interest. What is beyond the cycle threshold is not lifted, and the way back is not searched for
            what the way there rejects alone. ``None`` searches both ways for all.

    Raises:
        FeatureError: the images were described by different recipes, or a dominant vertex has no ball.
    """
    candidates = find_candidates(source, target)
    if limit is None:
        searched, widest = np.arange(len(candidates)), None
    else:
        searched, widest = np.flatnonzero(within_cycle(source, candidates.cycle_error, limit.tau_cc)), limit.tau_geo
    rows = candidates.source_rows[searched], candidates.target_rows[searched]
    return VerifiedPair(candidates, searched, verify_matches(source, target, *rows, transfer, widest))


def verify_matches(
    source: Described,
    target: Described,
    source_rows: np.ndarray,
    target_rows: np.ndarray,
    transfer: Transfer,
    limit: float | None = None,
) -> Verified:
    """Lift matches between rows of ``source.cells`` and ``target.cells``, both (N,), and compute their bicyclic geodesic error.

    Args:
        limit: widest error of interest, in mesh diagonals. The way back is not searched for matches whose first term alone exceeds it;
            their error is ``inf``. ``None`` searches both ways for all.

    Raises:
        FeatureError: a dominant vertex has no ball.
    """
    lifted = lift(source, target, source_rows, target_rows)
    n, at = len(source_rows), lifted.index
    there, back, error = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)
    if source.mesh is not None and target.mesh is not None:
        try:
            there, back, error = bicyclic_error(source.mesh, target.mesh, lifted, transfer, limit)
        except GeometryError as problem:
            raise FeatureError(f"{source.image_id} and {target.image_id}: {problem}") from None
    return Verified(
        source_hits=spread(n, at, lifted.source_hits, -1),
        target_hits=spread(n, at, lifted.target_hits, -1),
        predicted_target=spread(n, at, there, -1),
        predicted_source=spread(n, at, back, -1),
        error=spread(n, at, error, np.inf),
        reprojects=_reprojects(source, target, source_rows, target_rows),
    )


def _reprojects(source: Described, target: Described, source_rows: np.ndarray, target_rows: np.ndarray) -> np.ndarray:
    posed, limit = share_pose(source.template, target.template), source.tau_reprojection
    if limit == 0 or posed is None:
        return np.ones(len(source_rows), bool)
    errors = reprojection_errors(source.cells[source_rows], posed[0], target.cells[target_rows], posed[1])
    return np.asarray(errors <= np.float32(limit))


def check_radii(source: Described, target: Described, limit: float) -> None:
    """Raise :class:`FeatureError` unless the balls of both images are large enough to decide errors up to ``limit`` mesh diagonals."""
    for image in (source, target):
        if image.mesh is None:
            continue
        radius = image.mesh.surface.balls.radius / image.mesh.surface.diagonal
        if radius < 2 * limit * (1 - 1e-6):
            raise FeatureError(
                f"{image.image_id}: its geodesic balls reach {radius:.3f} mesh diagonals, but tau_geo = {limit} needs {2 * limit:.3f}; "
                f"describe again with describe.ball_radius at least {2 * limit:.3f}, or lower tau_geo"
            )


def bicyclic_error(
    source: DescribedSurface, target: DescribedSurface, lifted: Lifted, transfer: Transfer, limit: float | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The vertices predicted on the target and back on the source, and the float32 errors of K lifted matches; see :class:`Verified`.

    Where several transfers are asked, of each match what the one with the median error says: one that is wrong there does not count.

    Args:
        limit: as of :func:`verify_matches`.

    Raises:
        FeatureError: the meshes were not registered.
        GeometryError: a dominant vertex has no ball.
    """
    k = len(lifted.index)
    if k == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)
    asked = transfers_between(source, target, transfer)
    answers = [_ask(source, target, lifted, one, limit) for one in asked]
    there, back, errors = (np.stack(parts) for parts in zip(*answers, strict=True))
    middle = np.argsort(errors, axis=0, kind="stable")[(len(asked) - 1) // 2], np.arange(k)
    return there[middle], back[middle], errors[middle].astype(np.float32)


def _ask(
    source: DescribedSurface, target: DescribedSurface, lifted: Lifted, transfer: Transfer, limit: float | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What one transfer predicts there and back, and the float64 errors."""
    k = len(lifted.index)
    back, error = np.full(k, -1, np.int64), np.full(k, np.inf)
    there, gap = predict_with_gap(transfer, lifted.source_hits, source, target)
    first = _term(target, lifted.target_hits, there) + gap
    open_ = np.flatnonzero(first <= 2 * limit * (1 + 1e-6)) if limit is not None else np.arange(k)
    if len(open_):
        back[open_], gap = predict_with_gap(transfer, lifted.target_hits[open_], target, source)
        second = _term(source, lifted.source_hits[open_], back[open_]) + gap
        error[open_] = (first[open_] + second) / 2
    return there, back, error


def _term(mesh: DescribedSurface, hits: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    distance = lookup(mesh.surface.balls, mesh.surface.dominant[hits], predicted)
    return distance.astype(np.float64) / mesh.surface.diagonal

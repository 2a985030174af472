"""Yaw canonicalisation: find out whether a mesh is turned by a quarter turn about its vertical axis, and undo it (3D-SC, stage 1).

A mesh is rendered at known yaws (0, 45, .. 315 degrees). An :class:`OrientationEstimator` says for each view which yaw it shows, and each
view votes for the quarter turn that explains the difference (:func:`vote_yaw`). Yaw 0 shows the front; positive yaws turn the front (+z)
towards +x (:func:`~sc3d.geometry.camera.yaw_rotation`), which is the right side of the view.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sc3d.errors import GeometryError, InputError
from sc3d.geometry.camera import Camera, Pose, yaw_rotation
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.raster import Raster

YAWS = tuple(range(0, 360, 45))
TURNS = (0, 90, 180, 270)
ABSTAIN = -1
# The camera looks down on the object by so many degrees: from the side alone, front and back have mirrored outlines.
_ELEVATION = 15.0
# Distance of the camera in object sizes, and the part of the view that the object's bounding sphere fills.
_DISTANCE, _FILL = 4.0, 0.95
# The consensus describes a view on a grid of this side. Cosines closer than the second number are equal for it: on procedural categories
# a solid of revolution stays within 0.002 over a full turn, while a bus, nearly the same from front and back, differs by 0.012 and more.
_GRID = 16
_PRACTICALLY_EQUAL = 0.005
# Unrelated shapes have cosines of 0.3 to 0.4 at any yaw.
_LEAST_AGREEMENT = 0.4


@dataclass(frozen=True)
class OrientationEstimates:
    """What an estimator says about n views.

    ``yaw_degrees`` (n,) float: the yaw that each view shows, in [0, 360). ``symmetry`` (n,) int: 0 no reliable front, 1 one front, 2 or 4
    the object looks the same after a half or a quarter turn, and the yaw is one of the equal ones.
    """

    yaw_degrees: np.ndarray
    symmetry: np.ndarray


class OrientationEstimator(Protocol):
    """Tells the yaw of rendered views."""

    def estimate(self, views: np.ndarray) -> OrientationEstimates:
        """Estimates for ``views`` (n, h, w), rendered by :func:`render_yaw_views`."""


class OracleEstimator:
    """Knows the yaws that n views show, and is wrong by a random quarter turn in a share ``error_rate`` of them, independently.

    For tests and simulations. The same seed gives the same errors.
    """

    def __init__(self, yaw_degrees: np.ndarray, error_rate: float = 0.0, seed: int = 0) -> None:
        self.yaw_degrees, self.error_rate, self.seed = np.asarray(yaw_degrees, np.float64), error_rate, seed

    def estimate(self, views: np.ndarray) -> OrientationEstimates:
        """The known yaws, some of them wrong. Raises :class:`~sc3d.errors.InputError` for another number of views."""
        n = len(self.yaw_degrees)
        if len(views) != n:
            raise InputError(f"the yaws of {n} views are known, got {len(views)} views")
        rng = np.random.default_rng(self.seed)
        wrong = rng.random(n) < self.error_rate
        yaw = (self.yaw_degrees + np.where(wrong, rng.choice(TURNS[1:], n), 0)) % 360
        return OrientationEstimates(yaw, np.ones(n, np.int64))


class ConsensusEstimator:
    """Tells the yaw of a view by comparing it with other meshes of the category, most of which are turned rightly.

    A view is described by its surface normals and its outline on a coarse grid. Its agreement with a yaw is the median over the
    references of the cosine with their views at that yaw, so that a minority of wrongly turned references has no say. Yaws whose
    agreement is practically equal to the best one's make the symmetry. Needs no training, and cannot be better than the category is
    uniform.

    Args:
        reference_views: (R, V, h, w), views of R **other** meshes, rendered by :func:`render_yaw_views` at the yaws ``360 k / V``. The own
            mesh must not be among them: it agrees best with itself as it is. With R = 0 no view has a reliable front.

    Raises:
        InputError: the shape is not (R, V, h, w).
    """

    def __init__(self, reference_views: np.ndarray) -> None:
        views = np.asarray(reference_views, np.float32)
        if views.size and views.ndim != 4:
            raise InputError(f"reference views must have the shape (R, V, h, w), got {views.shape}")
        self.references = describe_views(views) if views.size else None

    def estimate(self, views: np.ndarray) -> OrientationEstimates:
        """Estimates for ``views`` (n, h, w) of the references' size.

        Raises:
            InputError: the views have another size than the references'.
        """
        views = np.asarray(views, np.float32)
        if self.references is None:
            return OrientationEstimates(np.zeros(len(views)), np.zeros(len(views), np.int64))
        described = describe_views(views)
        if described.shape[-1] != self.references.shape[-1]:
            raise InputError(f"views of {views.shape[1:]} pixels do not compare with the references', which have another size")
        return estimates_from_agreement(np.median(np.einsum("id,rjd->irj", described, self.references), axis=1))


def estimates_from_agreement(agreement: np.ndarray) -> OrientationEstimates:
    """What the agreement (n, V) of n views with the yaws ``360 k / V`` says about them."""
    views, n = agreement.shape
    best = agreement.argmax(axis=1)
    symmetry = np.ones(views, np.int64)
    for order in (2, 4):
        if n % order == 0:
            turned = (best[:, None] + np.arange(order) * (n // order)) % n
            equal = agreement[np.arange(views), best] - np.take_along_axis(agreement, turned, axis=1).min(axis=1)
            symmetry[equal < _PRACTICALLY_EQUAL] = order
    # A view that agrees with nothing shows no front.
    symmetry[agreement.max(axis=1) < _LEAST_AGREEMENT] = 0
    return OrientationEstimates(best * 360.0 / n, symmetry)


def describe_views(views: np.ndarray) -> np.ndarray:
    """Unit descriptors (..., D) of nearness maps (..., h, w): surface normals and coverage, averaged over a coarse grid."""
    size = views.shape[-1]
    if views.shape[-2] != size or size % _GRID:
        raise InputError(f"views must be square with a side that {_GRID} divides, got {views.shape[-2:]}")
    covered = (views > 0).astype(np.float32)
    down, right = np.gradient(views, axis=(-2, -1))
    # Nearness 1 is two sphere radii, and so is nearly the whole side of the image.
    normals = np.stack([-right * size, -down * size, np.ones_like(views)], axis=-1)
    normals *= (covered / np.linalg.norm(normals, axis=-1))[..., None]
    channels = np.concatenate([normals, 0.5 * covered[..., None]], axis=-1)
    cell = size // _GRID
    coarse = channels.reshape(*views.shape[:-2], _GRID, cell, _GRID, cell, channels.shape[-1]).mean(axis=(-4, -2))
    flat = coarse.reshape(*views.shape[:-2], -1)
    return flat / np.maximum(np.linalg.norm(flat, axis=-1, keepdims=True), 1e-12)


@dataclass(frozen=True)
class YawVote:
    """The outcome of :func:`vote_yaw`.

    ``turn``: degrees that the mesh is to be turned by, one of 0, 90, 180, 270. ``votes`` (n,) int32: what each view asks for, -1
    abstains. ``uncertain``: a tie, or too few agreeing votes, so the mesh is left alone. ``symmetric``: no view has exactly one front; if
    such an object is turned at all, then by the least of the equivalent turns, and never if all quarter turns look the same.
    """

    turn: int
    votes: np.ndarray
    uncertain: bool
    symmetric: bool


def vote_yaw(estimated: np.ndarray, known: np.ndarray, symmetry: np.ndarray | None = None, min_votes: int = 4) -> YawVote:
    """The quarter turn that most views ask for.

    A view that shows yaw ``estimated`` where ``known`` was rendered asks for the turn d in {0, 90, 180, 270} with the least circular
    ``|estimated + d - known|``. A view with symmetry k asks for all turns equal to d up to 360 / k, so one with symmetry 4 for none in
    particular; these, views without a reliable front, estimates that are not finite, and exact halves abstain.

    Args:
        estimated: yaw of each view in degrees (n,).
        known: yaw that each view was rendered at (n,).
        symmetry: order of each view's symmetry (n,), as in :class:`OrientationEstimates`; none: one front everywhere.
        min_votes: fewer agreeing votes leave the mesh alone.

    Raises:
        InputError: lengths differ, there is no view, or an order of symmetry is unknown.
    """
    estimated, known = np.asarray(estimated, np.float64), np.asarray(known, np.float64)
    order = np.ones(len(estimated), np.int64) if symmetry is None else np.asarray(symmetry)
    if estimated.ndim != 1 or not len(estimated) or estimated.shape != known.shape or order.shape != known.shape:
        raise InputError(
            f"one estimate, yaw and symmetry a view are needed, got {estimated.shape}, {known.shape} and {order.shape}"
        )
    if not np.isin(order, (0, 1, 2, 4)).all():
        raise InputError(f"the order of a symmetry is 0, 1, 2 or 4, got {sorted(set(order.tolist()))}")
    usable = np.isfinite(estimated) & np.isfinite(known)
    votes = np.full(len(estimated), ABSTAIN, np.int32)
    tally = np.zeros(len(TURNS), np.int64)
    for view in np.flatnonzero(usable & ((order == 1) | (order == 2))):
        period = 360 // int(order[view])
        gap = np.abs((estimated[view] + np.array(TURNS) - known[view] + period / 2) % period - period / 2)
        nearest = np.flatnonzero(gap < gap.min() + 1e-6)
        if len(nearest) != order[view]:
            continue
        votes[view] = TURNS[nearest[0]]
        tally[nearest] += 1
    symmetric = not (usable & (order == 1)).any()
    top = np.flatnonzero(tally == tally.max())
    # For an object with two equal fronts the two turns always tie, and either is right.
    if tally.max() >= min_votes and (len(top) == 1 or (symmetric and len(top) == 2)):
        return YawVote(TURNS[int(top[0])], votes, False, symmetric)
    # Where every quarter turn looks the same, there is nothing to undo and nothing to doubt.
    settled = symmetric and np.count_nonzero(usable & (order == 4)) >= min_votes
    return YawVote(0, votes, not settled, symmetric)


def turn_mesh(vertices: np.ndarray, degrees: float) -> np.ndarray:
    """Vertices (V, 3) turned by ``degrees`` about the y axis. :meth:`Pose.turned` is the pose that keeps their projection."""
    return np.asarray(vertices, np.float64) @ yaw_rotation(degrees).T


def render_yaw_views(mesh: Mesh, yaws: Sequence[float] = YAWS, size: int = 64) -> np.ndarray:
    """Nearness maps (n, size, size) float32 of the mesh at the given yaws.

    0 is background, a little more the farthest surface, 1 the nearest possible.
    The mesh is centred by its bounding box and scaled to its bounding sphere, so views of different meshes compare.

    Raises:
        GeometryError: the mesh has no extent.
        InputError: a yaw is not finite.
    """
    if not np.isfinite(np.asarray(yaws, np.float64)).all():
        raise InputError(f"yaws must be finite, got {list(yaws)}")
    middle = (mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0)) / 2
    radius = float(np.linalg.norm(mesh.vertices - middle, axis=1).max())
    if radius <= 0:
        raise GeometryError("all vertices of the mesh are one point; reconstruct it again")
    raster = Raster(Mesh((mesh.vertices - middle) / radius, mesh.faces))
    # A sphere of radius 1 at this distance is seen under asin(1 / distance).
    focal = _FILL * size / 2 * float(np.sqrt(_DISTANCE**2 - 1))
    camera = Camera.from_focal(focal, size, size)
    views = np.zeros((len(yaws), size, size), np.float32)
    for view, yaw in zip(views, yaws, strict=True):
        maps = raster.render(Pose(_VIEW @ yaw_rotation(yaw), np.array([0, 0, _DISTANCE])), camera, size, size)
        view[maps.mask] = np.clip((_DISTANCE + 1 - maps.depth[maps.mask]) / 2, 1e-3, 1)
    return views


def _view_rotation() -> np.ndarray:
    """From the canonical frame (y up, front +z) to a camera in front of the object that looks down on it a little."""
    c, s = np.cos(np.deg2rad(_ELEVATION)), np.sin(np.deg2rad(_ELEVATION))
    # The camera looks along -z: its x is the canonical x, its y (down) is -y, its z (forward) is -z.
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ np.diag([1.0, -1.0, -1.0])


_VIEW = _view_rotation()

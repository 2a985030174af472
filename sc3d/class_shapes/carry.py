"""Matches through a class shape that is aligned to both images: from a cell of the source to a point, from the point to the target.

A cell's point is the one that looks like it and is seen there; where the target shows it is read from how well each of its cells looks like
that point and lies where it is seen. That is the published form, with a maximum over points. The deviations are ours, and so is that what
lies beside a point in the source is looked for beside it in the target: points are farther apart than the finest thresholds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from sc3d.class_shapes.alignment import Alignment
from sc3d.class_shapes.camera import in_sides, principal_point, project
from sc3d.class_shapes.class_shape import ClassShape
from sc3d.class_shapes.prototypes import Prototypes
from sc3d.grid import Letterbox

SIGMA = 0.03
"""Spatial deviation, in longer sides, of where a point is seen."""
_FEATURE_TEMPERATURE, _DENIAL = 0.05, 5.0
_AROUND, _RIDGE = 8, 0.1
"""Points around one that say how its surroundings are moved, and how much of their spread counts against that where they lie in a line."""


@dataclass(frozen=True, eq=False)
class AlignedImage:
    """An image with a class shape in it: its grid, the unit features (side * side, C) of its cells, where the points are seen (N, 2), in
    longer sides, and where they are (N, 3) in the class shape's own frame. ``sure``: the logarithm of the odds that the mesh's pose gives
    to the fit; 0 where it says nothing."""

    letterbox: Letterbox
    features: np.ndarray
    seen: np.ndarray
    points: np.ndarray
    prototypes: Prototypes
    sure: float = 0.0

    @property
    def n_bytes(self) -> int:
        """Memory of the arrays of the image alone, for byte-bounded caches."""
        return self.features.nbytes + self.seen.nbytes


def aligned_image(shape: ClassShape, alignment: Alignment, letterbox: Letterbox, features: np.ndarray) -> AlignedImage:
    """The points of a class shape where an image shows them."""
    seen = seen_points(shape, alignment, letterbox.size)
    sure = max(shape.poses.cost - alignment.disagreement, 0.0)
    return AlignedImage(letterbox, features, seen, shape.points, shape.prototypes, sure)


def seen_points(shape: ClassShape, alignment: Alignment, size: tuple[int, int]) -> np.ndarray:
    """Where an image of ``size`` (width, height) shows the points of a class shape: (N, 2), in longer sides."""
    points = torch.from_numpy(shape.matrix @ alignment.keypoints)
    return project(points, 1 / alignment.inverse_focal, principal_point(size).tolist()).numpy()


def carried(source: AlignedImage, xy: np.ndarray, target: AlignedImage, sigma: float = SIGMA) -> np.ndarray:
    """How likely each cell of the target shows what pixels of the source do.

    Args:
        xy: (K, 2) pixels of the source.

    Returns:
        Log-likelihoods (K, side * side) float32.
    """
    point = _shown(source, xy, sigma)
    places = target.seen[point] + _beside(source, in_sides(xy, source.letterbox.size) - source.seen[point], point, target)
    likely = _log_semantic(target.prototypes.select(point), target.features).T
    return np.asarray(likely + _log_spatial(places, in_sides(target.letterbox.centres(), target.letterbox.size), sigma), np.float32)


def _beside(source: AlignedImage, steps: np.ndarray, point: np.ndarray, target: AlignedImage) -> np.ndarray:
    """What steps (K, 2) from points (K,) of the source are in the target (K, 2): by the affine map of the points around each.

    A step is no longer than these are away on the average: a longer one says that the fit is off there, not what lies beside the point.
    """
    away = np.square(source.points[point][:, None] - source.points[None]).sum(axis=2)
    around = np.argsort(away, axis=1)[:, 1 : _AROUND + 1]
    here, there = (image.seen[around] - image.seen[point][:, None] for image in (source, target))
    gram = np.einsum("kni,knj->kij", here, here)
    spread = np.trace(gram, axis1=1, axis2=2)
    maps = np.linalg.solve(gram + (_RIDGE * spread + 1e-12)[:, None, None] * np.eye(2), np.einsum("kni,knj->kij", here, there))
    longest = np.sqrt(spread / max(around.shape[1], 1))
    shorter = np.minimum(longest / np.maximum(np.linalg.norm(steps, axis=1), 1e-12), 1)
    return np.asarray(np.einsum("ki,kij->kj", steps * shorter[:, None], maps))


def class_shape_gap(source: AlignedImage, source_xy: np.ndarray, target: AlignedImage, target_xy: np.ndarray) -> np.ndarray:
    """How far apart (M,) the points of the class shape are that the ends of each match show, in distances of its farthest two keypoints.

    Args:
        source_xy, target_xy: (M, 2) pixels.
    """
    ends = source.points[_shown(source, source_xy, SIGMA)], target.points[_shown(target, target_xy, SIGMA)]
    return np.asarray(np.linalg.norm(ends[0] - ends[1], axis=1))


def with_features(log_likelihood: np.ndarray, cosines: np.ndarray, sure: float) -> np.ndarray:
    """What a class shape says (K, N) and what the features say directly (cosines (K, N)), as one log-likelihood. Ours.

    A class shape tells which of several look-alikes it is, and features where exactly. Where a fit is wrong it denies the right cell, so
    what it denies is at most e^5 times less likely than its best, and as much less again as the fit is ``sure``: the least of both images'
    :attr:`AlignedImage.sure`.
    """
    bounded = np.maximum(log_likelihood, log_likelihood.max(axis=1, keepdims=True) - _DENIAL - sure)
    return np.asarray(cosines / _FEATURE_TEMPERATURE + bounded, np.float32)


def as_similarity(log_likelihood: np.ndarray, temperature: float) -> np.ndarray:
    """Log-likelihoods (K, N) as similarities in [0, 1], of which a read-out with that softmax temperature makes the likelihoods again."""
    return np.maximum(1 + temperature * (log_likelihood - log_likelihood.max(axis=1, keepdims=True)), 0, dtype=np.float32)


def _shown(image: AlignedImage, xy: np.ndarray, sigma: float) -> np.ndarray:
    """The point (M,) that an image shows at each of some pixels (M, 2)."""
    at = in_sides(xy, image.letterbox.size)
    semantic = _log_semantic(image.prototypes, image.features[image.letterbox.cells_of(xy)])
    return np.asarray((semantic + _log_spatial(at, image.seen, sigma)).argmax(axis=1))


def _log_semantic(prototypes: Prototypes, features: np.ndarray) -> np.ndarray:
    return np.asarray(prototypes.log_likelihood(torch.from_numpy(features)).numpy())


def _log_spatial(first: np.ndarray, second: np.ndarray, sigma: float) -> np.ndarray:
    """``log p_sp`` (K, N) of places (K, 2) and (N, 2)."""
    return np.asarray(-np.square(first[:, None] - second[None]).sum(axis=2) / (2 * sigma**2))

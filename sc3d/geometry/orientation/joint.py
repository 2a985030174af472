"""The joint problem: which way do the anchors of a category face, when each is told by what all others have taught?

Ridge regression learns a score that is high for descriptors of meshes that face forward and low for the same meshes turned. The scores of
a mesh come from a regression without it, in closed form, so a mesh never speaks for itself. While a mesh looks turned, the one that does so
most is turned, and the regression is made anew.

n: anchors. Rows and columns of the Gram matrix are (mesh, turn).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sc3d.errors import InputError
from sc3d.geometry.orientation.compass import TYPICAL_PRIOR, Compass, likelihoods, posteriors, prior_of_turns
from sc3d.geometry.orientation.pooling import turned
from sc3d.geometry.yaw import TURNS

UNKNOWN = -1

_N = len(TURNS)
# Of the ridge, in mean diagonals of the Gram matrix.
_RIDGE = 0.3
_SHARPNESSES = np.geomspace(0.5, 40, 40)
_SPREAD = 0.2
# Below the typical sharpness a category pays no more than this: one without direction comes to no confidence.
_MOST_PENALTY = 3.0
# The prior before any mesh is seen is as certain as that many meshes, of which the first number face forward.
_SEEN_FORWARD, _SEEN = 30.0, 32.0
_MOST_PRIOR = 0.97


@dataclass(frozen=True, eq=False)
class Settled:
    """Which way the anchors face. ``posteriors`` (n, 4): of their turns, each told by the others; of a known one all on its turn.
    ``coefficients`` (4 n): of the regression. ``sharpness``, ``prior``: as a :class:`~sc3d.geometry.orientation.compass.Compass` has
    them."""

    posteriors: np.ndarray
    coefficients: np.ndarray
    sharpness: float
    prior: float


def solve_joint(
    descriptors: np.ndarray, typical_sharpness: float, known: Sequence[int] | np.ndarray | None = None
) -> tuple[Settled, Compass]:
    """Find out which way the anchors of a category face, and what tells it of all other meshes.

    It follows the majority: a category that is mostly wrong stays wrong, unless meshes that are known say what is right.

    Args:
        descriptors: (n, 8, D) float32 of at least one mesh. More than about a hundred undo less.
        typical_sharpness: how much a difference of scores says with these descriptors in most categories.
        known: (n,) quarter turns 0 to 3 after which a mesh is known to face forward; :data:`UNKNOWN` for the others. None: all are
            unknown.

    Raises:
        InputError: there is no mesh, or the shapes do not fit.
    """
    n = len(descriptors)
    fixed = np.full(n, UNKNOWN) if known is None else np.asarray(known)
    if not n or descriptors.ndim != 3 or fixed.shape != (n,) or not np.isin(fixed, range(UNKNOWN, _N)).all():
        raise InputError(
            f"descriptors (n, 8, D) of at least one mesh are needed, each with a turn, got {descriptors.shape} and {fixed.tolist()}"
        )
    settled = settle(gram_matrix(descriptors), typical_sharpness, fixed)
    weights = _weights(descriptors, settled.coefficients)
    return settled, Compass(weights, settled.sharpness, settled.prior)


def settle(gram: np.ndarray, typical_sharpness: float, known: np.ndarray) -> Settled:
    """The same from the Gram matrix (4 n, 4 n) of :func:`gram_matrix`, for turns ``known`` (n,)."""
    n, free = len(known), known == UNKNOWN
    inverse = _ridge_inverse(gram)
    turns = np.where(free, 0, known)
    prior = TYPICAL_PRIOR
    for _ in range(n // 2 + 1):
        scores = left_out_scores(inverse, turns)
        sharpness = _fit_sharpness(scores[free], prior, typical_sharpness)
        found = posteriors(scores, sharpness, prior)
        prior = min((float(found[free, 0].sum()) + _SEEN_FORWARD) / (int(free.sum()) + _SEEN), _MOST_PRIOR)
        gain = np.where(free, np.log(found.max(axis=1)) - np.log(found[np.arange(n), turns]), 0.0)
        worst = int(gain.argmax())
        if gain[worst] <= 0:
            break
        turns[worst] = int(found[worst].argmax())
    found[~free] = np.eye(_N)[turns[~free]]
    return Settled(found, inverse @ targets_of(turns).ravel(), sharpness, prior)


def gram_matrix(descriptors: np.ndarray) -> np.ndarray:
    """Products (4 n, 4 n) of the descriptors (n, 8, D) of all meshes in all turns, each mesh without its mean over the turns."""
    n = len(descriptors)
    flat = descriptors.reshape(n, -1)
    likeness = np.stack([flat @ turned(descriptors, k).reshape(n, -1).T for k in range(_N)], axis=-1).astype(np.float64)
    likeness -= likeness.mean(axis=-1, keepdims=True)
    rows, columns = np.meshgrid(range(_N), range(_N), indexing="ij")
    # What one mesh in turn r and another in turn s have in common depends on s - r alone.
    return likeness[:, :, (columns - rows) % _N].transpose(0, 2, 1, 3).reshape(_N * n, _N * n)


def targets_of(turns: np.ndarray) -> np.ndarray:
    """What the regression is to say (n, 4): the turn after which a mesh faces forward is above the others."""
    return np.asarray(np.eye(_N)[turns] - 1 / _N)


def left_out_scores(inverse: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """Scores (n, 4) of each mesh by the regression on all others, in closed form.

    Args:
        inverse: (4 n, 4 n), of the Gram matrix with the ridge on its diagonal.
        turns: (n,) quarter turns after which the meshes are taken to face forward.
    """
    n = len(turns)
    targets = targets_of(turns)
    own = inverse.reshape(n, _N, n, _N)[np.arange(n), :, np.arange(n)]
    residuals = (inverse @ targets.ravel()).reshape(n, _N, 1)
    return np.asarray(targets - np.linalg.solve(own, residuals)[..., 0])


def _ridge_inverse(gram: np.ndarray) -> np.ndarray:
    ridge = max(_RIDGE * float(np.trace(gram)) / len(gram), 1e-12)
    return np.linalg.inv(gram + ridge * np.eye(len(gram)))


def _fit_sharpness(scores: np.ndarray, prior: float, typical: float) -> float:
    """The sharpness that explains the scores (n, 4) best, not far from the typical one unless many meshes say so."""
    off = np.log(_SHARPNESSES / typical) / _SPREAD
    penalty = off**2 / 2
    penalty = np.where(off < 0, np.minimum(penalty, _MOST_PENALTY), penalty)
    turns = prior_of_turns(prior)
    evidence = [float(np.log(likelihoods(scores, b) @ turns).sum()) if len(scores) else 0.0 for b in _SHARPNESSES]
    return float(_SHARPNESSES[int((np.array(evidence) - penalty).argmax())])


def _weights(descriptors: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """Sum of the descriptors of all meshes in all turns, with their coefficients (4 n)."""
    each = coefficients.reshape(len(descriptors), _N).astype(np.float32)
    summed = np.stack([np.tensordot(each[:, k], descriptors, axes=(0, 0)) for k in range(_N)])
    return np.asarray(sum(turned(summed[k], k) for k in range(_N)), np.float32)

"""What a category's anchors have taught about which way its meshes face, and how any other mesh is oriented by it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sc3d.errors import InputError
from sc3d.geometry.orientation.pooling import turned
from sc3d.geometry.yaw import TURNS

TYPICAL_PRIOR = 0.94
"""Share of the meshes that face forward as they are, before anything is known of a category."""

# Share of the meshes that look like nothing that was learned.
_STRANGE = 0.01


@dataclass(frozen=True, eq=False)
class Compass:
    """``weights`` (8, D) float32: the score of a mesh is their product with its descriptor. ``sharpness``: how much a difference of scores
    says. ``prior``: share of the category's meshes that face forward as they are."""

    weights: np.ndarray
    sharpness: float
    prior: float

    def posterior(self, descriptor: np.ndarray) -> np.ndarray:
        """Probability (4,) that a mesh has to be turned by each of :data:`~sc3d.geometry.yaw.TURNS` to face forward.

        Args:
            descriptor: (8, D), of a mesh that was no anchor: of an anchor the compass has learned how it faces.

        Raises:
            InputError: the descriptor has another shape than the weights.
        """
        descriptor = np.asarray(descriptor, np.float32)
        if descriptor.shape != self.weights.shape:
            raise InputError(f"a descriptor {descriptor.shape} does not compare with a compass {self.weights.shape}")
        scores = np.array([np.vdot(self.weights, turned(descriptor, quarters)) for quarters in range(len(TURNS))], np.float64)
        return posteriors((scores - scores.mean())[None], self.sharpness, self.prior)[0]


def posteriors(scores: np.ndarray, sharpness: float, prior: float) -> np.ndarray:
    """Probabilities (n, 4) of the turns of n meshes with ``scores`` (n, 4)."""
    q = prior_of_turns(prior) * likelihoods(scores, sharpness)
    return np.asarray(q / q.sum(axis=1, keepdims=True))


def likelihoods(scores: np.ndarray, sharpness: float) -> np.ndarray:
    """How well each turn explains the scores (n, 4): a softmax, and a little for meshes that look like nothing that was learned."""
    weights = np.exp(sharpness * (scores - scores.max(axis=1, keepdims=True)))
    return np.asarray((1 - _STRANGE) * weights / weights.sum(axis=1, keepdims=True) + _STRANGE / len(TURNS))


def prior_of_turns(prior: float) -> np.ndarray:
    """Probability (4,) of each turn before a mesh is looked at."""
    others = len(TURNS) - 1
    return np.array([prior, *[(1 - prior) / others] * others])

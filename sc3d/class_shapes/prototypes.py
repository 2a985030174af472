"""What the points of a class look like: a mean feature each, and how alike the features are that made it.

How likely a feature f shows the point i is ``p(i, f) = 2 (1 - Phi(|<F_i, f> - mu_i| / sigma_i))``, with the mean ``mu_i`` and the standard
deviation ``sigma_i`` of the cosines of the prototype F_i with its own features: the likelihood that the author's prototype aligns with.
Ours: a cosine above the mean is as likely as one can be, since nothing is less the point for looking more like it; and each cosine is taken
with the prototype of the other images, since features look more like a mean that they are part of than those of an unseen image do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

_LEAST_DEVIATION = 0.02


@dataclass(frozen=True, eq=False)
class Prototypes:
    """Of N points: unit ``features`` (N, C) float32, ``mean`` (N,) and ``deviation`` (N,) float32 of the cosines."""

    features: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray

    def select(self, rows: np.ndarray) -> Prototypes:
        """Those of some points."""
        return Prototypes(self.features[rows], self.mean[rows], self.deviation[rows])

    def log_likelihood(self, features: torch.Tensor) -> torch.Tensor:
        """``log p`` of unit features (P, C) by all points: (P, N)."""
        mine = torch.as_tensor(self.features, dtype=features.dtype, device=features.device)
        mean, deviation = (
            torch.as_tensor(values, dtype=features.dtype, device=features.device) for values in (self.mean, self.deviation)
        )
        below = (mean - features @ mine.T) / deviation
        return np.log(2.0) + torch.special.log_ndtr(-below.clamp_min(0))


def make_prototypes(groups: Sequence[np.ndarray], features: np.ndarray, images: np.ndarray) -> Prototypes:
    """The prototypes of groups of unit features.

    Args:
        groups: of each point, the rows (m,) of ``features`` that show it, at least one.
        features: (R, C) float32 of unit length.
        images: (R,) which image each is of.
    """
    unit, mean, deviation = [], [], []
    for rows in groups:
        own = features[rows]
        unit.append(_normalised(own.mean(axis=0)))
        cosines = _unseen_cosines(own, images[rows])
        mean.append(cosines.mean())
        deviation.append(max(float(cosines.std(ddof=1)) if len(rows) > 1 else 0.0, _LEAST_DEVIATION))
    return Prototypes(np.stack(unit).astype(np.float32), np.array(mean, np.float32), np.array(deviation, np.float32))


def _unseen_cosines(features: np.ndarray, images: np.ndarray) -> np.ndarray:
    """The cosine (m,) of each feature (m, C) with the prototype of the other images' features; of all, where there is one image."""
    _, which = np.unique(images, return_inverse=True)
    total = features.sum(axis=0)
    if which.max() == 0:
        return np.asarray(features @ _normalised(total))
    own = np.zeros((which.max() + 1, features.shape[1]), features.dtype)
    np.add.at(own, which, features)
    return np.asarray((features * _normalised(total - own)[which]).sum(axis=1))


def _normalised(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12))

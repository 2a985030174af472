"""Beta distributions fitted to many variables at once. Exact: maximum likelihood, of which the code here is our own."""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import digamma, polygamma

CLAMP = 1e-6
"""Samples are kept so far from 0 and 1."""
_ITERATIONS = 60


def fit_beta(mean_log: np.ndarray, mean_log_rest: np.ndarray) -> np.ndarray:
    """The maximum-likelihood ``alpha`` and ``beta`` (..., 2) of samples whose log(x) and log(1 - x) have the given means (...).

    Newton's method on the likelihood equations ``digamma(alpha) - digamma(alpha + beta) = mean log x`` and its mirror image, in
    log(alpha) and log(beta) so that both stay positive.
    """
    g = np.stack([mean_log, mean_log_rest], axis=-1).astype(np.float64)
    x = np.exp(g)
    # Johnson, Kotz and Balakrishnan (1995), chapter 25: a start from geometric means that is near for all but the flattest.
    theta = np.log(0.5 + x / np.maximum(2 * (1 - x.sum(axis=-1, keepdims=True)), 1e-9))
    for _ in range(_ITERATIONS):
        ab = np.exp(theta)
        total = ab.sum(axis=-1, keepdims=True)
        residual = digamma(ab) - digamma(total) - g
        # d residual / d theta = diag(trigamma(ab) ab) - trigamma(total) (1 ab^T): inverted as a matrix of two rows.
        own, shared = polygamma(1, ab) * ab, polygamma(1, total) * ab
        a, b, c, d = own[..., 0] - shared[..., 0], -shared[..., 1], -shared[..., 0], own[..., 1] - shared[..., 1]
        determinant = a * d - b * c
        step = (
            np.stack([d * residual[..., 0] - b * residual[..., 1], a * residual[..., 1] - c * residual[..., 0]], axis=-1)
            / np.where(determinant == 0, 1e-300, determinant)[..., None]
        )
        theta = np.clip(theta - np.clip(step, -1, 1), -12, 16)
        if np.abs(step).max(initial=0) < 1e-10:
            break
    return np.exp(theta)


class BetaLikelihood:
    """The negative log-likelihood of values by beta distributions that stay the same.

    Args:
        ab: alpha and beta of each, (..., 2).
    """

    def __init__(self, ab: torch.Tensor) -> None:
        # What does not change with the values is worked out once: an alignment asks hundreds of times.
        self._above, self._below = (ab - 1).unbind(-1)
        self._normaliser = torch.lgamma(ab).sum(-1) - torch.lgamma(ab.sum(-1))

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Values that broadcast against the distributions (...) -> ``-log Beta(x)`` of each."""
        x = x.clamp(CLAMP, 1 - CLAMP)
        return self._normaliser - self._above * x.log() - self._below * torch.log1p(-x)

"""The focal lengths of annotated images, from the one shape that their lifted keypoints should have. Exact, but for its optimiser.

Keypoints are lifted with the depth of their pixels. An image's focal length is right where angles and ratios of lengths between them are
those of the other images: it minimises the variance of both over the images, summed over all corners (i; j, k).
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import torch
from scipy.optimize import minimize

INITIAL = 0.2
"""Inverse focal length, in 1 / longer sides, from which the search starts."""
_BOUNDS = (0.03, 1.5)
_CORNERS = 3000
_ITERATIONS = 200


def estimate_inverse_focals(xy: np.ndarray, depth: np.ndarray, seed: int = 0, group: np.ndarray | None = None) -> np.ndarray:
    """The inverse focal length of each image.

    Args:
        xy: (S, K, 2) keypoints of S images, in longer sides and from the principal point; NaN where an image does not show one.
        depth: (S, K) of their pixels, in any one unit.
        seed: which corners stand for all, where there are more than 3,000.
        group: (S,) images of one number share a focal length, such as an image and its mirror image; ``None``: each has its own.

    Returns:
        (S,) in 1 / longer sides. An image whose keypoints are not shared with another keeps the initial value. Ours: L-BFGS on a bounded
        range, where the authors take 1,000 steps of AdamW, which have not converged.
    """
    visible = np.isfinite(xy).all(axis=2) & np.isfinite(depth)
    at = torch.from_numpy(np.where(visible[..., None], xy, 0.0))
    z = torch.from_numpy(np.where(visible, depth, 1.0))
    of = _corners(visible, np.random.default_rng(seed))
    shown = torch.from_numpy(visible[:, of].all(axis=2))
    own = np.arange(len(xy)) if group is None else np.unique(group, return_inverse=True)[1]
    index = torch.from_numpy(own)

    def value(numbers: np.ndarray) -> tuple[float, np.ndarray]:
        inverse = torch.from_numpy(numbers.copy()).requires_grad_()
        loss = spread(at, z, inverse[index], torch.from_numpy(of), shown)
        loss.backward()
        return loss.item(), inverse.grad.numpy()  # type: ignore[union-attr]

    start = np.full(own.max(initial=-1) + 1, INITIAL)
    if not len(of):
        return start[own]
    found = minimize(value, start, jac=True, method="L-BFGS-B", bounds=[_BOUNDS] * len(start), options={"maxiter": _ITERATIONS})
    return np.asarray(found.x[own])


def _corners(visible: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Corners (n, 3) i, j, k that at least two images show, at most 3,000 of them."""
    count = visible.shape[1]
    of = np.array([(i, j, k) for j, k in combinations(range(count), 2) for i in range(count) if i not in (j, k)], np.int64)
    of = of.reshape(-1, 3)
    of = of[rng.permutation(len(of))]
    kept = [part[visible[:, part].all(axis=2).sum(axis=0) >= 2] for part in np.array_split(of, max(len(of) // 4096, 1))]
    return np.concatenate(kept)[:_CORNERS]


def spread(
    xy: torch.Tensor, depth: torch.Tensor, inverse: torch.Tensor, corners: torch.Tensor, shown: torch.Tensor
) -> torch.Tensor:
    """The objective: variances over images of the cosine at i and of the ratio of the edges (i, j) and (i, k), summed over corners.

    Args:
        xy, depth: (S, K, 2) and (S, K), finite.
        inverse: (S,) inverse focal lengths.
        corners: (n, 3); ``shown`` (S, n): which images show all three keypoints.
    """
    points = torch.cat([xy * inverse[:, None, None], torch.ones_like(depth)[..., None]], dim=-1) * depth[..., None]
    i, j, k = (points[:, index] for index in corners.unbind(-1))
    first, second = j - i, k - i
    lengths = [edge.square().sum(-1).clamp_min(1e-18).sqrt() for edge in (first, second)]
    cosine = (first * second).sum(-1) / (lengths[0] * lengths[1])
    weight = shown.to(xy.dtype)
    return sum(  # type: ignore[return-value]
        _variance(values, weight).sum() for values in (cosine, lengths[0] / (lengths[0] + lengths[1]))
    )


def _variance(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Unbiased variance (n,) over the images (S, n) whose weight is 1."""
    count = weight.sum(0)
    mean = (values * weight).sum(0) / count.clamp_min(1)
    return ((values - mean).square() * weight).sum(0) / (count - 1).clamp_min(1)

"""The camera of a class shape: one focal length, square pixels, the principal point in the middle. Exact.

Its unit is the image's longer side m = max(width, height): a pixel (x, y) lies at (x, y) / m, the principal point at (width, height) / 2m,
and a point X of the camera's frame (x right, y down, z forward) is seen at ``focal * X[:2] / X[2] + principal``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch


def in_sides(xy: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pixels (..., 2) of an image of ``size`` (width, height) -> the same in longer sides."""
    return np.asarray(xy, np.float64) / max(size)


def principal_point(size: tuple[int, int]) -> np.ndarray:
    """The principal point (2,) of an image of ``size`` (width, height), in longer sides."""
    return np.asarray(size, np.float64) / (2 * max(size))


def project(points: torch.Tensor, focal: torch.Tensor | float, principal: torch.Tensor | Sequence[float]) -> torch.Tensor:
    """Camera points (..., 3) -> where they are seen (..., 2), in longer sides. ``focal`` broadcasts against (..., 1)."""
    # A point behind the camera has no image; far outside, it is worth as little as one, and its gradient still pulls it back.
    depth = points[..., 2:].clamp_min(1e-3)
    return points[..., :2] / depth * focal + torch.as_tensor(principal, dtype=points.dtype, device=points.device)


def lift(xy: torch.Tensor, depth: torch.Tensor, inverse_focal: torch.Tensor | float, principal: torch.Tensor) -> torch.Tensor:
    """Places (..., 2) in longer sides and their depths (...) -> camera points (..., 3).

    ``inverse_focal`` is 1 / focal and broadcasts against (..., 1): the lifted point is linear in it.
    """
    flat = (xy - principal) * inverse_focal
    return torch.cat([flat, torch.ones_like(flat[..., :1])], dim=-1) * depth[..., None]

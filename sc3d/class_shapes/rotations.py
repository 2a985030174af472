"""Rotations: from vectors, between point sets, and how far apart they are."""

from __future__ import annotations

import numpy as np
import torch


def rotation_of(vectors: torch.Tensor) -> torch.Tensor:
    """Rotations (H, 3, 3) about vectors (H, 3) by their lengths in radians (Rodrigues)."""
    # The clamp keeps gradients about nothing finite, where the cross product is all that is left.
    angle = vectors.square().sum(-1).clamp_min(1e-10).sqrt()[:, None, None]
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).reshape(-1, 3, 3)
    identity = torch.eye(3, dtype=vectors.dtype, device=vectors.device)
    return identity + angle.sin() / angle * cross + (1 - angle.cos()) / angle.square() * (cross @ cross)


def angles_between(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Angles (...) in radians between rotations (..., 3, 3)."""
    trace = np.einsum("...ij,...ij->...", first, second)
    return np.asarray(np.arccos(np.clip((trace - 1) / 2, -1, 1)))


def best_rotation(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The rotation (3, 3) of the similarity that brings points (K, 3) nearest to others (K, 3) (Umeyama, 1991)."""
    u, _, vt = np.linalg.svd((target - target.mean(axis=0)).T @ (source - source.mean(axis=0)))
    return np.asarray(u * [1, 1, np.sign(np.linalg.det(u @ vt))] @ vt)

"""Objects of one category made of numbers alone: keypoints that vary from instance to instance, seen by random cameras."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation


@dataclass(frozen=True)
class Views:
    """S views of K keypoints: the mean shape (K, 3), camera points (S, K, 3), their places from the principal point (S, K, 2), depths
    (S, K), which are seen (S, K), and the inverse focal lengths (S,)."""

    shape: np.ndarray
    points: np.ndarray
    xy: np.ndarray
    depth: np.ndarray
    visible: np.ndarray
    inverse: np.ndarray


def views(n_points: int, n_views: int, seen: float, noise: float, seed: int) -> Views:
    """Random views. ``noise`` moves each keypoint of an instance by so many diameters."""
    rng = np.random.default_rng(seed)
    shape = rng.uniform(-0.5, 0.5, (n_points, 3)) * [1.0, 0.5, 0.7]
    diameter = np.linalg.norm(shape[:, None] - shape[None], axis=-1).max()
    turned = Rotation.random(n_views, rng=rng).as_matrix()
    moved = shape + rng.normal(size=(n_views, n_points, 3)) * noise * diameter
    points = np.einsum("sij,skj->ski", turned, moved) + np.array([0, 0, 2.0])
    inverse = rng.uniform(0.2, 1.0, n_views)
    xy = points[..., :2] / points[..., 2:] / inverse[:, None, None]
    visible = rng.random((n_views, n_points)) < seen
    return Views(shape, points, xy, points[..., 2], visible, inverse)


def hidden(values: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """The values with NaN where they are not seen."""
    return np.where(visible[..., None] if values.ndim > visible.ndim else visible, values, np.nan)


def procrustes_error(found: np.ndarray, truth: np.ndarray, mirrored: bool = False) -> float:
    """Root mean squared distance in diameters of the truth, after the best similarity **without** reflection."""
    a, b = found - found.mean(axis=0), truth - truth.mean(axis=0)
    if mirrored:
        a = a * [1, 1, -1]
    u, s, vt = np.linalg.svd(a.T @ b)
    sign = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
    aligned = (s * sign).sum() / (a**2).sum() * a @ (u * sign) @ vt
    diameter = np.linalg.norm(truth[:, None] - truth[None], axis=-1).max()
    return float(np.sqrt(((aligned - b) ** 2).sum(axis=1).mean()) / diameter)

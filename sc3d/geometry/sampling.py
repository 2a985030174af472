"""Points that stand for many."""

from __future__ import annotations

import numpy as np


def scattered(points: np.ndarray, count: int) -> np.ndarray:
    """Positions (K,) in ``points`` (N, C) of at most ``count`` points that lie far apart: each is the farthest from those before it.

    The first is the nearest to the mean; all, in their order, where there are no more than ``count``.
    """
    points = np.asarray(points, np.float64)
    if len(points) <= count:
        return np.arange(len(points))
    chosen = [int(np.argmin(((points - points.mean(axis=0)) ** 2).sum(axis=1)))]
    distance = ((points - points[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < count:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
    return np.array(chosen)

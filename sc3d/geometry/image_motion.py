"""Moves of a posed object that are similarities of its image: what a change of scale and translation does, up to perspective."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sc3d.geometry.camera import Camera
from sc3d.geometry.silhouette import Parameters


@dataclass(frozen=True)
class Similarity:
    """The map ``p -> size * (p - centre) + centre + shift`` of image points, ``centre`` (2,) and ``shift`` (2,) in pixels."""

    size: float
    centre: np.ndarray
    shift: np.ndarray

    def is_close(self, other: Similarity) -> bool:
        """Whether two maps with one centre put a silhouette in practically the same place: within 2 % and 2 pixels."""
        return abs(np.log(self.size / other.size)) < 0.02 and bool(np.abs(self.shift - other.shift).max() < 2.0)

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Image points (..., 2) -> image points (..., 2)."""
        return self.size * (points - self.centre) + self.centre + self.shift

    def move(self, start: Parameters, pivot: np.ndarray, camera: Camera) -> Parameters:
        """Log scale and translation whose image is this map of the image at ``start``.

        ``pivot`` (3,) is the middle of the mesh after rotation, ``R @ X``; its depth does not change.
        """
        log_scale, t = start
        scale, K = float(np.exp(log_scale)), camera.K
        middle = scale * pivot + t
        seen = (K @ middle)[:2] / middle[2]
        lateral = np.linalg.solve(K[:2, :2], (self.apply(seen) - K[:2, 2]) * middle[2])
        return log_scale + float(np.log(self.size)), np.append(lateral, middle[2]) - self.size * scale * pivot

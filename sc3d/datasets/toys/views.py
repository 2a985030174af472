"""Where the camera stands: poses all around the toy, framed so that it fits the image or is cut by its border on purpose."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sc3d.geometry.camera import Camera, Pose, looking_from, project

_MARGIN = 4.0
# Framing is a fixed point, since moving the toy changes its perspective. It is damped, and seldom takes more than six steps.
_STEPS, _DAMPING, _SETTLED = 60, 0.8, 0.01


@dataclass(frozen=True)
class View:
    """A camera and the toy's pose in front of it."""

    camera: Camera
    pose: Pose

    @property
    def centre(self) -> np.ndarray:
        """The camera's position (3,) in the canonical frame."""
        return np.asarray(-self.pose.R.T @ self.pose.t / self.pose.scale)

    @property
    def azimuth(self) -> float:
        """Degrees from the toy's front (0) to the camera, growing towards the toy's left side (90)."""
        x, _, z = self.centre
        return float(np.degrees(np.arctan2(x, z)) % 360)

    def rays(self, pixels: np.ndarray) -> np.ndarray:
        """Canonical rays (N, 6), origin and direction, through pixels (N, 2); a ray's parameter is the depth in the camera frame."""
        K = self.camera.K
        rays = np.empty((len(pixels), 6), np.float32)
        rays[:, :3] = self.centre
        in_camera = np.empty((len(pixels), 3), np.float32)
        in_camera[:, 0] = (pixels[:, 0] - K[0, 2]) / K[0, 0]
        in_camera[:, 1] = (pixels[:, 1] - K[1, 2]) / K[1, 1]
        in_camera[:, 2] = 1
        rays[:, 3:] = in_camera @ (self.pose.R / self.pose.scale).astype(np.float32)
        return rays


def sample_view(
    rng: np.random.Generator, vertices: np.ndarray, size: tuple[int, int], azimuth: float, elevation: float, truncated: bool
) -> View:
    """Frame a toy from one direction.

    Args:
        vertices: canonical mesh vertices (V, 3).
        size: image width and height.
        azimuth, elevation: where the camera stands, in degrees; off-centre framing moves both by a few degrees.
        truncated: let the border cut off 12 to 35 % of the toy's box on one side.
    """
    width, height = size
    camera = Camera.from_focal(float(rng.uniform(1.2, 2.2)) * max(size), width, height)
    R = looking_from(azimuth, elevation, float(np.clip(rng.normal(0, 3), -8, 8)))
    scale = float(rng.uniform(0.7, 1.4))
    share = float(rng.uniform(0.7, 1.0) if truncated else rng.uniform(0.6, 0.93))
    place = rng.uniform(0, 1, 2)
    side, cut = int(rng.integers(4)), float(rng.uniform(0.12, 0.35))
    t = np.array([0.0, 0.0, 3.0 * scale])
    for _ in range(_STEPS):
        lower, upper = _box(vertices, Pose(R, t, scale), camera)
        growth = float(((upper - lower) / size).max()) / share
        t = t * growth**_DAMPING
        lower, upper = _box(vertices, Pose(R, t, scale), camera)
        extent = upper - lower
        corner = _MARGIN + place * np.maximum(size - extent - 2 * _MARGIN, 0)
        if truncated:
            axis = side % 2
            corner[axis] = -cut * extent[axis] if side < 2 else size[axis] - (1 - cut) * extent[axis]
        t[:2] += (corner - lower) * t[2] / camera.K[0, 0]
        if max(np.abs(corner - lower).max(), abs(growth - 1) * max(size)) < _SETTLED:
            break
    return View(camera, Pose(R, t, scale))


def _box(vertices: np.ndarray, pose: Pose, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    xy, _ = project(vertices, pose, camera)
    return np.asarray(xy.min(axis=0)), np.asarray(xy.max(axis=0))

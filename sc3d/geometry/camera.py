"""Cameras and poses. OpenCV frame: x right, y down, z forward; column vectors; pixel centres at +0.5.

A point X of the canonical mesh is seen at ``K @ (scale * R @ X + t)`` after the perspective division.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from sc3d.arrays import as_numpy
from sc3d.errors import GeometryError

# Share of the largest eigenvalue that the second smallest of a resection must exceed: below it, float32 hits leave the camera open.
_OPEN = 1e-10


@dataclass(frozen=True)
class Camera:
    """Pinhole intrinsics ``K`` (3, 3) in pixels, for an image of ``width x height``."""

    K: np.ndarray
    width: int
    height: int

    def __post_init__(self) -> None:
        K = np.ascontiguousarray(as_numpy(self.K), np.float64)
        if K.shape != (3, 3) or not np.isfinite(K).all() or K[0, 0] <= 0 or K[1, 1] <= 0:
            raise GeometryError(f"intrinsics must be a finite 3 x 3 matrix with positive focal lengths, got {K.tolist()}")
        if self.width < 1 or self.height < 1:
            raise GeometryError(f"a camera needs a positive image size, got {self.width} x {self.height}")
        object.__setattr__(self, "K", K)

    @classmethod
    def from_focal(cls, focal: float, width: int, height: int) -> Camera:
        """A camera with square pixels and the principal point in the image's middle."""
        return cls(np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]]), width, height)

    def resized(self, width: int, height: int) -> Camera:
        """The same camera for the image resized to ``width x height``."""
        factors = np.array([width / self.width, height / self.height, 1.0])
        return Camera(self.K * factors[:, None], width, height)


@dataclass(frozen=True)
class Pose:
    """A similarity ``X_cam = scale * R @ X + t``."""

    R: np.ndarray
    t: np.ndarray
    scale: float = 1.0

    def __post_init__(self) -> None:
        R, t = (np.ascontiguousarray(as_numpy(one), np.float64) for one in (self.R, self.t))
        if R.shape != (3, 3) or t.shape != (3,) or not (np.isfinite(R).all() and np.isfinite(t).all()):
            raise GeometryError("a pose needs a finite 3 x 3 rotation and a finite translation of 3 numbers")
        if not np.allclose(R @ R.T, np.eye(3), atol=1e-4) or np.linalg.det(R) < 0:
            raise GeometryError("a pose's rotation must be orthonormal with determinant +1")
        if not np.isfinite(self.scale) or self.scale <= 0:
            raise GeometryError(f"a pose's scale must be positive, got {self.scale}")
        object.__setattr__(self, "R", R)
        object.__setattr__(self, "t", t)
        object.__setattr__(self, "scale", float(self.scale))

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Canonical points (N, 3) -> camera points (N, 3)."""
        return self.scale * np.asarray(points, np.float64) @ self.R.T + self.t

    def replace(self, **changes: object) -> Pose:
        """A copy with some parts changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    def turned(self, degrees: float) -> Pose:
        """The pose of the mesh after :func:`yaw_rotation` of ``degrees`` was applied to it, so that its image does not move."""
        return self.replace(R=self.R @ yaw_rotation(degrees).T)


def project(points: np.ndarray, pose: Pose, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Canonical points (N, 3) -> pixels (N, 2) and depths (N,). Points at or behind the camera get NaN pixels."""
    X = pose.apply(points)
    depth = X[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        xy = (X @ camera.K.T)[:, :2] / depth[:, None]
    xy[depth <= 1e-9] = np.nan
    return xy, depth


def resect(points: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """The projection (3, 4) that takes canonical points (N, 3) to the pixels (N, 2) where a camera saw them, with their depths positive.

    A homogeneous point's image is ``projection @ (X, 1)``, divided by its last coordinate. Exact for exact points: the direct linear
    transform (Hartley and Zisserman, 7.1), in coordinates scaled to their mean and spread.

    Raises:
        GeometryError: there are fewer than six points, or they lie so nearly in one plane that they leave the camera open.
    """
    if len(points) < 6:
        raise GeometryError(f"{len(points)} points do not tell a camera; it takes six")
    X, to_points = _scaled_homogeneous(points)
    x, to_pixels = _scaled_homogeneous(xy)
    zero = np.zeros_like(X)
    rows = np.concatenate([np.concatenate([X, zero, -x[:, :1] * X], axis=1), np.concatenate([zero, X, -x[:, 1:2] * X], axis=1)])
    values, vectors = np.linalg.eigh(rows.T @ rows)
    if not values[1] > _OPEN * values[-1]:
        raise GeometryError("points that lie in one plane do not tell a camera")
    projection = to_pixels @ vectors[:, 0].reshape(3, 4) @ np.linalg.inv(to_points)
    depths = np.asarray(points, np.float64) @ projection[2, :3] + projection[2, 3]
    return np.asarray(projection * np.sign(np.median(depths)))


def _scaled_homogeneous(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Homogeneous coordinates (N, D + 1) of values (N, D) with mean 0 and spread 1, and the matrix that takes them back."""
    values = np.asarray(values, np.float64)
    mean, spread = values.mean(axis=0), max(float(values.std()), 1e-300)
    back = np.diag([*np.full(len(mean), spread), 1.0])
    back[:-1, -1] = mean
    return np.concatenate([(values - mean) / spread, np.ones((len(values), 1))], axis=1), back


def yaw_rotation(degrees: float) -> np.ndarray:
    """Rotation (3, 3) by ``degrees`` about the canonical y axis; +90 takes the front (+z) to +x."""
    a = np.deg2rad(degrees)
    c, s = np.cos(a), np.sin(a)
    # Exact zeros and ones for quarter turns, so that four of them are the identity to the last bit.
    c, s = (float(np.round(v)) if abs(v - np.round(v)) < 1e-12 else float(v) for v in (c, s))
    return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])


def looking_from(azimuth: float, elevation: float, roll: float) -> np.ndarray:
    """Rotation (3, 3) of an OpenCV camera that looks at the origin from ``azimuth`` and ``elevation``, turned by ``roll``; degrees."""
    a, e, r = (math.radians(degrees) for degrees in (azimuth, elevation, roll))
    sa, ca, se, ce, sr, cr = math.sin(a), math.cos(a), math.sin(e), math.cos(e), math.sin(r), math.cos(r)
    # Rows to the right, downwards and forward; written out, since fits ask for a thousand of them an image.
    upright = np.array([[ca, 0.0, -sa], [sa * se, -ce, ca * se], [-sa * ce, -se, -ca * ce]])
    return np.asarray(np.array([[cr, -sr, 0.0], [sr, cr, 0.0], [0.0, 0.0, 1.0]]) @ upright)


def camera_azimuth(rotations: np.ndarray, translations: np.ndarray) -> np.ndarray:
    """From which side a camera sees the canonical object: degrees in [0, 360) about its y axis.

    0 sees the front (the camera is towards +z), 90 the side towards +x. Turning a mesh by :func:`yaw_rotation` of d degrees, and its pose
    with it, adds d. What counts is the direction from the object to the camera, so the azimuth is that of the view in the image even
    where the object is far from the image's middle.

    Args:
        rotations, translations: R (..., 3, 3) and t (..., 3) of ``X_cam = scale * R @ X + t``.

    Returns:
        (...) float64; NaN where a pose is not finite.
    """
    x, _, z = np.moveaxis(
        -np.einsum("...ij,...i->...j", np.asarray(rotations, np.float64), np.asarray(translations, np.float64)), -1, 0
    )
    # A tiny negative angle would round to 360 itself.
    return np.degrees(np.arctan2(x, z)) % 360.0 % 360.0

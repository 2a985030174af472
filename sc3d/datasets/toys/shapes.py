"""Solids as signed distance functions: negative inside, positive outside, in the units of the toy.

A distance function is all that a toy needs of its parts: their union is a minimum, a soft union a smooth minimum, and the part that
owns a surface point is the one whose distance is least there. Formulas of the exact distances follow Inigo Quilez's "distance
functions" articles. All shapes take points (N, 3) and return distances (N,); tapered shapes return a lower bound of the distance.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

Vector = tuple[float, float, float]


class Shape(Protocol):
    """A solid: distances, and a box that contains it."""

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Signed distances (N,) of points (N, 3)."""
        ...

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper corner (3,) of a box that contains the solid."""
        ...


def _length(*parts: np.ndarray) -> np.ndarray:
    total = parts[0] * parts[0]
    for part in parts[1:]:
        total = total + part * part
    return np.asarray(np.sqrt(total))


def turn_x(degrees: float) -> np.ndarray:
    """Rotation (3, 3) about x by ``degrees``: +90 takes y (up) to z (front)."""
    a = np.deg2rad(degrees)
    return np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])


def turn_z(degrees: float) -> np.ndarray:
    """Rotation (3, 3) about z by ``degrees``: +90 takes x (left) to y (up)."""
    a = np.deg2rad(degrees)
    return np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])


def _identity() -> np.ndarray:
    return np.eye(3)


@dataclass(frozen=True)
class Box:
    """A rounded box around ``centre``; ``half`` are its half sizes including the rounding.

    ``top`` scales the x and z half sizes linearly from 1 at the bottom to ``top`` at the top, and ``shear`` moves the top by that
    much in x and z against the middle (the bottom by its negative), all before ``rotation`` is applied.
    """

    centre: Vector
    half: Vector
    radius: float = 0.0
    top: tuple[float, float] = (1.0, 1.0)
    shear: tuple[float, float] = (0.0, 0.0)
    rotation: np.ndarray = field(default_factory=_identity)

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Signed distances (N,) of points (N, 3)."""
        local = points - np.asarray(self.centre, points.dtype)
        if not np.array_equal(self.rotation, np.eye(3)):
            local = local @ self.rotation.astype(points.dtype)
        x, y, z = local[:, 0], local[:, 1], local[:, 2]
        height = np.clip(y / self.half[1], -1, 1)
        slope = 1.0
        half_x, half_z = self.half[0], self.half[2]
        if self.shear != (0.0, 0.0):
            x, z = x - self.shear[0] * height, z - self.shear[1] * height
        if self.top != (1.0, 1.0):
            rise = 0.5 * (height + 1)
            half_x, half_z = half_x * (1 + (self.top[0] - 1) * rise), half_z * (1 + (self.top[1] - 1) * rise)
        steepest = max(
            abs(self.shear[0]) + self.half[0] * abs(1 - self.top[0]) / 2,
            abs(self.shear[1]) + self.half[2] * abs(1 - self.top[1]) / 2,
        )
        # Leaning walls: the distance along x or z overstates the distance to the wall by this factor at most.
        slope = float(1 / np.hypot(1, steepest / self.half[1]))
        qx, qy, qz = (
            np.abs(x) - (half_x - self.radius),
            np.abs(y) - (self.half[1] - self.radius),
            np.abs(z) - (half_z - self.radius),
        )
        outside = _length(np.maximum(qx, 0), np.maximum(qy, 0), np.maximum(qz, 0))
        inside = np.minimum(np.maximum(qx, np.maximum(qy, qz)), 0)
        return np.asarray((outside + inside - self.radius) * slope)

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper corner (3,) of a box that contains the solid."""
        widest = np.array([max(1.0, self.top[0]), 1.0, max(1.0, self.top[1])]) * self.half
        widest += np.array([abs(self.shear[0]), 0, abs(self.shear[1])])
        reach = np.abs(self.rotation) @ widest
        return np.asarray(self.centre) - reach, np.asarray(self.centre) + reach


@dataclass(frozen=True)
class Rod:
    """A round rod from ``start`` to ``end``, its radius growing linearly from ``radius`` to ``end_radius``; both ends are balls."""

    start: Vector
    end: Vector
    radius: float
    end_radius: float | None = None

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Signed distances (N,) of points (N, 3)."""
        start, axis = (
            np.asarray(self.start, points.dtype),
            np.asarray(self.end, points.dtype) - np.asarray(self.start, points.dtype),
        )
        local = points - start
        along = np.clip(local @ axis / max(float(axis @ axis), 1e-12), 0, 1)
        across = local - along[:, None] * axis
        thickness = self.radius if self.end_radius is None else self.radius + (self.end_radius - self.radius) * along
        return np.asarray(_length(across[:, 0], across[:, 1], across[:, 2]) - thickness)

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper corner (3,) of a box that contains the solid."""
        start, end = np.asarray(self.start), np.asarray(self.end)
        end_radius = self.radius if self.end_radius is None else self.end_radius
        return np.minimum(start - self.radius, end - end_radius), np.maximum(start + self.radius, end + end_radius)


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid around ``centre`` with semi-axes ``radii``, turned by ``rotation``."""

    centre: Vector
    radii: Vector
    rotation: np.ndarray = field(default_factory=_identity)

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Approximate signed distances (N,) of points (N, 3): exact on the surface, first order near it."""
        radii = np.asarray(self.radii, points.dtype)
        local = (points - np.asarray(self.centre, points.dtype)) @ self.rotation.astype(points.dtype)
        scaled = local / radii
        k0 = _length(scaled[:, 0], scaled[:, 1], scaled[:, 2])
        twice = scaled / radii
        k1 = np.maximum(_length(twice[:, 0], twice[:, 1], twice[:, 2]), 1e-6)
        return np.asarray(np.where(k0 > 1e-3, k0 * (k0 - 1) / k1, -float(min(self.radii))))

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper corner (3,) of a box that contains the solid."""
        reach = np.linalg.norm(self.rotation * np.asarray(self.radii), axis=1)
        return np.asarray(self.centre) - reach, np.asarray(self.centre) + reach


@dataclass(frozen=True)
class Disc:
    """A round disc (a short cylinder) around ``centre`` with its axis along x, rounded at the rims by ``rounding``."""

    centre: Vector
    radius: float
    half_width: float
    rounding: float = 0.0

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Signed distances (N,) of points (N, 3)."""
        local = points - np.asarray(self.centre, points.dtype)
        radial = _length(local[:, 1], local[:, 2]) - (self.radius - self.rounding)
        axial = np.abs(local[:, 0]) - (self.half_width - self.rounding)
        outside = _length(np.maximum(radial, 0), np.maximum(axial, 0))
        return np.asarray(np.minimum(np.maximum(radial, axial), 0) + outside - self.rounding)

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper corner (3,) of a box that contains the solid."""
        reach = np.array([self.half_width, self.radius, self.radius])
        return np.asarray(self.centre) - reach, np.asarray(self.centre) + reach


@dataclass(frozen=True)
class Ring:
    """A torus around ``centre`` whose axis is coordinate ``axis`` (0: a wheel, 1: a rim that lies flat).

    ``stretch`` scales the extent of its circle in z: a handle that is not round.
    """

    centre: Vector
    radius: float
    thickness: float
    stretch: float = 1.0
    axis: int = 0

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Signed distances (N,) of points (N, 3); a lower bound when stretched."""
        local = points - np.asarray(self.centre, points.dtype)
        circle = _length(local[:, 1 - self.axis], local[:, 2] / self.stretch) - self.radius
        return np.asarray(_length(circle * min(1.0, self.stretch), local[:, self.axis]) - self.thickness)

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper corner (3,) of a box that contains the solid."""
        rim = self.radius + self.thickness / min(1.0, self.stretch)
        reach = np.array([rim, rim, rim * self.stretch])
        reach[self.axis] = self.thickness
        return np.asarray(self.centre) - reach, np.asarray(self.centre) + reach


@dataclass(frozen=True)
class Turned:
    """A solid of revolution, as from a lathe: ``profile`` lists (position on the axis, radius), positions ascending.

    ``axis`` is 1 (y, a bottle) or 2 (z, a fuselage) and goes through ``centre``; ``flat`` scales the x direction.
    """

    centre: Vector
    profile: tuple[tuple[float, float], ...]
    axis: int = 1
    flat: float = 1.0

    def radius_at(self, position: float) -> float:
        """Radius of the profile at a position on the axis."""
        stations, radii = np.asarray(self.profile).T
        return float(np.interp(position, stations, radii))

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Signed distances (N,) of points (N, 3); a lower bound on steep profiles."""
        local = points - np.asarray(self.centre, points.dtype)
        stations, radii = np.asarray(self.profile, points.dtype).T
        along = local[:, self.axis]
        radial = _length(local[:, 0] / self.flat, local[:, 3 - self.axis])
        steepest = np.abs(np.diff(radii) / np.maximum(np.diff(stations), 1e-6))
        # The first and last section may be flat caps; their slope says nothing about the wall between.
        slope = 1 / np.hypot(1, min(float(steepest.max(initial=0.0)), 3.0))
        wall = (radial - np.interp(along, stations, radii).astype(points.dtype)) * (slope * min(1.0, self.flat))
        cap = np.maximum(stations[0] - along, along - stations[-1])
        outside = _length(np.maximum(wall, 0), np.maximum(cap, 0))
        return np.asarray(np.minimum(np.maximum(wall, cap), 0) + outside)

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper corner (3,) of a box that contains the solid."""
        stations, radii = np.asarray(self.profile).T
        lower, upper = np.full(3, -radii.max()), np.full(3, radii.max())
        lower[0], upper[0] = lower[0] * self.flat, upper[0] * self.flat
        lower[self.axis], upper[self.axis] = stations[0], stations[-1]
        return np.asarray(self.centre) + lower, np.asarray(self.centre) + upper


def mirrored(points: np.ndarray) -> np.ndarray:
    """Points (N, 3) folded onto the left half (x >= 0): a shape evaluated there stands on both sides."""
    folded = points.copy()
    np.abs(folded[:, 0], out=folded[:, 0])
    return folded


def smooth_minimum(a: np.ndarray, b: np.ndarray, blend: float) -> np.ndarray:
    """The smaller of two distances, rounded where they differ by less than ``blend`` (polynomial smooth minimum)."""
    if blend <= 0:
        return np.minimum(a, b)
    overlap = np.maximum(blend - np.abs(a - b), 0) / blend
    return np.asarray(np.minimum(a, b) - overlap * overlap * (blend / 4))

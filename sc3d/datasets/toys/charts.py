"""Charts: where a point lies within a part, in coordinates that mean the same on every toy of a category.

A chart undoes what makes instances differ (place, size, taper, sweep, bend), so that the corresponding point of another toy is the one
with the same coordinates on the part of the same name. They are near [-1, 1] on the part's surface, and their signs mean the same on
every toy: x grows to the left, y upwards and z to the front, on wings and limbs y from the root to the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sc3d.datasets.toys.shapes import Box, Shape, Vector


class Chart(Protocol):
    """Takes points of the toy to coordinates within a part."""

    def within(self, points: np.ndarray) -> np.ndarray:
        """Coordinates (N, 3) of toy points (N, 3)."""
        ...


@dataclass(frozen=True)
class Block:
    """The coordinates of a box, its rotation, shear and taper undone: -1 and 1 on its faces.

    ``stations``: pairs of z in the box's own frame, from its centre, and the coordinate there, ascending; linear between them and beyond
    the ends. They put what lies along the part (wheels, the root of a wing) at the same coordinate in every instance. Empty: z is linear.
    """

    box: Box
    stations: tuple[tuple[float, float], ...] = ()

    def within(self, points: np.ndarray) -> np.ndarray:
        """See :meth:`Chart.within`."""
        box = self.box
        local = (np.asarray(points, np.float64) - box.centre) @ box.rotation
        height = local[:, 1] / box.half[1]
        # As the box itself: neither shear nor taper goes on beyond its bottom and top.
        held = np.clip(height, -1, 1)
        rise = 0.5 * (held + 1)
        x = (local[:, 0] - box.shear[0] * held) / (box.half[0] * (1 + (box.top[0] - 1) * rise))
        z = local[:, 2] - box.shear[1] * held
        z = _piecewise(z, self.stations) if self.stations else z / (box.half[2] * (1 + (box.top[1] - 1) * rise))
        return np.column_stack([x, height, z])


@dataclass(frozen=True)
class Limb:
    """The coordinates of a rod: y from ``along[0]`` at ``start`` to ``along[1]`` at ``end``; x and z across it, 1 at its ``radius``.

    x is the direction ``across`` made square to the rod, so that a limb that swings and bends carries its coordinates with it: the two
    rods of a bent leg are one part whose ``along`` follow each other. ``across`` must not be parallel to the rod.
    """

    start: Vector
    end: Vector
    radius: float
    along: tuple[float, float] = (-1.0, 1.0)
    across: Vector = (1.0, 0.0, 0.0)

    def within(self, points: np.ndarray) -> np.ndarray:
        """See :meth:`Chart.within`."""
        axis = np.subtract(self.end, self.start)
        length = float(np.linalg.norm(axis))
        axis = axis / length
        x = np.asarray(self.across) - axis * (axis @ np.asarray(self.across))
        x /= np.linalg.norm(x)
        local = (np.asarray(points, np.float64) - self.start) @ np.column_stack([x, axis, np.cross(x, axis)])
        share = local[:, 1] / length
        return np.column_stack(
            [local[:, 0] / self.radius, self.along[0] + share * (self.along[1] - self.along[0]), local[:, 2] / self.radius]
        )


def chart_of(shape: Shape) -> Chart:
    """The chart of a part that is nothing more than its shape: the box's own, or that of the box around it."""
    if isinstance(shape, Box):
        return Block(shape)
    lower, upper = shape.bounds()
    centre, half = (lower + upper) / 2, (upper - lower) / 2
    return Block(Box(_vector(centre), _vector(half)))


def _vector(values: np.ndarray) -> Vector:
    return float(values[0]), float(values[1]), float(values[2])


def _piecewise(values: np.ndarray, stations: tuple[tuple[float, float], ...]) -> np.ndarray:
    at, to = np.asarray(stations).T
    low, high = (to[1] - to[0]) / (at[1] - at[0]), (to[-1] - to[-2]) / (at[-1] - at[-2])
    inside = np.interp(values, at, to)
    return np.asarray(inside + np.minimum(values - at[0], 0) * low + np.maximum(values - at[-1], 0) * high)

"""The paint of a toy as a function of its surface points: the nearest part's colour, decals over it, a pattern in it."""

from __future__ import annotations

import numpy as np

from sc3d.datasets.toys.shapes import Shape, mirrored
from sc3d.datasets.toys.toy import Texture, Toy

# Farther from the surface than the nearest part ever is, blending and decimation included.
_REACH = 0.06


class Paintwork:
    """The paint of one toy."""

    def __init__(self, toy: Toy) -> None:
        self.toy = toy
        self.names = tuple(toy.paints)
        self._colours = np.array([toy.paints[name] for name in self.names], np.float32) ** np.float32(2.2)

    def labels(self, points: np.ndarray) -> np.ndarray:
        """Index into ``names`` (N,) of the paint at toy points (N, 3) near the surface: the nearest part's, or a decal's over it."""
        points = points.astype(np.float32)
        folded = mirrored(points)
        nearest, labels = np.full(len(points), np.inf, np.float32), np.zeros(len(points), np.int64)
        for part in self.toy.parts:
            where = folded if part.mirrored else points
            near = _near(where, part.shape, self.toy.blend + _REACH)
            distance = part.shape.distance(where[near])
            closer = distance < nearest[near]
            nearest[near[closer]] = distance[closer]
            labels[near[closer]] = self.names.index(part.paint)
        for decal in self.toy.decals:
            where = folded if decal.mirrored else points
            near = _near(where, decal.shape, 0.0)
            if decal.on:
                near = near[labels[near] == self.names.index(decal.on)]
            labels[near[decal.shape.distance(where[near]) < 0]] = self.names.index(decal.paint)
        return labels

    def colours(self, points: np.ndarray) -> np.ndarray:
        """Linear RGB (N, 3) of toy points (N, 3) near the surface."""
        labels = self.labels(points)
        colours = self._colours[labels]
        texture = self.toy.texture
        if texture is not None:
            painted = np.flatnonzero(labels == self.names.index(texture.paint))
            amount = pattern(texture, points[painted])[:, None]
            colours[painted] = colours[painted] * (1 - amount) + np.asarray(texture.colour, np.float32) ** np.float32(2.2) * amount
        return colours


def _near(points: np.ndarray, shape: Shape, margin: float) -> np.ndarray:
    lower, upper = shape.bounds()
    x, y, z = points.T
    # The tallest cut first: most toys are longest along z, so it leaves the fewest points to the other two.
    near = np.flatnonzero((z > lower[2] - margin) & (z < upper[2] + margin))
    near = near[(y[near] > lower[1] - margin) & (y[near] < upper[1] + margin)]
    return near[(x[near] > lower[0] - margin) & (x[near] < upper[0] + margin)]


def pattern(texture: Texture, points: np.ndarray) -> np.ndarray:
    """Share (N,) of the second colour at toy points (N, 3)."""
    p = (mirrored(points) + np.asarray(texture.phase, points.dtype)) * (2 * np.pi / texture.period)
    x, y, z = p[:, 0], p[:, 1], p[:, 2]
    if texture.kind == "hoops":
        wave = np.sin(z)
    elif texture.kind == "bands":
        wave = np.sin(y)
    elif texture.kind == "checks":
        wave = np.sin(x) * np.sin(y) * np.sin(z) * 3
    else:
        wave = np.sin(x + 1.3 * np.sin(0.7 * y)) + np.sin(y + 1.7 * np.sin(0.6 * z)) + np.sin(z + 1.1 * np.sin(0.8 * x)) - 0.6
    return np.asarray(np.clip(wave * 6 + 0.5, 0, 1))

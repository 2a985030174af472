"""What a toy is: painted parts, decals and named keypoints; and how it becomes a mesh.

Toys are built in their own coordinates: x to the toy's left, y up, z to its front, the plane x = 0 in its middle, sizes near 1.
:func:`mesh_toy` turns one into a watertight mesh of the canonical frame (bounding box centred at the origin, longest side 1).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from skimage.measure import marching_cubes

from sc3d.datasets.toys.shapes import Shape, Vector, mirrored, smooth_minimum

Colour = tuple[float, float, float]

MIN_FACES, MAX_FACES, WANTED_FACES = 2000, 6000, 4600


@dataclass(frozen=True)
class Part:
    """A solid of the toy, and the name of its paint. A mirrored part is modelled on the left (x > 0) and stands on both sides."""

    shape: Shape
    paint: str
    mirrored: bool = False


@dataclass(frozen=True)
class Decal:
    """Paint without a shape of its own: what lies inside ``shape`` and on a part painted ``on`` (empty: any) takes this paint."""

    shape: Shape
    paint: str
    mirrored: bool = True
    on: str = ""


@dataclass(frozen=True)
class Texture:
    """A solid pattern that mixes a second colour into one paint; it is a function of abs(x), so both sides look the same."""

    kind: str
    paint: str
    colour: Colour
    period: float
    phase: Vector


@dataclass(frozen=True)
class Toy:
    """One instance of a category. ``keypoints`` are near the surface, in the order of the category's names; ``paints`` are sRGB 0-1."""

    parts: tuple[Part, ...]
    keypoints: dict[str, Vector]
    paints: dict[str, Colour]
    decals: tuple[Decal, ...] = ()
    carvings: tuple[Shape, ...] = ()
    texture: Texture | None = None
    blend: float = 0.01
    cells: int = 48


@dataclass(frozen=True)
class Category:
    """A kind of toy: how an instance is drawn, and how it is looked at.

    ``keypoints`` are its names in id order. ``elevation`` is the camera's range in degrees, ``outdoor`` chooses the surroundings,
    ``turns`` is False for a solid of revolution: its canonical frame has the camera in front, as no other frame could be told apart.
    """

    build: Callable[[np.random.Generator], Toy]
    keypoints: tuple[str, ...]
    elevation: tuple[float, float] = (0.0, 35.0)
    outdoor: bool = False
    grounded: bool = True
    turns: bool = True


@dataclass(frozen=True)
class ToyMesh:
    """A toy as a surface in the canonical frame: ``vertices`` (V, 3), ``faces`` (F, 3), unit vertex ``normals`` (V, 3).

    A canonical point X is the toy's own point ``X * size + middle``.
    """

    vertices: np.ndarray
    faces: np.ndarray
    normals: np.ndarray
    middle: np.ndarray
    size: float

    def canonical(self, points: np.ndarray) -> np.ndarray:
        """Toy points (N, 3) -> canonical points (N, 3)."""
        return np.asarray((points - self.middle) / self.size)

    def own(self, points: np.ndarray) -> np.ndarray:
        """Canonical points (N, 3) -> toy points (N, 3)."""
        return np.asarray(points * self.size + self.middle)


def mesh_toy(toy: Toy) -> ToyMesh:
    """Mesh the soft union of the parts by marching cubes, with 2,000 to 6,000 faces where the shape allows."""
    cells = float(toy.cells)
    vertices, faces = _march(toy, toy.cells)
    for _ in range(3):
        if MIN_FACES <= len(faces) <= MAX_FACES:
            break
        cells *= np.sqrt(WANTED_FACES / len(faces))
        vertices, faces = _march(toy, round(cells))
    lower, upper = vertices.min(0), vertices.max(0)
    middle, size = (lower + upper) / 2, float((upper - lower).max())
    canonical = ((vertices - middle) / size).astype(np.float32).astype(np.float64)
    return ToyMesh(canonical, faces, _vertex_normals(canonical, faces), middle, size)


def _bounds(toy: Toy) -> tuple[np.ndarray, np.ndarray]:
    boxes = [part.shape.bounds() for part in toy.parts]
    lower, upper = np.min([b[0] for b in boxes], axis=0), np.max([b[1] for b in boxes], axis=0)
    # Symmetric in x, so that the grid and with it the mesh has the toy's own mirror symmetry.
    reach = max(abs(lower[0]), abs(upper[0]))
    lower[0], upper[0] = -reach, reach
    return lower, upper


def _march(toy: Toy, cells: int) -> tuple[np.ndarray, np.ndarray]:
    lower, upper = _bounds(toy)
    step = float((upper - lower).max() / cells)
    shape = np.ceil((upper - lower) / step).astype(int) + 3
    origin = (lower + upper) / 2 - (shape - 1) / 2 * step
    axes = [(origin[i] + np.arange(shape[i]) * step).astype(np.float32) for i in range(3)]
    margin = toy.blend + 2.5 * step
    volume = np.full(shape, margin, np.float32)
    for part in toy.parts:
        for block, points in _blocks(axes, part.shape, part.mirrored, margin):
            distance = part.shape.distance(points).reshape(volume[block].shape)
            volume[block] = smooth_minimum(volume[block], distance, toy.blend)
    for carving in toy.carvings:
        for block, points in _blocks(axes, carving, False, margin):
            volume[block] = np.maximum(volume[block], -carving.distance(points).reshape(volume[block].shape))
    # A surface exactly through a grid point makes triangles of no area there.
    touching = np.abs(volume) < 0.02 * step
    volume[touching] = np.where(volume[touching] < 0, -0.02 * step, 0.02 * step)
    vertices, faces, _, _ = marching_cubes(volume, 0.0, allow_degenerate=False, gradient_direction="ascent")
    return origin + vertices.astype(np.float64) * step, np.ascontiguousarray(faces, np.int32)


def _blocks(axes: list[np.ndarray], shape: Shape, both: bool, margin: float) -> list[tuple[tuple[slice, ...], np.ndarray]]:
    """The parts of the grid near a shape, each with the points (N, 3) at which the shape is to be evaluated there."""
    lower, upper = shape.bounds()
    sides = [1.0, -1.0] if both else [1.0]
    if both and lower[0] - margin < 0:
        # The two halves touch or overlap: one block, folded.
        lower, sides = np.array([-upper[0], lower[1], lower[2]]), [1.0]
    result = []
    for side in sides:
        low, high = (lower[0], upper[0]) if side > 0 else (-upper[0], -lower[0])
        spans = [(low, high), (lower[1], upper[1]), (lower[2], upper[2])]
        block = tuple(
            slice(int(np.searchsorted(axis, a - margin)), int(np.searchsorted(axis, b + margin)))
            for axis, (a, b) in zip(axes, spans, strict=True)
        )
        grid = np.stack(np.meshgrid(*(axis[s] for axis, s in zip(axes, block, strict=True)), indexing="ij"), -1).reshape(-1, 3)
        result.append((block, mirrored(grid) if both else grid))
    return result


def _vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    corners = vertices[faces]
    face_normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(vertices)
    for axis in range(3):
        normals[:, axis] = np.bincount(faces.ravel(), np.repeat(face_normals[:, axis], 3), len(vertices))
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


@dataclass(frozen=True)
class Paintwork:
    """The paint of a toy as a function of its surface points."""

    toy: Toy
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.toy.paints))

    def labels(self, points: np.ndarray) -> np.ndarray:
        """Index into ``names`` (N,) of the paint at toy points (N, 3) near the surface: the nearest part's, or a decal's over it."""
        points = points.astype(np.float32)
        folded = mirrored(points)
        # Far enough that the nearest part is always among those evaluated.
        nearest, labels = np.full(len(points), np.inf, np.float32), np.zeros(len(points), np.int64)
        for part in self.toy.parts:
            where = folded if part.mirrored else points
            near = _near(where, part.shape, self.toy.blend + 0.06)
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
        colours = np.array([self.toy.paints[name] for name in self.names])[labels]
        texture = self.toy.texture
        if texture is not None:
            painted = np.flatnonzero(labels == self.names.index(texture.paint))
            amount = pattern(texture, points[painted])[:, None]
            colours[painted] = colours[painted] * (1 - amount) + np.asarray(texture.colour) * amount
        return np.asarray(colours**2.2)


def _near(points: np.ndarray, shape: Shape, margin: float) -> np.ndarray:
    lower, upper = shape.bounds()
    return np.flatnonzero(((points > lower - margin) & (points < upper + margin)).all(axis=1))


def pattern(texture: Texture, points: np.ndarray) -> np.ndarray:
    """Share (N,) of the second colour at toy points (N, 3)."""
    p = (mirrored(points) + np.asarray(texture.phase)) * (2 * np.pi / texture.period)
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


_QUALIFIERS = re.compile(r"_(left|right|front|back|\d+)(?=_|$)")


def keypoint_table(names: tuple[str, ...]) -> dict[str, list]:
    """Groups that follow from keypoint names: what is left without "left", "right", "front", "back" and numbers names a repeated thing.

    Returns:
        ``names``; ``repeated``: groups of ids; ``mirrored``: pairs of ids that swap in a mirror; ``side``: 0 neutral, 1 left, 2 right.
    """
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        groups.setdefault(_QUALIFIERS.sub("", name), []).append(index)
    pairs = [[i, names.index(n.replace("_left", "_right"))] for i, n in enumerate(names) if "_left" in n]
    return {
        "names": list(names),
        "repeated": [g for g in groups.values() if len(g) > 1],
        "mirrored": pairs,
        "side": [1 if "_left" in n else 2 if "_right" in n else 0 for n in names],
    }

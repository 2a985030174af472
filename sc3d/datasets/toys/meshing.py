"""From a toy's distance functions to a watertight mesh of the canonical frame: bounding box centred at 0, longest side 1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import label
from skimage.measure import marching_cubes

from sc3d.datasets.toys.shapes import Shape, mirrored, smooth_minimum
from sc3d.datasets.toys.toy import Toy
from sc3d.geometry.open3d_binding import open3d_binding

FACES = 6000
# Neighbouring faces that meet at more than this angle are an edge of the toy, not a piece of something round.
_CREASE = np.cos(np.deg2rad(40))


@dataclass(frozen=True)
class ToyMesh:
    """A toy as a surface in the canonical frame: ``vertices`` (V, 3), ``faces`` (F, 3), unit vertex ``normals`` (V, 3).

    ``shading`` (F, 3, 3) are unit normals a corner of each face: averaged over the faces around it, but not across the toy's edges. A
    canonical point X is the toy's own point ``X * size + middle``.
    """

    vertices: np.ndarray
    faces: np.ndarray
    normals: np.ndarray
    shading: np.ndarray
    middle: np.ndarray
    size: float

    def canonical(self, points: np.ndarray) -> np.ndarray:
        """Toy points (N, 3) -> canonical points (N, 3)."""
        return np.asarray((points - self.middle) / self.size)

    def own(self, points: np.ndarray) -> np.ndarray:
        """Canonical points (N, 3) -> toy points (N, 3)."""
        return np.asarray(points * self.size + self.middle.astype(points.dtype))


def mesh_toy(toy: Toy) -> ToyMesh:
    """Mesh the soft union of the parts: marching cubes on a fine grid, then quadric decimation to at most 6,000 faces."""
    vertices, faces = _decimate(*_march(toy))
    lower, upper = vertices.min(0), vertices.max(0)
    middle, size = (lower + upper) / 2, float((upper - lower).max())
    # Rounded to what the truth file holds, so that keypoints lie on the stored mesh.
    canonical = ((vertices - middle) / size).astype(np.float32).astype(np.float64)
    normals, shading = _normals(canonical, faces)
    return ToyMesh(canonical, faces, normals, shading, middle, size)


def _decimate(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if len(faces) <= FACES:
        return vertices, faces
    o3d = open3d_binding()
    fine = o3d.geometry.TriangleMesh(o3d.utility.Vector3dVector(vertices), o3d.utility.Vector3iVector(faces))
    coarse = fine.simplify_quadric_decimation(FACES)
    return np.asarray(coarse.vertices), np.ascontiguousarray(coarse.triangles, np.int32)


def _bounds(toy: Toy) -> tuple[np.ndarray, np.ndarray]:
    boxes = [part.shape.bounds() for part in toy.parts]
    lower, upper = np.min([b[0] for b in boxes], axis=0), np.max([b[1] for b in boxes], axis=0)
    # Symmetric in x, so that the grid and with it the mesh has the toy's own mirror symmetry.
    reach = max(abs(lower[0]), abs(upper[0]))
    lower[0], upper[0] = -reach, reach
    return lower, upper


def _march(toy: Toy) -> tuple[np.ndarray, np.ndarray]:
    lower, upper = _bounds(toy)
    step = float((upper - lower).max() / toy.cells)
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
    volume = _one_piece(volume, step)
    # A surface exactly through a grid point makes triangles of no area there.
    touching = np.abs(volume) < 0.02 * step
    volume[touching] = np.where(volume[touching] < 0, -0.02 * step, 0.02 * step)
    vertices, faces, _, _ = marching_cubes(volume, 0.0, allow_degenerate=False, gradient_direction="descent")
    return origin + vertices.astype(np.float64) * step, np.ascontiguousarray(faces, np.int32)


def _one_piece(volume: np.ndarray, step: float) -> np.ndarray:
    """Fill the hollows that no path from outside leads to, and drop what hangs on nothing: one surface remains."""
    for inside in (False, True):
        pieces, count = label((volume < 0) == inside)
        if count > 1:
            keep = np.argmax(np.bincount(pieces.ravel())[1:]) + 1 if inside else pieces[0, 0, 0]
            volume = np.where((pieces > 0) & (pieces != keep), 0.5 * step if inside else -0.5 * step, volume)
    return volume


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


def _normals(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Area-weighted unit normals of vertices (V, 3) and of face corners (F, 3, 3), the latter not across creases."""
    corners = vertices[faces]
    weighted = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    flat = _unit(weighted)
    # Every pair of corners that share a vertex: sorted by vertex, a corner's partners are one run.
    order = np.argsort(faces.ravel(), kind="stable")
    counts = np.bincount(faces.ravel(), minlength=len(vertices))
    sizes = np.repeat(counts, counts)
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    first = np.repeat(np.arange(len(order)), sizes)
    second = np.arange(len(first)) - np.repeat(np.cumsum(sizes) - sizes, sizes) + np.repeat(starts, sizes)
    one, other = order[first], order[second] // 3
    smooth = np.einsum("nc,nc->n", flat[one // 3], flat[other]) > _CREASE
    shading, normals = np.empty((faces.size, 3)), np.empty_like(vertices)
    for axis in range(3):
        shading[:, axis] = np.bincount(one[smooth], weighted[other[smooth], axis], faces.size)
        normals[:, axis] = np.bincount(faces.ravel(), np.repeat(weighted[:, axis], 3), len(vertices))
    return _unit(normals), _unit(shading).reshape(-1, 3, 3)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.sqrt(np.maximum(np.einsum("nc,nc->n", vectors, vectors), 1e-24))[:, None])

"""A template seen all around: silhouettes with stretches, and renders that a feature network can describe.

72 views: azimuth every 15 degrees at elevations of 0, 15 and 30. A view is *framed*: a square 1.2 times as large as the longest side of
what is seen, around its middle, which is how a photo's object is cropped too. So a view compares with a photo without a camera.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from sc3d.geometry.camera import Pose, looking_from
from sc3d.geometry.contour import fill_triangles, project_points
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.templates.paint import IMAGE_SIDE, Painter
from sc3d.geometry.templates.template import Template

AZIMUTHS = tuple(range(0, 360, 15))
ELEVATIONS = (0, 15, 30)
VIEWS = tuple((float(azimuth), float(elevation)) for azimuth in AZIMUTHS for elevation in ELEVATIONS)

HEIGHTS = (0.8, 1.0, 1.25)
LENGTHS = (0.75, 1.0, 1.33)
STRETCHES = tuple((height, length) for height in HEIGHTS for length in LENGTHS)

MARGIN = 1.2
"""Side of a frame, in longest sides of what is in it."""

MASK_SIDE = 64
CELLS = 20

# A focal length of 1.7 image sides: a field of view of 33 degrees.
_FOCAL = 1.7
_DISTANCE = 2.2 * _FOCAL
# Silhouettes are drawn finer and averaged, so that their borders are soft.
_FINE = 2

Describer = Callable[[np.ndarray], Sequence[np.ndarray]]
"""Describes frames (N, 320, 320, 3) uint8: layers (N, C, 20, 20), the background's cells included. Injected, so that no network is known
here."""

# How much each layer of a describer counts: for those of EfficientNet-Lite0's blocks 7, 10 and 14.
LAYER_WEIGHTS = (0.5, 1.0, 1.0)


def stretched(mesh: Mesh, height: float, length: float) -> Mesh:
    """The mesh with its height (y) and its length (z) multiplied; the numbering of vertices and faces stays."""
    return Mesh(mesh.vertices * np.array([1.0, height, length]), mesh.faces)


def distance_of(mesh: Mesh) -> float:
    """Where the camera stands before the object: in units of the mesh."""
    return float(_DISTANCE * np.linalg.norm(mesh.vertices, axis=1).max())


@dataclass(frozen=True)
class Frame:
    """A square of an image: ``left``, ``top`` and ``side`` in its pixels."""

    left: float
    top: float
    side: float

    @classmethod
    def around(cls, low: np.ndarray, high: np.ndarray) -> Frame:
        """The frame of what spans from ``low`` (2,) to ``high`` (2,)."""
        side = MARGIN * float((high - low).max())
        left, top = (low + high) / 2 - side / 2
        return cls(float(left), float(top), side)

    @classmethod
    def of_mask(cls, mask: np.ndarray) -> Frame:
        """The frame of a mask (H, W) bool that is not empty."""
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        return cls.around(np.array([columns[0], rows[0]], float), np.array([columns[-1] + 1, rows[-1] + 1], float))

    def intrinsics(self, K: np.ndarray, side: int) -> np.ndarray:
        """``K`` (3, 3) of the frame resized to ``side`` pixels, of a camera with the intrinsics ``K`` of the whole image."""
        scale = side / self.side
        return np.array([[scale, 0, -self.left * scale], [0, scale, -self.top * scale], [0, 0, 1.0]]) @ K

    def restored(self, K: np.ndarray, side: int) -> np.ndarray:
        """Inverse of :meth:`intrinsics`: K (3, 3) of the whole image."""
        scale = self.side / side
        return np.array([[scale, 0, self.left], [0, scale, self.top], [0, 0, 1.0]]) @ K

    def crop(self, image: np.ndarray, side: int, outside: float = 0.0) -> np.ndarray:
        """The frame of an ``image`` (H, W) or (H, W, C) at ``side`` pixels, averaged where it shrinks; ``outside`` beyond the border."""
        low = np.floor([self.left, self.top]).astype(int)
        high = np.ceil([self.left + self.side, self.top + self.side]).astype(int)
        height, width = image.shape[:2]
        top, bottom, left, right = (int(max(n, 0)) for n in (-low[1], high[1] - height, -low[0], high[0] - width))
        cut = image[max(low[1], 0) : min(high[1], height), max(low[0], 0) : min(high[0], width)]
        padded = cv2.copyMakeBorder(cut, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(outside,) * 3)
        shrinks = len(padded) > side
        return cv2.resize(padded, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def framed_camera(vertices: np.ndarray, R: np.ndarray, distance: float) -> np.ndarray:
    """K (3, 3) in units of the frame's side, of the frame around vertices (V, 3) seen at ``R``, from ``distance``."""
    seen = vertices @ R.T
    xy = seen[:, :2] / (seen[:, 2:] + distance)
    frame = Frame.around(xy.min(axis=0), xy.max(axis=0))
    return frame.intrinsics(np.eye(3), 1)


class SilhouetteMaker:
    """Draws the silhouettes of one mesh, from its vertices (V, 3) in a camera's frame and K (3, 3) in units of the frame's side."""

    def __init__(self, faces: np.ndarray, side: int = MASK_SIDE, fine: int = _FINE) -> None:
        self._faces, self._side, self._fine = faces, side, fine
        self._coverage = np.zeros((side * fine, side * fine), np.uint8)

    def draw(self, seen: np.ndarray, K: np.ndarray) -> np.ndarray:
        """Coverage (side, side) float32 in 0 to 1."""
        blocks = self.cover(seen, K).reshape(self._side, self._fine, self._side, self._fine)
        return np.asarray(blocks.mean(axis=(1, 3), dtype=np.float32))

    def cover(self, seen: np.ndarray, K: np.ndarray) -> np.ndarray:
        """Which centres of the fine pixels are covered: (side * fine, side * fine) uint8, 0 or 1, overwritten by the next call."""
        in_pixels = K * np.array([[self._side * self._fine], [self._side * self._fine], [1.0]])
        xyz, uv = np.empty_like(seen), np.empty((len(seen), 2))
        project_points(seen, 1.0, np.zeros(3), in_pixels, 0.0, xyz, uv)
        fill_triangles(uv, self._faces, self._coverage)
        return self._coverage


def view_silhouettes(mesh: Mesh) -> np.ndarray:
    """Silhouettes (72, 9, 64, 64) float32 of all views and stretches."""
    distance, maker = distance_of(mesh), SilhouetteMaker(mesh.faces)
    shapes = [stretched(mesh, *stretch).vertices for stretch in STRETCHES]
    result = np.empty((len(VIEWS), len(STRETCHES), MASK_SIDE, MASK_SIDE), np.float32)
    for view, direction in enumerate(VIEWS):
        R = looking_from(*direction, 0.0)
        for stretch, vertices in enumerate(shapes):
            K = framed_camera(vertices, R, distance)
            result[view, stretch] = maker.draw(vertices @ R.T + (0, 0, distance), K)
    return result


def render_views(template: Template) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (72, 320, 320, 3) uint8 of all views on grey, and their masks (72, 320, 320) bool."""
    mesh, distance = template.mesh, distance_of(template.mesh)
    painter = Painter(mesh, template.colours)
    pictures = np.empty((len(VIEWS), IMAGE_SIDE, IMAGE_SIDE, 3), np.uint8)
    masks = np.empty(pictures.shape[:3], bool)
    for view, direction in enumerate(VIEWS):
        R = looking_from(*direction, 0.0)
        K = framed_camera(mesh.vertices, R, distance)
        pictures[view], masks[view] = painter.paint(Pose(R, np.array([0, 0, distance])), K)
    return pictures, masks


class TemplateViews:
    """A template's views, ready to be compared with photos.

    Attributes:
        template: the template.
        describe: the network that described its renders.
        silhouettes: (72, 9, 4096) float32.
        cells: (400, 72, C) float32, unit vectors of the renders' cells; 0 on the background.
        foreground: (400, 72) bool.

    Raises:
        GeometryError: the template cannot be rendered.
    """

    def __init__(self, template: Template, describe: Describer) -> None:
        self.template, self.describe = template, describe
        self.silhouettes = view_silhouettes(template.mesh).reshape(len(VIEWS), len(STRETCHES), -1)
        pictures, masks = render_views(template)
        foreground = cell_masks(masks)
        layers = describe(pictures)
        # The mean over all views: what only says that this is a render.
        self.cells = np.ascontiguousarray(described_cells(layers, foreground, per_picture=False).transpose(1, 0, 2))
        self.foreground = np.ascontiguousarray(foreground.T)


def cell_masks(masks: np.ndarray) -> np.ndarray:
    """Which of the cells (N, 400) of masks (N, 320, 320) are mostly covered; of a mask that covers no cell so far, the most covered one."""
    cell = masks.shape[1] // CELLS
    share = masks.reshape(len(masks), CELLS, cell, CELLS, cell).mean(axis=(2, 4), dtype=np.float32).reshape(len(masks), -1)
    return np.asarray(share >= np.minimum(0.5, share.max(axis=1, keepdims=True)))


def described_cells(layers: Sequence[np.ndarray], foreground: np.ndarray, per_picture: bool) -> np.ndarray:
    """Unit vectors (N, 400, C) of the foreground cells, 0 elsewhere: layers (N, C, 20, 20) without their foreground's mean, of unit length,
    weighted. ``per_picture``: each picture has its own mean, else all have one."""
    inside = foreground[..., None].astype(np.float32)
    parts = []
    for layer, weight in zip(layers, LAYER_WEIGHTS, strict=True):
        values = np.asarray(layer, np.float32).reshape(*layer.shape[:2], -1).transpose(0, 2, 1)
        axes = (1,) if per_picture else (0, 1)
        values = values - (values * inside).sum(axis=axes, keepdims=True) / np.maximum(inside.sum(axis=axes, keepdims=True), 1)
        values = values / np.maximum(np.linalg.norm(values, axis=2, keepdims=True), 1e-9)
        parts.append(values * np.float32((weight / sum(LAYER_WEIGHTS)) ** 0.5))
    return np.asarray(np.concatenate(parts, axis=2) * inside, np.float32)

"""What an image tells a class shape: its foreground cells with their features and depths, and, where it is annotated, its keypoints.

Depths are along the camera's axis, in any one unit an image: where the focal length is not known, that of a monocular network will do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_erosion, distance_transform_edt, map_coordinates

from sc3d.class_shapes.camera import in_sides
from sc3d.errors import InputError
from sc3d.grid import Letterbox


@dataclass(frozen=True, eq=False)
class Depth:
    """Depths (height, width) float32 on a raster of any size over the whole image, NaN or infinite where nothing is known, and the inverse
    focal length in 1 / longer sides, if it is known."""

    values: np.ndarray
    inverse_focal: float | None = None


@dataclass(frozen=True, eq=False)
class Observation:
    """An image with P foreground cells.

    Attributes:
        image_id: of the image.
        letterbox: its grid.
        foreground: (side, side) bool, at least one of them.
        xy: (P, 2) the cells' centres in longer sides.
        depth: (P,) of the cells; the median of the others where one is not known.
        features: (P, C) float32 of unit length.
        inverse_focal: in 1 / longer sides, if it is known.
        pose: (3, 3) rotation from the frame that the category's meshes share to the camera's, if the image has a posed mesh.
    """

    image_id: str
    letterbox: Letterbox
    foreground: np.ndarray
    xy: np.ndarray
    depth: np.ndarray
    features: np.ndarray
    inverse_focal: float | None = None
    pose: np.ndarray | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the image in pixels."""
        return self.letterbox.size


@dataclass(frozen=True, eq=False)
class Annotation:
    """The keypoints of an image: ids (V,), places (V, 2) in longer sides, depths (V,) and unit features (V, C)."""

    ids: np.ndarray
    xy: np.ndarray
    depth: np.ndarray
    features: np.ndarray


DEPTH_SIDE = 320
"""Longer side in pixels of a raster of depths: five for a cell of the working grid."""
_RANGE = 0.3


def depth_raster(width: int, height: int) -> tuple[int, int]:
    """Width and height of the raster of depths of an image of so many pixels."""
    factor = min(DEPTH_SIDE / max(width, height), 1)
    return max(round(width * factor), 1), max(round(height * factor), 1)


def depth_of_nearness(nearness: np.ndarray) -> np.ndarray:
    """What a monocular network says (h, w), larger for what is nearer, as depths (h, w) float16 in [0.7, 1]: ``1 - 0.3 D / max D``. Exact.

    Raises:
        InputError: it is not finite, or nowhere above 0.
    """
    top = float(nearness.max(initial=0.0))
    if not np.isfinite(nearness).all() or top <= 0:
        raise InputError("the depth network found no depth in this photo; use another depth for it")
    return np.asarray(1 - _RANGE * np.maximum(nearness, 0) / top, np.float16)


def observe(image_id: str, letterbox: Letterbox, foreground: np.ndarray, depth: Depth, features: np.ndarray) -> Observation:
    """Gather what an image tells.

    Args:
        foreground: (side, side) bool.
        features: (side * side, C) of all cells; they are brought to unit length.

    Raises:
        InputError: there is no foreground, no depth on it, or its features are not finite; or depth or
            features are of another size.
    """
    if len(features) != letterbox.side**2:
        raise InputError(f"{image_id}: features of {len(features)} cells for a grid of {letterbox.side**2}")
    rows, columns = depth.values.shape
    # Of a raster that is smaller than the image, sides are rounded.
    if abs(letterbox.width * rows - letterbox.height * columns) > max(letterbox.size):
        raise InputError(f"{image_id}: depth of {columns} x {rows} pixels for an image of {letterbox.width} x {letterbox.height}")
    cells = np.flatnonzero(foreground.reshape(-1))
    if not len(cells):
        raise InputError(f"{image_id}: no cell of the working grid lies on the object; check its mask")
    pixels = letterbox.centres(cells)
    found = _depth_at(depth.values, pixels, letterbox)
    known = np.isfinite(found) & (found > 0)
    if not known.any():
        raise InputError(f"{image_id}: no depth is known on the object; check its depth, or describe it again")
    if not np.isfinite(features[cells]).all():
        raise InputError(f"{image_id}: the features of its object are not all finite; describe it again")
    return Observation(
        image_id,
        letterbox,
        foreground,
        in_sides(pixels, letterbox.size),
        np.where(known, found, np.median(found[known])),
        unit_rows(features[cells]),
        depth.inverse_focal,
    )


def annotate(
    observation: Observation, ids: np.ndarray, xy: np.ndarray, depth: Depth, mask: np.ndarray, features: np.ndarray
) -> Annotation:
    """The keypoints of an observed image. Exact: each is moved to the nearest pixel well inside the mask, where depth is the object's.

    Args:
        ids, xy: (V,) and (V, 2) in pixels of the image.
        mask: (height, width) bool.
        features: (side * side, C) of all cells.

    Keypoints without depth are left out.
    """
    inside = _eroded(mask)
    row, column = (np.clip(xy[:, axis].astype(np.int64), 0, mask.shape[1 - axis] - 1) for axis in (1, 0))
    if inside.any():
        _, at = distance_transform_edt(~inside, return_indices=True)
        row, column = at[0][row, column], at[1][row, column]
    snapped = np.stack([column, row], axis=1) + 0.5
    found = _depth_at(depth.values, snapped, observation.letterbox)
    known = np.isfinite(found) & (found > 0)
    cells = observation.letterbox.cells_of(snapped[known])
    return Annotation(ids[known], in_sides(snapped[known], observation.size), found[known], unit_rows(features[cells]))


def unit_rows(features: np.ndarray) -> np.ndarray:
    """Features (N, C) of unit length, float32; those of zero stay."""
    features = np.asarray(features, np.float32)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def _eroded(mask: np.ndarray) -> np.ndarray:
    """The mask without a rim of a hundredth of the image, as far as anything is left of it."""
    for width in (max(mask.shape) // 100, 1):
        if width and (inside := binary_erosion(mask, iterations=width)).any():
            return inside
    return mask


def _depth_at(values: np.ndarray, pixels: np.ndarray, letterbox: Letterbox) -> np.ndarray:
    """Depths (N,) at pixels (N, 2) of the image, of the raster's pixel that each lies in; NaN outside."""
    raster = np.floor(pixels / letterbox.size * values.shape[::-1])
    return np.asarray(map_coordinates(values, raster[:, ::-1].T, order=0, mode="constant", cval=np.nan), np.float64)

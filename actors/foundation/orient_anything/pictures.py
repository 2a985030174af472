"""Pictures for a network that was trained on photos and renderings: shaded views of a mesh, and the framing of the object.

n: views, h, w: their size.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from sc3d.errors import InputError

# Of the shorter distance between the object and the frame, and so of its box in the picture, as upstream has it.
_FOREGROUND = 0.85
_LIGHT = np.array([-0.35, -0.55, 0.76], np.float32)
_AMBIENT, _DIFFUSE = 80.0, 130.0


def clay_pictures(views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Views as a grey object under a lamp above the camera's left: what a photo of the mesh without colours would show.

    Args:
        views: nearness maps (n, h, w), as :func:`sc3d.geometry.yaw.render_yaw_views` makes them.

    Returns:
        Pictures (n, h, w, 3) uint8, and where the object is, (n, h, w) bool.
    """
    covered = views > 0
    depth = np.where(covered, views, np.nan).astype(np.float32)
    # Nearness 1 is two sphere radii, and so is nearly the whole width of a view.
    width = views.shape[-1]
    normals = np.stack([-_slope(depth, 2) * width, -_slope(depth, 1) * width, np.ones_like(depth)], axis=-1)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    shade = np.where(covered, _AMBIENT + _DIFFUSE * np.clip(normals @ _LIGHT, 0, 1), 0)
    return np.repeat(np.rint(shade).astype(np.uint8)[..., None], 3, axis=-1), covered


def _slope(depth: np.ndarray, axis: int) -> np.ndarray:
    """Difference to the neighbour on the side where it is smaller, so that the step to a farther surface is none; 0 without neighbours."""
    step = np.diff(depth, axis=axis)
    after = np.concatenate([step, np.full_like(np.take(depth, [0], axis), np.nan)], axis)
    before = np.concatenate([np.full_like(np.take(depth, [0], axis), np.nan), step], axis)
    smaller = np.where(~(np.abs(after) > np.abs(before)) & np.isfinite(after), after, before)
    return np.nan_to_num(smaller)


def framed_square(picture: np.ndarray, mask: np.ndarray, background: int) -> Image.Image:
    """The object alone, in the middle of a square picture, with the margins of upstream.

    Args:
        picture: (h, w, 3) uint8 RGB.
        mask: (h, w) bool, the object.
        background: grey value of everything else.

    Raises:
        InputError: the mask is empty, or sizes differ.
    """
    if picture.shape != (*mask.shape, 3) or picture.dtype != np.uint8:
        raise InputError(
            f"a picture (h, w, 3) uint8 with a mask (h, w) is needed, got {picture.dtype} {picture.shape}, {mask.shape}"
        )
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        raise InputError("there is no object in the picture: its mask is empty")
    height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
    inner = max(height, width)
    side = int(inner / _FOREGROUND)
    top, left = (side - inner) // 2 + (inner - height) // 2, (side - inner) // 2 + (inner - width) // 2
    square = np.full((side, side, 3), background, np.uint8)
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    square[top : top + height, left : left + width][mask[box]] = picture[box][mask[box]]
    return Image.fromarray(square)

"""What views all around a mesh look like, as one vector that turns with the mesh at no cost.

Descriptors have the shape (8, D), a row a yaw, and unit length. A mesh that is turned by 90 k degrees shows at yaw v what it showed
at yaw v + 90 k before. So its descriptor has the same rows, rolled by -2k.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from sc3d.errors import FeatureError
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.orientation.renders import ELEVATIONS, render_grey_views
from sc3d.geometry.yaw import TURNS, YAWS, describe_views, render_yaw_views

GRIDS = (1, 3)
"""Sides of the grids that layers are averaged on."""

PictureDescriber = Callable[[np.ndarray], Sequence[np.ndarray]]
"""Describes pictures (N, 192, 192) uint8, grey: layers (N, C, h, w) float32, whose h and w divide 192 and are multiples of 3. Injected, so
that no network is known here."""

_STEP = len(YAWS) // len(TURNS)


def describe_renders(mesh: Mesh, describe: PictureDescriber) -> np.ndarray:
    """Descriptor (8, D) float32 of a mesh by a network's layers of its grey renders; D is 20 times the layers' channels.

    Each layer loses its mean over the object in the eight views of an elevation, which only says what all renders of the mesh share. It
    is averaged on two grids. The four blocks of an elevation and a grid count the same.

    Raises:
        GeometryError: the mesh cannot be rendered.
        FeatureError: the network's answer is not finite.
    """
    pictures, masks = render_grey_views(mesh)
    blocks = []
    for level in range(len(ELEVATIONS)):
        layers = describe(pictures[level])
        pooled = [pool_layer(np.asarray(layer, np.float32), masks[level]) for layer in layers]
        blocks += [np.concatenate([one[grid] for one in pooled], axis=1) for grid in range(len(GRIDS))]
    values = np.concatenate([block / max(float(np.linalg.norm(block)), 1e-12) for block in blocks], axis=1)
    if not np.isfinite(values).all():
        raise FeatureError("the features of the mesh's renders are not finite")
    return np.asarray(values / len(blocks) ** 0.5, np.float32)


def pool_layer(layer: np.ndarray, masks: np.ndarray) -> tuple[np.ndarray, ...]:
    """A layer (N, C, h, w) of N views of one mesh without its mean over the object, averaged on each of :data:`GRIDS`.

    Args:
        masks: (N, H, W) bool, the object; H and W are multiples of h and w.

    Returns:
        For each grid of side g (N, g g C): each cell has the direction of its average, and as length the share of it that the object
        covers.
    """
    n, _, height, width = layer.shape
    coverage = masks.reshape(n, height, masks.shape[1] // height, width, -1).mean(axis=(2, 4), dtype=np.float32)[:, None]
    centred = layer - (layer * coverage).sum(axis=(0, 2, 3), keepdims=True) / max(float(coverage.sum()), 1e-12)
    centred *= coverage
    pooled = []
    for side in GRIDS:
        cells = _averaged(centred, side)
        covered = _averaged(coverage, side)
        unit = cells / np.maximum(np.linalg.norm(cells, axis=1, keepdims=True), 1e-12)
        pooled.append((unit * covered).reshape(n, -1))
    return tuple(pooled)


def describe_normals(mesh: Mesh) -> np.ndarray:
    """Descriptor (8, D) float32 of a mesh by the surface normals and outlines of its views: where there is no network.

    Raises:
        GeometryError: the mesh cannot be rendered.
    """
    return np.asarray(describe_views(render_yaw_views(mesh)) / len(YAWS) ** 0.5, np.float32)


def turned(descriptors: np.ndarray, quarters: int) -> np.ndarray:
    """Descriptors (..., 8, D) of the meshes after a turn by 90 ``quarters`` degrees."""
    return np.roll(descriptors, -_STEP * quarters, axis=-2)


def _averaged(layer: np.ndarray, side: int) -> np.ndarray:
    n, channels, height, width = layer.shape
    return np.asarray(layer.reshape(n, channels, side, height // side, side, width // side).mean(axis=(3, 5)))

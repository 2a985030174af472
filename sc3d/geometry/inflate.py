"""A closed mesh from nothing but a silhouette.

The height over the silhouette is the square root of the solution of a Poisson equation in it, which turns a disc into a ball and a
bar into a round bar: the classical inflation of sketch-based modelling (Gorelick et al., TPAMI 2006, use the same equation for
shapes). It is a guess: front and back are mirror images, and nothing is known of what the photo does not show.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy.ndimage import distance_transform_edt, label
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import spsolve
from skimage.measure import marching_cubes

from sc3d.errors import InputError
from sc3d.geometry.camera import Camera, Pose

CELLS = 48
# Silhouettes thinner than a few cells get a finer grid, up to this many times as fine.
_MAX_REFINEMENT = 4
MIN_SIDE = 8
# Focal length in long image sides: a field of view of 45 degrees, common in photos.
FOCAL = 1.2
# OpenCV looks along +z with y down; the canonical frame has y up and the front (+z) towards the camera.
_FACING = np.diag([1.0, -1.0, -1.0])


def inflate(mask: np.ndarray, cells: int = CELLS) -> tuple[np.ndarray, np.ndarray, Camera, Pose]:
    """Inflate the largest connected piece of a mask (H, W) bool to a watertight mesh that projects back onto it.

    The vertices lie on the camera rays of the silhouette's grid points, so the mesh's outline in the image is the mask's outline in
    spite of its thickness.

    Args:
        cells: grid cells along the long side of the piece's box; more for a piece that is only a few cells thick.

    Returns:
        vertices (V, 3) in the canonical frame (y up, front towards the camera, box centred with a longest side of 1), faces (F, 3)
        with outward normals, the camera (focal length 1.2 long image sides), and the pose of the mesh in it.

    Raises:
        InputError: the mask is empty, or its largest piece is less than 8 pixels long or too thin to have an inside.
    """
    height, width = mask.shape
    piece, (left, top) = _crop_largest(mask)
    thickness = float(distance_transform_edt(np.pad(piece, 1)).max())
    pitch = max(piece.shape) / cells * float(np.clip(thickness * cells / (4 * max(piece.shape)), 1 / _MAX_REFINEMENT, 1))
    distance = _signed_distance(piece, pitch)
    if not (distance > 0).any():
        raise InputError("the mask's largest piece is a line: too thin to be a shape")
    surface = _height_squared(distance)
    faces, grid = _closed_surface(surface)
    # Grid node i stands for the pixel coordinate (i - 2) * pitch of the crop; two nodes of border close the surface.
    xy = (grid[:, :2] - 2) * pitch + (left, top)
    camera = Camera.from_focal(FOCAL * max(width, height), width, height)
    focal, centre = camera.K[0, 0], camera.K[:2, 2]
    depth = focal / max(piece.shape)
    z = depth - grid[:, 2] * pitch / max(piece.shape)
    points = np.column_stack([(xy - centre) / focal * z[:, None], z])
    canonical = points @ _FACING.T
    low, high = canonical.min(axis=0), canonical.max(axis=0)
    middle, scale = (low + high) / 2, float((high - low).max())
    pose = Pose(_FACING.T, _FACING.T @ middle, scale)
    return (canonical - middle) / scale, faces, camera, pose


def _crop_largest(mask: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    labels, count = label(mask)
    if count == 0:
        raise InputError("an empty mask has no shape to inflate")
    piece = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    rows, columns = np.flatnonzero(piece.any(axis=1)), np.flatnonzero(piece.any(axis=0))
    crop = piece[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    if max(crop.shape) < MIN_SIDE:
        raise InputError(f"the mask's largest piece is {crop.shape[1]} x {crop.shape[0]} pixels: too small to be a shape")
    return crop, (int(columns[0]), int(rows[0]))


def _signed_distance(piece: np.ndarray, pitch: float) -> np.ndarray:
    """Distance to the outline in grid steps, positive inside, at the nodes of a grid with two nodes of border: (h, w)."""
    border = int(np.ceil(3 * pitch))
    padded = np.pad(piece, border)
    # Pixel centres on both sides of the outline are half a pixel away from it.
    pixels = np.where(padded, distance_transform_edt(padded) - 0.5, 0.5 - distance_transform_edt(~padded))
    nodes = [np.arange(-2, int(np.ceil(n / pitch)) + 3) * pitch + border - 0.5 for n in piece.shape]
    y, x = np.meshgrid(*(n.astype(np.float32) for n in nodes), indexing="ij")
    sampled = cv2.remap(pixels.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return sampled.astype(np.float64) / pitch


def _height_squared(distance: np.ndarray) -> np.ndarray:
    """Solve laplace(u) = -4 inside, u = 0 at the outline, and continue it with the distance's sign outside: (h, w).

    The solution knows the outline only to the nearest node. Written as distance times slope, with the slope continued outwards, it
    changes its sign exactly where the distance does.
    """
    inside = distance > 0
    number = np.full(distance.shape, -1)
    number[inside] = np.arange(inside.sum())
    rows, columns, values = [], [], []
    own = number[inside]
    for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
        neighbour = np.roll(number, step, axis=axis)[inside]
        linked = neighbour >= 0
        rows.append(own[linked])
        columns.append(neighbour[linked])
        values.append(np.full(linked.sum(), -1.0))
    n = len(own)
    rows, columns, values = [*rows, own], [*columns, own], [*values, np.full(n, 4.0)]
    system = coo_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=(n, n)).tocsc()
    solution = np.zeros(distance.shape)
    solution[inside] = spsolve(system, np.full(n, 4.0))
    slope = np.where(inside, solution / np.maximum(distance, 0.25), 0)
    nearest = distance_transform_edt(~inside, return_distances=False, return_indices=True)
    return slope[tuple(nearest)] * distance


def _closed_surface(height_squared: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Level set z^2 = height_squared(x, y): faces (F, 3) and vertices (V, 3) as x, y, z in grid steps, z towards the camera."""
    reach = int(np.ceil(np.sqrt(height_squared.max()))) + 2
    z = np.arange(-reach, reach + 1)
    field = height_squared[:, :, None] - z.astype(np.float64) ** 2
    vertices, faces, _, _ = marching_cubes(field, 0.0)
    vertices = vertices[:, [1, 0, 2]] - (0, 0, reach)
    # Swapping x and y mirrors the surface, so its triangles are turned round to keep their normals outward.
    return faces[:, ::-1].astype(np.int64), vertices

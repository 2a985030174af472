"""Pictures for the page: small copies of photos, masks and posed meshes drawn over them, feature colours; as data URIs.

Images are (H, W, 3) uint8, masks (H, W) bool.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import binary_dilation, binary_erosion

from sc3d.geometry.camera import Camera, Pose, yaw_rotation
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.raster import Raster
from sc3d.report.colours import MASK, MESH

_JPEG_QUALITY = 80


def jpeg_uri(image: np.ndarray) -> str:
    """A photo as a ``data:`` URI."""
    return _uri(image, "JPEG", "jpeg", quality=_JPEG_QUALITY, optimize=True)


def png_uri(image: np.ndarray) -> str:
    """An RGB or RGBA picture as a ``data:`` URI, without loss."""
    return _uri(image, "PNG", "png", optimize=True)


def webp_uri(image: np.ndarray) -> str:
    """A photo with transparent parts (RGBA) as a ``data:`` URI."""
    return _uri(image, "WEBP", "webp", quality=_JPEG_QUALITY)


def _uri(image: np.ndarray, kind: str, mime: str, **options: object) -> str:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, kind, **options)
    return f"data:image/{mime};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def shrink(image: np.ndarray, long_side: int) -> np.ndarray:
    """The picture with its long side at most ``long_side`` pixels."""
    return _resized(image, long_side) if max(image.shape[:2]) > long_side else image


def enlarge(image: np.ndarray, long_side: int) -> np.ndarray:
    """The picture with its long side at least ``long_side`` pixels."""
    return _resized(image, long_side) if max(image.shape[:2]) < long_side else image


def _resized(image: np.ndarray, long_side: int) -> np.ndarray:
    height, width = image.shape[:2]
    factor = long_side / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def shrink_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The mask resized to ``size`` (width, height)."""
    grey = Image.fromarray(mask.astype(np.uint8) * np.uint8(255)).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(grey) > 127


def faded(image: np.ndarray, strength: float = 0.6) -> np.ndarray:
    """The photo with less colour, so that what is drawn on it stands out."""
    grey = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2)
    return (strength * grey + (1 - strength) * image).astype(np.uint8)


def outline_mask(image: np.ndarray, mask: np.ndarray, fill: float = 0.0) -> np.ndarray:
    """The mask's outline on the photo, its inside tinted by ``fill``."""
    result = image.astype(np.float64)
    colour = np.array(MASK, np.float64)
    if fill:
        result[mask] = (1 - fill) * result[mask] + fill * colour
    result[binary_dilation(mask, iterations=2) & ~mask] *= 0.45
    result[mask & ~binary_erosion(mask, iterations=2, border_value=1)] = colour
    return result.astype(np.uint8)


def overlay_mesh(image: np.ndarray, mask: np.ndarray, mesh: Mesh, pose: Pose, camera: Camera) -> np.ndarray:
    """The posed mesh, shaded, on the faded photo, with the mask's outline on top: how well the two agree.

    Args:
        image: (h, w, 3), the photo at the size of the result.
        mask: (h, w).
        camera: of the original photo.

    Raises:
        GeometryError: the mesh has no extent.
    """
    height, width = mask.shape
    maps = Raster(mesh).render(pose, camera, width, height)
    shade = shading(mesh, pose)[maps.face]
    result = faded(image).astype(np.float64)
    mesh_colour = np.array(MESH, np.float64) * shade[..., None]
    result[maps.mask] = 0.25 * result[maps.mask] + 0.75 * mesh_colour[maps.mask]
    return outline_mask(np.clip(result, 0, 255).astype(np.uint8), mask)


def shading(mesh: Mesh, pose: Pose) -> np.ndarray:
    """Brightness (F,) of each face in light from above the viewer's left shoulder; both sides of a face are lit."""
    corners = pose.apply(mesh.vertices)[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    # A face is drawn when it is seen, so its normal is the one that points to the camera.
    normals *= np.where((normals * corners.mean(axis=1)).sum(axis=1) > 0, -1.0, 1.0)[:, None]
    light = np.array([-0.45, -0.65, -0.61])
    return np.asarray(0.55 + 0.75 * np.maximum(normals @ light, 0.0))


def front_view(mesh: Mesh, turn: int, side: int) -> np.ndarray:
    """The canonical mesh after ``turn`` degrees of yaw, seen from its front and a little above: (side, side, 4) uint8, clear around it."""
    pitch = np.deg2rad(18.0)
    flip = np.diag([1.0, -1.0, -1.0])
    tilt = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    return mesh_view(mesh, tilt @ flip @ yaw_rotation(turn), side).picture


@dataclass(frozen=True, eq=False)
class MeshView:
    """A mesh by itself: ``picture`` (side, side, 4) uint8, clear around it, ``depth`` (side, side), and how it is seen."""

    picture: np.ndarray
    depth: np.ndarray
    pose: Pose
    camera: Camera


def mesh_view(mesh: Mesh, rotation: np.ndarray, side: int, colour: tuple[int, int, int] = MESH) -> MeshView:
    """The mesh turned by ``rotation`` (3, 3) into an OpenCV camera that sees all of it."""
    centre = (mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0)) / 2
    pose = Pose(rotation, np.array([0.0, 0.0, 2.4 * mesh.diagonal]) - rotation @ centre)
    camera = Camera.from_focal(2.2 * side, side, side)
    maps = Raster(mesh).render(pose, camera, side, side)
    picture = np.zeros((side, side, 4), np.uint8)
    colours = np.clip(np.array(colour) * shading(mesh, pose)[maps.face][..., None], 0, 255)
    picture[maps.mask, :3] = colours[maps.mask]
    picture[maps.mask, 3] = 255
    return MeshView(picture, maps.depth, pose, camera)


def grid_picture(cells: np.ndarray, colours: np.ndarray, side: int) -> np.ndarray:
    """Coloured cells of the working grid, clear elsewhere: ``cells`` (N,), ``colours`` (N, 3) uint8 -> (side, side, 4) uint8.

    A cell that occurs several times takes the mean of its colours.
    """
    sums = np.zeros((side * side, 3))
    counts = np.bincount(cells, minlength=side * side)
    np.add.at(sums, cells, colours.astype(np.float64))
    picture = np.zeros((side * side, 4), np.uint8)
    filled = counts > 0
    picture[filled, :3] = np.round(sums[filled] / counts[filled, None])
    picture[filled, 3] = 255
    return picture.reshape(side, side, 4)


def principal_colours(descriptors: list[np.ndarray], most: int = 800) -> list[np.ndarray]:
    """The first three principal components of several images' descriptors, found jointly, as colours that compare across the images.

    Args:
        descriptors: one (N_i, C) array an image; rows of zeros (no descriptor) become grey.
        most: rows that the components are found from, spread evenly over all.

    Returns:
        One (N_i, 3) uint8 array an image.
    """
    lengths = [len(d) for d in descriptors]
    rows = np.concatenate(descriptors).astype(np.float64) if descriptors else np.zeros((0, 1))
    known = np.flatnonzero((rows != 0).any(axis=1))
    colours = np.full((len(rows), 3), 128, np.uint8)
    if len(known) >= 4:
        chosen = rows[known[:: -(-len(known) // most)]]
        mean = chosen.mean(axis=0)
        axes = _principal_axes(chosen - mean)
        scores = (rows[known] - mean) @ axes
        low, high = np.percentile(scores, [2, 98], axis=0)
        colours[known] = np.round(255 * np.clip((scores - low) / np.maximum(high - low, 1e-9), 0, 1))
    return np.split(colours, np.cumsum(lengths)[:-1])


def _principal_axes(centred: np.ndarray, rounds: int = 12) -> np.ndarray:
    """The three directions (C, 3) in which centred rows (N, C) vary most, by subspace iteration: a full decomposition of thousands of
    channels takes seconds, and nobody sees the last digits of a colour. The largest entry of each direction is positive."""
    extra = 5
    basis = np.random.default_rng(0).normal(size=(centred.shape[1], 3 + extra))
    for _ in range(rounds):
        basis, _ = np.linalg.qr(centred.T @ (centred @ basis))
    _, _, rotation = np.linalg.svd(centred @ basis, full_matrices=False)
    axes = (basis @ rotation.T)[:, :3]
    signs = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    return axes * np.where(signs == 0, 1.0, signs)

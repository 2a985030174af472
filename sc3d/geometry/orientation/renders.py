"""Grey renders of a mesh all around, for a network that was trained on photos."""

from __future__ import annotations

import numpy as np

from sc3d.errors import GeometryError
from sc3d.geometry.camera import Camera, Pose, looking_from
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.raster import Raster
from sc3d.geometry.templates.paint import BACKGROUND, GAMMA, LIGHT
from sc3d.geometry.templates.template import GREY
from sc3d.geometry.yaw import YAWS

ELEVATIONS = (15.0, 40.0)
SIDE = 192

_DISTANCE = 4.0
_MARGIN = 1.1
_AMBIENT, _SKY, _LAMBERT = 0.25, 0.25, 0.55


def render_grey_views(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    """The mesh at the yaws of :data:`~sc3d.geometry.yaw.YAWS`, from both elevations, each view cropped to what is seen.

    Returns:
        Pictures (2, 8, 192, 192) uint8, grey on grey, by elevation and yaw; and their masks (2, 8, 192, 192) bool.

    Raises:
        GeometryError: the mesh has no extent.
    """
    middle = (mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0)) / 2
    radius = float(np.linalg.norm(mesh.vertices - middle, axis=1).max())
    if radius <= 0:
        raise GeometryError("all vertices of the mesh are one point; reconstruct it again")
    mesh = Mesh((mesh.vertices - middle) / radius, mesh.faces)
    raster = Raster(mesh)
    corners = mesh.vertices[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    pictures = np.full((len(ELEVATIONS), len(YAWS), SIDE, SIDE), BACKGROUND, np.uint8)
    masks = np.zeros(pictures.shape, bool)
    for level, elevation in enumerate(ELEVATIONS):
        for view, yaw in enumerate(YAWS):
            pose = Pose(looking_from(-yaw, elevation, 0), np.array([0, 0, _DISTANCE]))
            maps = raster.render(pose, _cropping_camera(mesh.vertices, pose), SIDE, SIDE)
            pictures[level, view][maps.mask] = _shades(normals, corners[:, 0], pose)[maps.face[maps.mask]]
            masks[level, view] = maps.mask
    return pictures, masks


def _cropping_camera(vertices: np.ndarray, pose: Pose) -> Camera:
    """The camera of the square around the projected vertices, with a margin."""
    seen = pose.apply(vertices)
    xy = seen[:, :2] / seen[:, 2:]
    low, high = xy.min(axis=0), xy.max(axis=0)
    scale = SIDE / (_MARGIN * float((high - low).max()))
    centre = SIDE / 2 - scale * (low + high) / 2
    return Camera(np.array([[scale, 0, centre[0]], [0, scale, centre[1]], [0, 0, 1.0]]), SIDE, SIDE)


def _shades(normals: np.ndarray, corners: np.ndarray, pose: Pose) -> np.ndarray:
    """Grey values (F,) uint8 of faces with ``normals`` (F, 3) and one corner each (F, 3): ambient light, sky, and a lamp."""
    # Both sides of a face are seen: the one that is turned to the camera counts.
    seen = normals @ pose.R.T
    side = np.where((seen * pose.apply(corners)).sum(axis=1) > 0, -1.0, 1.0)
    up = side * normals[:, 1]
    light = _AMBIENT + _SKY * (up + 1) / 2 + _LAMBERT * np.clip(side * (seen @ LIGHT), 0, 1)
    return np.asarray(np.round(255 * np.clip(GREY * light, 0, 1) ** (1 / GAMMA)), np.uint8)

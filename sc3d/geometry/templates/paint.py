"""Pictures of a mesh on grey, framed as photos are, for a feature network: ambient light, sky, and a lamp from the upper left."""

from __future__ import annotations

import numpy as np

from sc3d.geometry.camera import Camera, Pose
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.raster import Raster

IMAGE_SIDE = 320
BACKGROUND = 127

_AMBIENT, _SKY, _LAMBERT = 0.25, 0.25, 0.55
# In the camera's frame: from the upper left, in front of the object.
LIGHT = np.array([-0.5, -0.7, -0.6]) / np.linalg.norm([-0.5, -0.7, -0.6])
GAMMA = 2.2


class Painter:
    """Paints one mesh, with linear RGB ``colours`` (F, 3) of its faces.

    Raises:
        GeometryError: the mesh cannot be rendered.
    """

    def __init__(self, mesh: Mesh, colours: np.ndarray) -> None:
        self._raster, self._colours = Raster(mesh), colours
        corners = mesh.vertices[mesh.faces]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        self._normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
        self._middles = corners.mean(axis=1)

    def paint(self, pose: Pose, K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A picture (320, 320, 3) uint8 and its mask (320, 320) bool.

        Args:
            K: (3, 3) in units of the frame's side.
        """
        camera = Camera(K * np.array([[IMAGE_SIDE], [IMAGE_SIDE], [1.0]]), IMAGE_SIDE, IMAGE_SIDE)
        maps = self._raster.render(pose, camera, IMAGE_SIDE, IMAGE_SIDE)
        picture = np.full((IMAGE_SIDE, IMAGE_SIDE, 3), BACKGROUND, np.uint8)
        picture[maps.mask] = self._shades(pose)[maps.face[maps.mask]]
        return picture, maps.mask

    def _shades(self, pose: Pose) -> np.ndarray:
        """sRGB (F, 3) uint8 of the faces."""
        seen = self._normals @ pose.R.T
        # Both sides of a face are seen: the one that is turned to the camera counts.
        away = (seen * pose.apply(self._middles)).sum(axis=1) > 0
        seen[away] *= -1
        up = np.where(away, -1.0, 1.0) * self._normals[:, 1]
        light = _AMBIENT + _SKY * np.clip(up, 0, 1) + _LAMBERT * np.clip(seen @ LIGHT, 0, 1)
        return np.asarray(np.round(255 * np.clip(self._colours * light[:, None], 0, 1) ** (1 / GAMMA)), np.uint8)

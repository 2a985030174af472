"""A mesh as one photo shows it, and what is asked of it again and again: rays, geodesics, descriptors, surfaces."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from sc3d.arrays import checked_array
from sc3d.errors import GeometryError
from sc3d.features import Surface
from sc3d.geometry.camera import Camera, Pose, yaw_rotation
from sc3d.geometry.geodesic import Geodesic
from sc3d.geometry.inflate import inflate
from sc3d.geometry.mesh import Mesh, clean_mesh
from sc3d.geometry.raster import Raster
from sc3d.geometry.shape_descriptors import shape_descriptors
from sc3d.grid import Letterbox


@dataclass(frozen=True, eq=False)
class PosedMesh:
    """A mesh where a photo shows it. A point X of the mesh is seen at ``K @ (scale * R @ X + t)``.

    Two meshes are compared in their own frames, so objects of one category must lie in them alike: y up, front towards +z, in any unit.

    Attributes:
        mesh: welded (:func:`~sc3d.geometry.mesh.clean_mesh`), in the canonical frame.
        pose, camera: of the photo; the camera has its size in pixels.
        mask: the object in the photo, (H, W) bool of the camera's size; ``None`` takes the mesh's silhouette.
        descriptors: one a vertex, (V, D) floats, if you have better ones than :func:`~sc3d.geometry.shape_descriptors.shape_descriptors`.

    Raises:
        InputError: the mask or the descriptors have another shape or hold something else.
    """

    mesh: Mesh
    pose: Pose
    camera: Camera
    mask: np.ndarray | None = None
    descriptors: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.mask is not None:
            size = self.camera.height, self.camera.width
            object.__setattr__(self, "mask", checked_array(self.mask, "the mask of a posed mesh", size, "b"))
        if self.descriptors is not None:
            wanted = len(self.mesh.vertices), "D"
            object.__setattr__(self, "descriptors", checked_array(self.descriptors, "the descriptors of a posed mesh", wanted))

    @classmethod
    def inflated(cls, mask: Any, azimuth: float = 0.0) -> PosedMesh:
        """A guess from nothing but a mask: its largest piece as a round body (:func:`~sc3d.geometry.inflate.inflate`).

        Args:
            mask: the object in the photo, (H, W) bool.
            azimuth: from which side the photo shows the object, in degrees: 0 sees its front, 90 its left side (towards +x).

        Raises:
            InputError: no boolean mask, an empty one, or one that is too small or thin to be a shape.
        """
        mask = checked_array(mask, "a mask", ("H", "W"), "b")
        vertices, faces, camera, pose = inflate(mask)
        return cls(clean_mesh(vertices @ yaw_rotation(azimuth).T, faces), pose.turned(azimuth), camera, mask)

    def __reduce__(self) -> tuple[type[PosedMesh], tuple[Any, ...]]:
        # Without what was worked out: the index over the triangles cannot travel.
        return PosedMesh, (self.mesh, self.pose, self.camera, self.mask, self.descriptors)

    @cached_property
    def raster(self) -> Raster:
        """Casts rays onto the mesh."""
        return Raster(self.mesh)

    @cached_property
    def geodesic(self) -> Geodesic:
        """Measures distances along the mesh."""
        return Geodesic(self.mesh)

    @cached_property
    def object_mask(self) -> np.ndarray:
        """The mask (H, W) bool, without one the silhouette.

        Raises:
            GeometryError: the photo shows nothing of the mesh.
        """
        if self.mask is not None:
            return self.mask
        silhouette = self.raster.render(self.pose, self.camera, self.camera.width, self.camera.height).mask
        if not silhouette.any():
            raise GeometryError(
                "the camera sees nothing of the mesh; are pose and camera of this photo, with z forward and y down?"
            )
        return silhouette

    @cached_property
    def vertex_descriptors(self) -> np.ndarray:
        """The descriptors (V, D), those of the mesh's shape where none were given; float16, as a run folder holds them."""
        if self.descriptors is not None:
            return self.descriptors.astype(np.float32, copy=False)
        return shape_descriptors(self.mesh).astype(np.float16)

    def cell_surface(self, letterbox: Letterbox, foreground: np.ndarray, ball_radius: float) -> Surface:
        """The surface behind the ``foreground`` (side, side) bool of the photo's grid, with geodesic balls of so many diagonals."""
        seen = self.raster.surface_cells(self.pose, self.camera, letterbox, foreground)
        return self._surface(seen.cells, seen.corners, seen.barycentric, seen.dominant, seen.fill_distance, ball_radius)

    def pixel_surface(self, xy: np.ndarray, ball_radius: float) -> tuple[np.ndarray, Surface]:
        """The surface behind the pixels ``xy`` (N, 2): which of them meet the mesh (N,) bool, and the surface of those, a row a pixel."""
        hits = self.raster.cast(self.pose, self.camera, xy)
        met = hits.face >= 0
        corners, count = self.mesh.faces[hits.face[met]], int(met.sum())
        weights = hits.barycentric[met].astype(np.float32)
        return met, self._surface(np.arange(count), corners, weights, hits.dominant[met], np.zeros(count, np.float16), ball_radius)

    def _surface(
        self,
        cells: np.ndarray,
        corners: np.ndarray,
        barycentric: np.ndarray,
        dominant: np.ndarray,
        fill_distance: np.ndarray,
        ball_radius: float,
    ) -> Surface:
        diagonal = self.mesh.diagonal
        balls = self.geodesic.balls(np.unique(dominant), ball_radius * diagonal)
        vertices = self.mesh.vertices.astype(np.float32)
        return Surface(cells, corners, barycentric, dominant, fill_distance, vertices, diagonal, balls)

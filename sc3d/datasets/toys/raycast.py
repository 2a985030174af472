"""Rays against one toy: hits, shadows, closest surface points, and which keypoints the camera sees.

All rays run on one thread: the images are made in parallel, and results must not depend on the number of cores.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sc3d.datasets.toys.meshing import ToyMesh
from sc3d.datasets.toys.views import View
from sc3d.geometry.camera import project
from sc3d.geometry.open3d_binding import open3d_binding

# A keypoint counts as seen if the camera sees a point this far above it: corners lie on the horizon of half of all views.
_LIFT = 0.016
# But not if something this far in front of it is in the way, as when the camera looks along a flat side.
_BURIED = 0.12
# Pixels by which a seen keypoint may lie off the visible mask, for the same reason.
_RIM = 2


@dataclass(frozen=True)
class Hits:
    """Where rays meet the toy, in float32: enough for a picture.

    ``index`` (M,) says which ray, ``points`` and unit ``normals`` (M, 3) are canonical, ``openness`` (M,) is the share of the
    hemisphere above the point that the toy itself leaves open.
    """

    index: np.ndarray
    points: np.ndarray
    normals: np.ndarray
    openness: np.ndarray


class ToyScene:
    """A toy's mesh, ready for ray casting."""

    def __init__(self, mesh: ToyMesh) -> None:
        o3d = open3d_binding()
        self.mesh, self._tensor = mesh, o3d.core.Tensor
        self._scene = o3d.t.geometry.RaycastingScene(nthreads=1)
        self._scene.add_triangles(self._tensor(mesh.vertices.astype(np.float32)), self._tensor(mesh.faces.astype(np.uint32)))
        self._shading = mesh.shading.astype(np.float32)
        self._openness = self._vertex_openness().astype(np.float32)

    def cast(self, rays: np.ndarray) -> Hits:
        """First hits of rays (N, 6) with interpolated normals; rays that miss do not appear."""
        answer = self._scene.cast_rays(self._tensor(np.ascontiguousarray(rays, np.float32)), nthreads=1)
        depth = answer["t_hit"].numpy()
        index = np.flatnonzero(np.isfinite(depth))
        hit = answer["primitive_ids"].numpy()[index].astype(np.int64)
        u, v = answer["primitive_uvs"].numpy()[index].T
        weights = np.stack([1 - u - v, u, v], axis=1)
        normals = np.einsum("nk,nkc->nc", weights, self._shading[hit])
        normals /= np.sqrt(np.maximum(np.einsum("nc,nc->n", normals, normals), np.float32(1e-18)))[:, None]
        points = rays[index, :3] + rays[index, 3:] * depth[index, None]
        return Hits(index, points, normals, np.einsum("nk,nk->n", weights, self._openness[self.mesh.faces[hit]]))

    def occluded(self, origins: np.ndarray, directions: np.ndarray, reach: float = float("inf")) -> np.ndarray:
        """Whether the toy is in the way (N,) of segments from origins (N, 3) along ``reach`` times directions (N, 3) or (3,)."""
        rays = np.hstack([origins, np.broadcast_to(directions, origins.shape)]).astype(np.float32)
        return np.asarray(self._scene.test_occlusions(self._tensor(rays), tfar=reach, nthreads=1).numpy())

    def snap(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Closest surface points (N, 3) to canonical points (N, 3), and their interpolated unit normals (N, 3)."""
        answer = self._scene.compute_closest_points(self._tensor(points.astype(np.float32)), nthreads=1)
        faces = self.mesh.faces[answer["primitive_ids"].numpy().astype(np.int64)]
        uv = answer["primitive_uvs"].numpy().astype(np.float64)
        weights = np.column_stack([1 - uv.sum(axis=1), uv])
        # From the corners in double precision, so that the points lie on the stored mesh and not just near it.
        snapped = np.einsum("nk,nkc->nc", weights, self.mesh.vertices[faces])
        normals = np.einsum("nk,nkc->nc", weights, self.mesh.normals[faces])
        return snapped, normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)

    def sees(self, view: View, points: np.ndarray, normals: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Which surface points (K, 3) a view shows (K,): inside the image, not hidden by the toy, and on the visible ``mask``."""
        xy, _ = project(points, view.pose, view.camera)
        column_row = np.floor(xy).astype(np.int64)
        inside = ((column_row >= 0) & (column_row < [mask.shape[1], mask.shape[0]])).all(axis=1)
        lifted = points + _LIFT * normals
        free = ~self.occluded(np.broadcast_to(view.centre, lifted.shape), lifted - view.centre, reach=1.0)
        free &= self._buried(view, points) < _BURIED
        on_mask = np.zeros(len(points), bool)
        for i in np.flatnonzero(inside):
            x, y = column_row[i]
            on_mask[i] = mask[max(y - _RIM, 0) : y + _RIM + 1, max(x - _RIM, 0) : x + _RIM + 1].any()
        return np.asarray(inside & free & on_mask)

    def _buried(self, view: View, points: np.ndarray) -> np.ndarray:
        """Distances (K,) between what a view shows first in the direction of surface points (K, 3), and those points."""
        directions = points - view.centre
        rays = np.hstack([np.broadcast_to(view.centre, points.shape), directions]).astype(np.float32)
        reached = self._scene.cast_rays(self._tensor(rays), nthreads=1)["t_hit"].numpy()
        return np.asarray((1 - np.minimum(reached, 1)) * np.linalg.norm(directions, axis=1))

    def _vertex_openness(self, directions: int = 16, reach: float = 0.35) -> np.ndarray:
        """Share (V,) of the hemisphere above each vertex that nothing of the toy blocks within ``reach``."""
        k = np.arange(directions) + 0.5
        y, turn = 1 - 2 * k / directions, np.pi * (1 + 5**0.5) * k
        sphere = np.column_stack([np.cos(turn) * np.sqrt(1 - y * y), y, np.sin(turn) * np.sqrt(1 - y * y)])
        normals = self.mesh.normals
        cosines = normals @ sphere.T
        origins = self.mesh.vertices + 0.02 * normals
        # Directions below the horizon are mirrored above it: the same rays sample every vertex's hemisphere.
        rays = sphere[None] - 2 * np.minimum(cosines, 0)[..., None] * normals[:, None]
        blocked = self.occluded(np.repeat(origins, directions, axis=0), rays.reshape(-1, 3), reach).reshape(-1, directions)
        weight = np.abs(cosines)
        return np.asarray(1 - (blocked * weight).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-9))

"""What a camera sees of a posed mesh: ray casting, maps, visible vertices, and the surface behind the working grid's cells.

N: rays, F: faces, V: vertices. Depth is the z coordinate in the camera frame, in the unit of ``Pose.t``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt

from sc3d.errors import GeometryError
from sc3d.geometry.camera import Camera, Pose, project
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.open3d_binding import open3d_binding
from sc3d.grid import Letterbox
from sc3d.kernels import compiled_as_numpy

_MISS = np.iinfo(np.uint32).max
# Rays a batch: bounds the memory of a large image's maps to about 40 MB.
_BATCH = 1 << 18
# A vertex counts as seen when nothing lies in front of it by more than this part of the mesh's diagonal.
_VISIBLE_SLACK = 1e-3


@dataclass(frozen=True, eq=False)
class Hits:
    """Where N rays meet the mesh first: ``face`` (N,) int32, ``barycentric`` (N, 3) weights of the face's corners, ``dominant`` (N,) int32
    the corner vertex with the largest weight, ``depth`` (N,). A ray that meets nothing has face and dominant -1, weights 0, depth inf."""

    face: np.ndarray
    barycentric: np.ndarray
    dominant: np.ndarray
    depth: np.ndarray


@dataclass(frozen=True, eq=False)
class Maps:
    """A rendered image: ``mask`` (h, w) bool, ``depth`` (h, w) float32 with inf for none, ``face`` (h, w) int32 with -1 for none."""

    mask: np.ndarray
    depth: np.ndarray
    face: np.ndarray


@dataclass(frozen=True, eq=False)
class SurfaceCells:
    """The surface behind N foreground cells, field by field as in :class:`sc3d.features.Surface`."""

    cells: np.ndarray
    corners: np.ndarray
    barycentric: np.ndarray
    dominant: np.ndarray
    fill_distance: np.ndarray


class Raster:
    """A ray-casting index over ``mesh``, built once and asked for any number of poses and cameras.

    The rays are brought into the mesh's frame, not the mesh into the camera's: the index then outlives a pose. It is built in float32 on
    the mesh scaled to its box, and rays start just in front of the mesh, so accuracy depends on neither the mesh's unit nor its distance.
    Both sides of a face are seen. Asking is thread-safe.

    Raises:
        GeometryError: all vertices coincide.
    """

    def __init__(self, mesh: Mesh) -> None:
        if not 0 < mesh.diagonal < np.inf:
            raise GeometryError(f"a mesh whose box has the diagonal {mesh.diagonal} cannot be seen")
        self.mesh = mesh
        self._centre = (mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0)) / 2
        self._core = open3d_binding().core
        self._scene = open3d_binding().t.geometry.RaycastingScene(nthreads=1)
        corners = ((mesh.vertices - self._centre) / mesh.diagonal).astype(np.float32)
        self._scene.add_triangles(self._core.Tensor(corners), self._core.Tensor(mesh.faces.astype(np.uint32)))
        # The first question builds the index: ask it here, where nothing runs beside it.
        self._scene.cast_rays(self._core.Tensor(np.ones((1, 6), np.float32)), nthreads=1)

    def cast(self, pose: Pose, camera: Camera, xy: np.ndarray) -> Hits:
        """The first surface point behind each pixel position ``xy`` (N, 2); positions may lie outside the image, NaN meets nothing.

        Raises:
            GeometryError: ``xy`` has another shape, or the intrinsics cannot be inverted.
        """
        xy = np.asarray(xy, np.float64)
        if xy.ndim != 2 or xy.shape[1] != 2:
            raise GeometryError(f"pixel positions must have the shape (N, 2), got {xy.shape}")
        face, uv, depth = self._first_hits(pose, camera, xy)
        hit = face >= 0
        barycentric = np.zeros((len(xy), 3))
        barycentric[hit, 1:] = uv[hit]
        barycentric[hit, 0] = 1 - uv[hit].sum(axis=1, dtype=np.float64)
        # A hit on an edge can carry a weight of -1e-8.
        barycentric[hit] = np.clip(barycentric[hit], 0, 1)
        barycentric[hit] /= barycentric[hit].sum(axis=1, keepdims=True)
        dominant = np.full(len(xy), -1, np.int32)
        dominant[hit] = self.mesh.faces[face[hit], barycentric[hit].argmax(axis=1)]
        return Hits(face, barycentric, dominant, depth)

    def _first_hits(self, pose: Pose, camera: Camera, xy: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Face (N,) int32, the weights of the second and third corner (N, 2) float32, and depth (N,) float64."""
        try:
            inverse = np.linalg.inv(camera.K)
        except np.linalg.LinAlgError:
            raise GeometryError(f"the intrinsics {camera.K.tolist()} cannot be inverted") from None
        origin = (-pose.t @ pose.R / pose.scale - self._centre) / self.mesh.diagonal
        centre_depth = float(pose.apply(self._centre[None])[0, 2])
        near = max(0.0, centre_depth - 0.51 * pose.scale * self.mesh.diagonal)
        rays, speed = _rays_through(xy, inverse, pose.R, pose.scale * self.mesh.diagonal, origin, near)
        answer = self._scene.cast_rays(self._core.Tensor(rays), nthreads=1)
        face = answer["primitive_ids"].numpy()
        hit = (face != _MISS) & np.isfinite(speed)
        depth = np.full(len(xy), np.inf)
        depth[hit] = near + answer["t_hit"].numpy()[hit] / speed[hit]
        return np.where(hit, face, _MISS).astype(np.uint32).view(np.int32), answer["primitive_uvs"].numpy(), depth

    def render(self, pose: Pose, camera: Camera, width: int, height: int) -> Maps:
        """Mask, depth and face of every pixel of the image resized to ``width x height``, sampled at the pixel centres."""
        sized = camera.resized(width, height)
        depth, face = np.full(width * height, np.inf, np.float32), np.full(width * height, -1, np.int32)
        left, top, right, bottom = self._bounds(pose, sized)
        pixels = (np.arange(top, bottom)[:, None] * width + np.arange(left, right)).ravel()
        for start in range(0, len(pixels), _BATCH):
            batch = pixels[start : start + _BATCH]
            xy = np.stack([batch % width, batch // width], axis=1) + 0.5
            face[batch], _, depth[batch] = self._first_hits(pose, sized, xy)
        return Maps((face >= 0).reshape(height, width), depth.reshape(height, width), face.reshape(height, width))

    def _bounds(self, pose: Pose, camera: Camera) -> tuple[int, int, int, int]:
        """Pixel box (left, top, right, bottom; the last two exclusive) outside which nothing of the mesh can be seen."""
        low, high = self.mesh.vertices.min(axis=0), self.mesh.vertices.max(axis=0)
        corners = np.array([[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])])
        xy, depth = project(corners, pose, camera)
        if (depth <= 0).all():
            return 0, 0, 0, 0
        if not np.isfinite(xy).all():
            # The box reaches behind the camera, where a projection bounds nothing.
            return 0, 0, camera.width, camera.height
        size = (camera.width, camera.height)
        left, top = (int(np.clip(np.floor(xy[:, axis].min()) - 1, 0, size[axis])) for axis in (0, 1))
        right, bottom = (int(np.clip(np.ceil(xy[:, axis].max()) + 1, 0, size[axis])) for axis in (0, 1))
        return left, top, right, bottom

    def visible_vertices(self, pose: Pose, camera: Camera) -> np.ndarray:
        """Which vertices (V,) bool lie in front of the camera, inside its image, and behind no other part of the mesh."""
        xy, depth = project(self.mesh.vertices, pose, camera)
        with np.errstate(invalid="ignore"):
            inside = (xy >= 0).all(axis=1) & (xy[:, 0] < camera.width) & (xy[:, 1] < camera.height)
        visible = np.zeros(len(depth), bool)
        candidates = np.flatnonzero(inside)
        _, _, first = self._first_hits(pose, camera, xy[candidates])
        visible[candidates] = depth[candidates] <= first + _VISIBLE_SLACK * pose.scale * self.mesh.diagonal
        return visible

    def surface_cells(self, pose: Pose, camera: Camera, letterbox: Letterbox, foreground: np.ndarray) -> SurfaceCells:
        """The surface behind each foreground cell of the grid (3D-SC, arXiv 2605.30093: rasterisation at the working resolution).

        A foreground cell whose centre's ray meets nothing takes the hit of the nearest foreground cell with one.

        Args:
            pose: of the mesh.
            camera: of the original image.
            letterbox: between that image and the grid.
            foreground: (side, side) bool.

        Returns:
            A row for every foreground cell, in ascending order; none at all when the mesh covers no foreground cell.

        Raises:
            GeometryError: camera and letterbox disagree on the image's size, or ``foreground`` on the grid's.
        """
        if (camera.width, camera.height) != letterbox.size:
            raise GeometryError(
                f"camera of a {camera.width} x {camera.height} image, letterbox of a {letterbox.width} x {letterbox.height} one"
            )
        side = letterbox.side
        if foreground.shape != (side, side):
            raise GeometryError(f"foreground {foreground.shape} on a grid of side {side}")
        cells = np.flatnonzero(foreground)
        hits = self.cast(pose, camera, letterbox.centres(cells))
        covered = np.zeros(side * side, bool)
        covered[cells[hits.face >= 0]] = True
        if not covered.any():
            cells = cells[:0]
        row = np.zeros(side * side, np.int64)
        row[cells] = np.arange(len(cells))
        distance, nearest = distance_transform_edt(~covered.reshape(side, side), return_indices=True)
        source = row[(nearest[0] * side + nearest[1]).ravel()[cells]]
        return SurfaceCells(
            cells=cells.astype(np.int32),
            corners=self.mesh.faces[hits.face[source]],
            barycentric=hits.barycentric[source].astype(np.float32),
            dominant=hits.dominant[source],
            fill_distance=distance.ravel()[cells].astype(np.float16),
        )


@compiled_as_numpy
def _rays_through(
    xy: np.ndarray, inverse: np.ndarray, R: np.ndarray, size: float, origin: np.ndarray, near: float
) -> tuple[np.ndarray, np.ndarray]:
    """Rays (N, 6) float32 through pixels ``xy`` (N, 2), in the frame of a mesh whose diagonal seen by the camera is ``size``: each starts
    where the camera's z is ``near``, and its direction has unit length, which keeps float32 rays well scaled whatever the unit of t.

    Also how far a ray gets in that frame while z grows by 1, (N,); infinite for a position that is not finite, whose ray is any.
    """
    rays, speed = np.empty((len(xy), 6), np.float32), np.empty(len(xy))
    for n in range(len(xy)):
        x, y = xy[n]
        finite = np.isfinite(x) and np.isfinite(y)
        if not finite:
            x, y = 0.0, 0.0
        # With z = 1 in the camera frame a ray's parameter is the depth, also after the similarity into the mesh frame.
        z = inverse[2, 0] * x + inverse[2, 1] * y + inverse[2, 2]
        across = (inverse[0, 0] * x + inverse[0, 1] * y + inverse[0, 2]) / z
        down = (inverse[1, 0] * x + inverse[1, 1] * y + inverse[1, 2]) / z
        length = 0.0
        direction = (
            (across * R[0, 0] + down * R[1, 0] + R[2, 0]) / size,
            (across * R[0, 1] + down * R[1, 1] + R[2, 1]) / size,
            (across * R[0, 2] + down * R[1, 2] + R[2, 2]) / size,
        )
        for axis in range(3):
            length += direction[axis] ** 2
        length = np.sqrt(length)
        for axis in range(3):
            rays[n, axis] = origin[axis] + near * direction[axis]
            rays[n, 3 + axis] = direction[axis] / length
        speed[n] = length if finite else np.inf
    return rays, speed


def rasterise(values: np.ndarray, corners: np.ndarray, barycentric: np.ndarray) -> np.ndarray:
    """Per-vertex ``values`` (V, D) at surface points: triangle ``corners`` (N, 3) and ``barycentric`` weights (N, 3) -> (N, D) float32."""
    weights = np.asarray(barycentric, np.float32)
    result = weights[:, :1] * values[corners[:, 0]]
    result += weights[:, 1:2] * values[corners[:, 1]]
    result += weights[:, 2:] * values[corners[:, 2]]
    return result.astype(np.float32, copy=False)

"""Models that turn one photo and a mask into a posed mesh: what one has to return, and the actor around it.

A model is anything with the method of :class:`ImageTo3D`. Its own conventions end in it: what it returns is in this project's frames.

* Mesh: y up, front towards +z, of any size and position. A model whose meshes are z up (TRELLIS, SAM 3D Objects) turns them, and the
  rotation with them, by :func:`y_up`.
* Pose: OpenCV camera (x right, y down, z forward), ``X_cam = scale * R @ X + t``, column vectors. PyTorch3D's and glTF's cameras look along
  other axes, and PyTorch3D writes points as rows, so that its rotation is the transpose.
* Camera: intrinsics in pixels of the photo as given, pixel centres at +0.5.

A model that returns a mesh without a pose (TRELLIS and its like) takes both from :func:`facing_pose`. The alignment that follows puts scale
and translation right by the mask; the rotation stays, so such meshes fit photos that were taken from the front.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from actors.base import Row
from actors.foundation.actor import FoundationActor
from actors.offline.disturb import seeded_generator
from actors.offline.reconstruct import OfflineReconstruct, reconstructed
from sc3d.errors import GeometryError, InputError
from sc3d.geometry.camera import Camera, Pose, project
from sc3d.geometry.inflate import FOCAL
from sc3d.geometry.mesh import clean_mesh

# Column vectors: (x, y, z) of a z-up frame whose front is -y becomes (x, z, -y). glTF files are written from such frames the same way.
_Y_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
_FACING = np.diag([1.0, -1.0, -1.0])
_FITTING_STEPS = 50


@dataclass(frozen=True, eq=False)
class PosedMesh:
    """What an image-to-3D model returns, in the frames that the module describes.

    Attributes:
        vertices: (V, 3) floats.
        faces: (F, 3) integers; duplicates, seams and loose pieces are cleaned up later.
        pose: ``X_cam = scale * R @ X + t``. The unit of length is the model's own.
        camera: the camera that the model saw the photo with, or an assumed one.
    """

    vertices: np.ndarray
    faces: np.ndarray
    pose: Pose
    camera: Camera


class ImageTo3D(Protocol):
    """An image-to-3D model, loaded and ready."""

    def reconstruct(self, rgb: np.ndarray, mask: np.ndarray, seed: int) -> PosedMesh:
        """Reconstruct one object of a photo.

        Args:
            rgb: (H, W, 3) uint8, upright.
            mask: (H, W) bool, the object; not empty.
            seed: of everything random: the same seed gives the same mesh.

        Raises:
            Sc3dError: the object cannot be reconstructed; the record becomes a reject.
        """
        ...


def y_up(vertices: np.ndarray, rotation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A mesh (V, 3) that is z up with its front towards -y, and its rotation R (3, 3), for the canonical frame: y up, front +z.

    The image does not move: ``R' @ X' = R @ X``.
    """
    return vertices @ _Y_UP.T, rotation @ _Y_UP.T


def facing_pose(vertices: np.ndarray, mask: np.ndarray) -> tuple[Pose, Camera]:
    """A first pose for a mesh that came without one: upright, its front towards the camera, its image as large as the mask.

    The camera is assumed to be an ordinary one, with a focal length of 1.2 long image sides. The box of the projected vertices gets the
    middle of the mask's box and its longest side; but the mesh never comes nearer to the camera than its own depth.

    Args:
        vertices: (V, 3), canonical directions, of any size.
        mask: (H, W) bool, the object.

    Raises:
        InputError: the mask is empty.
        GeometryError: the vertices are no mesh of finite size.
    """
    height, width = mask.shape
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        raise InputError("an empty mask shows no object")
    low, high = np.array([columns[0], rows[0]], float), np.array([columns[-1] + 1, rows[-1] + 1], float)
    centre, size = _box(np.asarray(vertices, np.float64))
    camera = Camera.from_focal(FOCAL * max(width, height), width, height)
    scale = 1 / float(size.max())
    nearest = 1.5 * scale * float(size[2])
    focal, middle = camera.K[0, 0], (low + high) / 2
    depth = max(nearest, focal * scale * float(size[:2].max()) / float((high - low).max()))
    position = np.array([*((middle - camera.K[:2, 2]) * depth / focal), depth])
    for _ in range(_FITTING_STEPS):
        pose = Pose(_FACING, position - scale * _FACING @ centre, scale)
        xy, _ = project(vertices, pose, camera)
        seen_low, seen_high = xy.min(axis=0), xy.max(axis=0)
        depth = max(nearest, position[2] * float((seen_high - seen_low).max()) / float((high - low).max()))
        # The mesh moves along the ray through the middle of its image, and then across to the middle of the mask.
        across = (position[:2] / position[2] + (middle - (seen_low + seen_high) / 2) / focal) * depth
        moved = np.array([*across, depth])
        if np.allclose(moved, position, rtol=0, atol=1e-12 * depth):
            break
        position = moved
    return pose, camera


def to_canonical(posed: PosedMesh, max_vertices: int) -> PosedMesh:
    """The mesh welded, cleaned, decimated to ``max_vertices`` and moved into the unit box, its pose changed so that its image stays.

    Raises:
        GeometryError: the mesh cannot be used, or lies behind the camera.
    """
    mesh = clean_mesh(posed.vertices, posed.faces, max_vertices)
    centre, size = _box(mesh.vertices)
    side, pose = float(size.max()), posed.pose
    moved = Pose(pose.R, pose.apply(centre[None])[0], pose.scale * side)
    if moved.t[2] <= 0:
        raise GeometryError(
            f"the reconstruction lies behind the camera (its depth is {moved.t[2]:.3g}); the model's pose cannot be used"
        )
    return PosedMesh((mesh.vertices - centre) / side, mesh.faces, moved, posed.camera)


def _box(vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = vertices.min(axis=0, initial=np.inf), vertices.max(axis=0, initial=-np.inf)
    if not 0 < float((high - low).max()) < np.inf:
        raise GeometryError("the model's mesh has no vertices, or all of them coincide or are not finite; try another seed")
    return (low + high) / 2, high - low


class ImageTo3DReconstruct(FoundationActor):
    """An image-to-3D model in the reconstruction slot. Subclasses put it into ``self.model`` and declare its version and weights.

    Several objects of one photo are several rows with the same path and different masks.
    """

    model: ImageTo3D
    requires: ClassVar[Mapping[str, str]] = {
        "image_id": "image id",
        "image": "upright RGB, (H, W, 3) uint8",
        "mask": "object mask, (H, W) bool",
    }
    provides: ClassVar[Mapping[str, str]] = OfflineReconstruct.provides
    options: ClassVar[tuple[str, ...]] = ("reconstruct.max_vertices", "seed")

    def process(self, row: Row) -> Row:
        """Reconstruct one object.

        Raises:
            InputError: the mask is empty or does not fit the photo.
            GeometryError: the model returned nothing that can be used.
        """
        image, mask = row["image"], row["mask"]
        if mask.shape != image.shape[:2] or not mask.any():
            raise InputError(
                f"{row['image_id']}: the mask is empty, or is not of the photo's size ({mask.shape} for a photo of {image.shape[:2]})"
            )
        # Depends on the image alone, so that a repeated run, in any order, makes the same mesh.
        seed = int(seeded_generator(self.config.seed, row["image_id"]).integers(2**31))
        posed = to_canonical(self.model.reconstruct(image, mask, seed), self.config.reconstruct.max_vertices)
        if (posed.camera.width, posed.camera.height) != image.shape[1::-1]:
            raise GeometryError(
                f"the model's camera is for {posed.camera.width} x {posed.camera.height} pixels, not for this photo"
            )
        return reconstructed(posed.vertices, posed.faces, posed.camera, posed.pose)

"""The points that a class shape is built from: those that a person annotated, or landmarks that registrations carry to every mesh."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np

from pipelines.stages.register import RegisterStage
from sc3d.class_shapes.landmarks import choose_landmarks, landmark_vertices, mirror_pairs
from sc3d.errors import UpstreamError
from sc3d.evaluation.protocols import protocol_of
from sc3d.geometry.camera import Camera, Pose, project
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.raster import Raster
from sc3d.geometry.registration.registrable import registrable
from sc3d.records import ImageRecord, Reconstruction


class Points(NamedTuple):
    """The points that an image shows: ids (V,), and pixels (V, 2) of the image."""

    ids: np.ndarray
    xy: np.ndarray


class PointSource(Protocol):
    """Where the points of class shapes come from."""

    def mirrored(self, category: str) -> Mapping[int, int]:
        """Id -> the id that it becomes in a mirror, of those that change."""
        ...

    def of(self, image: ImageRecord, reconstruction: Reconstruction) -> Points:
        """The points that an image shows."""
        ...


class AnnotatedPoints:
    """The annotated keypoints of a data set: supervised.

    Args:
        kind, root: of the data set.
    """

    def __init__(self, kind: str, root: str) -> None:
        self._kind, self._root = kind, root

    def mirrored(self, category: str) -> Mapping[int, int]:
        """As the data set says; none where it does not."""
        groups = protocol_of(self._kind).groups_of(self._root, category)
        return {a: b for pair in groups.mirrored for a, b in (pair, pair[::-1])}

    def of(self, image: ImageRecord, reconstruction: Reconstruction) -> Points:
        """Those of the manifest."""
        return Points(np.asarray(image.keypoint_ids, np.int64), np.asarray(image.keypoint_xy, np.float64))


class RegisteredPoints:
    """Landmarks of the most central reference of a category, where the posed mesh of an image shows them."""

    def __init__(self, registered: RegisterStage) -> None:
        self._registered = registered
        self._landmarks: dict[str, np.ndarray] = {}

    def landmarks(self, category: str) -> np.ndarray:
        """Positions (K, 3) of the landmarks of a category, in diagonals of its reference.

        Raises:
            UpstreamError: its references were not chosen.
        """
        if category not in self._landmarks:
            chosen = self._registered.book.get(category)
            if chosen is None:
                raise UpstreamError(f"category {category} has no registrations; run sc3d label with match.transfer=registration")
            self._landmarks[category] = choose_landmarks(registrable(chosen.meshes[0]).mesh.vertices)
        return self._landmarks[category]

    def mirrored(self, category: str) -> Mapping[int, int]:
        """Those that the reference's own symmetry exchanges."""
        return mirror_pairs(self.landmarks(category))

    def of(self, image: ImageRecord, reconstruction: Reconstruction) -> Points:
        """Those that the mesh has, the camera sees, and the photo holds.

        Raises:
            UpstreamError: the mesh is not registered.
        """
        found = self._registered.known.read([image.image_id])
        if image.image_id not in found:
            raise UpstreamError(f"image {image.image_id} has no registration")
        numbers, vertices = landmark_vertices(self.landmarks(image.category), found[image.image_id].by_reference[0, :, :3])
        one = reconstruction
        camera, pose = Camera(one.intrinsics, one.width, one.height), Pose(one.rotation, one.translation, one.scale)
        visible = Raster(Mesh(one.vertices, one.faces)).visible_vertices(pose, camera)[vertices]
        xy, _ = project(one.vertices[vertices[visible]], pose, camera)
        return Points(numbers[visible], xy)

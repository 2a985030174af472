"""A mesh, a camera and a first pose without a learned reconstruction.

Synthetic images bring their own mesh, which is disturbed so that alignment and yaw voting have something to put right. Any other
photo gets its silhouette inflated: a closed mesh in the right place that knows nothing of the object's back, its pose or its front.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from actors.base import Actor, Row
from actors.offline.disturb import disturb, seeded_generator
from sc3d.datasets.toys import toy_truth
from sc3d.errors import InputError
from sc3d.geometry.camera import Camera, Pose
from sc3d.geometry.inflate import inflate
from sc3d.geometry.mesh import clean_mesh


def reconstructed(
    vertices: np.ndarray,
    faces: np.ndarray,
    camera: Camera,
    pose: Pose,
    injected_turn: int = -1,
    numbering: str = "",
    confidence: float = -1.0,
) -> Row:
    """What actors of this slot provide (:attr:`OfflineReconstruct.provides`); the defaults are those of a mesh that is no template's."""
    return {
        "vertices": vertices,
        "faces": faces,
        "intrinsics": camera.K,
        "rotation": pose.R,
        "scale_initial": pose.scale,
        "translation_initial": pose.t,
        "injected_turn": injected_turn,
        "numbering": numbering,
        "confidence": confidence,
    }


class OfflineReconstruct(Actor):
    """The reconstruction model's slot: the dataset's own mesh, disturbed, or the inflated silhouette.

    ``reconstruct.mesh`` chooses: ``auto`` takes the dataset's mesh where there is one; ``disturbed_truth`` insists on it; ``inflate``
    never looks at it. Randomness depends on the run's seed and the image id alone.
    """

    requires: ClassVar[Mapping[str, str]] = {
        "image_id": "image id",
        "mask": "object mask, (H, W) bool",
        "width": "width of the upright image in pixels",
        "height": "height of the upright image in pixels",
        "truth_path": "known mesh and camera (.npz), for synthetic data only",
    }
    provides: ClassVar[Mapping[str, str]] = {
        "vertices": "(V, 3) welded mesh, canonical frame: y up, front towards +z, unit box",
        "faces": "(F, 3) triangles, vertex indices",
        "intrinsics": "K (3, 3) of the OpenCV camera, in pixels of the upright image",
        "rotation": "R (3, 3) of X_cam = scale * R @ X + t",
        "scale_initial": "scale as reconstructed",
        "translation_initial": "t (3,) as reconstructed",
        "injected_turn": "degrees that the mesh was turned by on purpose; -1 when not simulated",
        "numbering": "hash of the template whose numbering of vertices the mesh has; empty for a mesh of its own",
        "confidence": "how far a template's pose is above any on another side, in standard deviations; -1 without one",
    }
    version: ClassVar[str] = "disturb-1 inflate-1"
    options: ClassVar[tuple[str, ...]] = ("reconstruct.mesh", "reconstruct.max_vertices", "reconstruct.wrong_yaw", "seed")

    def process(self, row: Row) -> Row:
        """Reconstruct one image.

        Raises:
            InputError: ``disturbed_truth`` without a truth file, a truth of another image size, or a mask that cannot be inflated.
            GeometryError: the mesh is unusable.
        """
        kind = self.config.reconstruct.mesh
        if kind == "disturbed_truth" and row["truth_path"] is None:
            raise InputError(f"{row['image_id']}: has no known mesh; use reconstruct.mesh=auto or inflate, or a synthetic dataset")
        if row["truth_path"] is not None and kind != "inflate":
            vertices, faces, camera, pose, turn = self._disturbed_truth(row)
        else:
            vertices, faces, camera, pose = inflate(row["mask"])
            turn = -1
        mesh = clean_mesh(vertices, faces, self.config.reconstruct.max_vertices)
        return reconstructed(mesh.vertices, mesh.faces, camera, pose, turn)

    def _disturbed_truth(self, row: Row) -> tuple[np.ndarray, np.ndarray, Camera, Pose, int]:
        truth = toy_truth(row["truth_path"])
        if (truth.camera.width, truth.camera.height) != (row["width"], row["height"]):
            raise InputError(
                f"{row['truth_path']}: is for an image of {truth.camera.width} x {truth.camera.height} pixels, but "
                f"{row['image_id']} has {row['width']} x {row['height']}; make the dataset again"
            )
        generator = seeded_generator(self.config.seed, row["image_id"])
        disturbed = disturb(truth.mesh.vertices, truth.pose, self.config.reconstruct.wrong_yaw, generator)
        return disturbed.vertices, truth.mesh.faces, truth.camera, disturbed.pose, disturbed.turn

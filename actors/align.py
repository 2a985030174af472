"""Render and compare: puts the scale and the translation of a reconstruction right by the object's mask. Used by both profiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from actors.base import Actor, Row
from sc3d.geometry.align import align
from sc3d.geometry.camera import Camera, Pose
from sc3d.geometry.mesh import Mesh


class AlignActor(Actor):
    """Thin row wrapper around :func:`sc3d.geometry.align.align`; the rotation is kept."""

    requires: ClassVar[Mapping[str, str]] = {
        "mask": "object mask, (H, W) bool",
        "vertices": "(V, 3) welded mesh, canonical frame",
        "faces": "(F, 3) triangles, vertex indices",
        "intrinsics": "K (3, 3) of the OpenCV camera, in pixels of the upright image",
        "rotation": "R (3, 3) of X_cam = scale * R @ X + t",
        "scale_initial": "scale as reconstructed",
        "translation_initial": "t (3,) as reconstructed",
        "width": "width of the upright image in pixels",
        "height": "height of the upright image in pixels",
    }
    provides: ClassVar[Mapping[str, str]] = {
        "scale": "scale after alignment",
        "translation": "t (3,) after alignment",
        "iou_before": "silhouette IoU with the mask as reconstructed",
        "iou_after": "silhouette IoU with the mask after alignment",
        "flags": "warnings: not_improved, mostly_outside, low_iou, occluded",
    }
    version: ClassVar[str] = "distance-iou-2"
    options: ClassVar[tuple[str, ...]] = ("reconstruct.align",)

    def process(self, row: Row) -> Row:
        """Align one reconstruction; raises :class:`~sc3d.errors.GeometryError` for meshes and poses that cannot be rendered."""
        camera = Camera(row["intrinsics"], row["width"], row["height"])
        pose = Pose(row["rotation"], row["translation_initial"], row["scale_initial"])
        # The precision that meshes are stored with: the pose belongs to the mesh that later stages read, to the last bit.
        mesh = Mesh(row["vertices"], row["faces"])
        mesh = Mesh(mesh.vertices.astype(np.float32), mesh.faces)
        result = align(mesh, row["mask"], pose, camera, self.config.reconstruct.align)
        return {
            "scale": result.pose.scale,
            "translation": result.pose.t,
            "iou_before": result.iou_before,
            "iou_after": result.iou_after,
            "flags": tuple(result.flags),
        }

"""Render and compare: puts the scale and the translation of a reconstruction right by the object's mask. Used by both profiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from actors.base import Actor, Row
from sc3d.geometry.align import align
from sc3d.geometry.camera import Camera, Pose
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.pose_search import judge
from sc3d.records import LOW_CONFIDENCE


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
        "flags": "warnings: not_improved, mostly_outside, low_iou, occluded, low_confidence",
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


class JudgeTemplate(AlignActor):
    """Keeps the pose of a template, which was fitted with rotation and stretches, and says how good it is. Other meshes are aligned.

    A pose that another side of the template explains nearly as well is flagged ``low_confidence``.
    """

    requires: ClassVar[Mapping[str, str]] = {
        **AlignActor.requires,
        "numbering": "hash of the template whose numbering of vertices the mesh has; empty for a mesh of its own",
        "confidence": "how far the score of the template's pose is above that of the best one on another side",
    }
    version: ClassVar[str] = f"judge-1 {AlignActor.version}"
    options: ClassVar[tuple[str, ...]] = (*AlignActor.options, "reconstruct.min_confidence")

    def process(self, row: Row) -> Row:
        """Judge or align one reconstruction; raises :class:`~sc3d.errors.GeometryError` for meshes and poses that cannot be rendered."""
        if not row["numbering"]:
            return super().process(row)
        camera = Camera(row["intrinsics"], row["width"], row["height"])
        pose = Pose(row["rotation"], row["translation_initial"], row["scale_initial"])
        mesh = Mesh(np.asarray(row["vertices"], np.float32), row["faces"])
        iou, flags = judge(mesh, row["mask"], pose, camera, self.config.reconstruct.align)
        if row["confidence"] < self.config.reconstruct.min_confidence:
            flags = (*flags, LOW_CONFIDENCE)
        return {"scale": pose.scale, "translation": pose.t, "iou_before": iou, "iou_after": iou, "flags": flags}

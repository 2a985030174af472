"""Stage 1 of an image as pictures: its mask, and the mesh over the photo before and after alignment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sc3d.geometry.camera import Camera, Pose
from sc3d.geometry.mesh import Mesh
from sc3d.images import decode_mask
from sc3d.records import Orientation, Reconstruction
from sc3d.report.pictures import front_view, jpeg_uri, outline_mask, overlay_mesh, png_uri, shrink, shrink_mask

_PHOTO_PIXELS = 260
_FRONT_PIXELS = 88

FLAGS = {
    "not_improved": "alignment found nothing better than the start",
    "mostly_outside": "most of the silhouette is outside the photo",
    "low_iou": "the mesh does not fit the mask well",
}


@dataclass(frozen=True)
class AlignmentCard:
    """One image: ``mask``, ``before`` and ``after`` are data URIs; IoU of silhouette and mask; ``flags`` in words."""

    image_id: str
    category: str
    mask: str
    before: str
    after: str
    iou_before: float
    iou_after: float
    flags: tuple[str, ...]


def alignment_card(photo: np.ndarray, one: Reconstruction) -> AlignmentCard:
    """The card of one reconstruction; ``photo`` (H, W, 3) is the upright image.

    Raises:
        InputError: the stored mask is damaged.
        GeometryError: mesh, camera or pose cannot be drawn.
    """
    small = shrink(photo, _PHOTO_PIXELS)
    mask = shrink_mask(decode_mask(one.mask), (small.shape[1], small.shape[0]))
    mesh = Mesh(one.vertices, one.faces)
    camera = Camera(one.intrinsics, one.width, one.height)
    before = Pose(one.rotation, one.translation_initial, one.scale_initial)
    after = Pose(one.rotation, one.translation, one.scale)
    return AlignmentCard(
        image_id=one.image_id,
        category=one.category,
        mask=jpeg_uri(outline_mask(small, mask, 0.35)),
        before=jpeg_uri(overlay_mesh(small, mask, mesh, before, camera)),
        after=jpeg_uri(overlay_mesh(small, mask, mesh, after, camera)),
        iou_before=one.iou_before,
        iou_after=one.iou_after,
        flags=tuple(FLAGS.get(flag, flag) for flag in one.flags),
    )


@dataclass(frozen=True)
class YawCard:
    """The yaw votes of one image. ``verdict``: turned, uncertain, or left. ``before``, ``after``: the mesh from its supposed front, as
    data URIs (the same where it was not turned). ``injected``: degrees by which a simulated mesh was turned on purpose, -1 if unknown."""

    image_id: str
    category: str
    votes: tuple[int, ...]
    turn: int
    verdict: str
    symmetric: bool
    injected: int
    before: str
    after: str

    @property
    def wrong(self) -> bool:
        """Whether a known turn was not undone."""
        return self.injected >= 0 and (self.injected + self.turn) % 360 != 0


def yaw_card(orientation: Orientation, one: Reconstruction) -> YawCard:
    """The card of one orientation.

    Raises:
        GeometryError: the mesh cannot be drawn.
    """
    mesh = Mesh(one.vertices, one.faces)
    before = png_uri(front_view(mesh, 0, _FRONT_PIXELS))
    turned = orientation.turn != 0
    return YawCard(
        image_id=orientation.image_id,
        category=orientation.category,
        votes=tuple(int(v) for v in orientation.votes),
        turn=orientation.turn,
        verdict="uncertain" if orientation.uncertain else "turned" if turned else "left",
        symmetric=orientation.symmetric,
        injected=one.injected_turn,
        before=before,
        after=png_uri(front_view(mesh, orientation.turn, _FRONT_PIXELS)) if turned else before,
    )

"""Stage 1 of an image as pictures: its mask, and the mesh over the photo before and after alignment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sc3d.geometry.camera import Camera, Pose
from sc3d.geometry.mesh import Mesh
from sc3d.images import decode_mask
from sc3d.mask_signs import SIGNS
from sc3d.records import LOW_CONFIDENCE, Orientation, Reconstruction
from sc3d.report.pictures import front_view, jpeg_uri, outline_mask, overlay_mesh, png_uri, shrink, shrink_mask

_PHOTO_PIXELS = 260
_FRONT_PIXELS = 88
_MARGIN = 0.3
"""Space around the object in its own sizes: a mesh that is not aligned yet lies beside it."""

FLAGS = {
    **SIGNS,
    "mostly_outside": "most of the silhouette is outside the photo",
    "low_iou": "the mesh does not fit the mask well",
    LOW_CONFIDENCE: "the template may face another way; not used for labels",
}
NOT_IMPROVED = "not_improved"


@dataclass(frozen=True)
class AlignmentCard:
    """One image: ``mask``, ``before`` and ``after`` are data URIs; IoU of silhouette and mask; ``flags`` in words.
    ``improved``: whether alignment found a better pose than the start."""

    image_id: str
    category: str
    mask: str
    before: str
    after: str
    iou_before: float
    iou_after: float
    flags: tuple[str, ...]
    improved: bool


def alignment_card(photo: np.ndarray, one: Reconstruction, pixels: int = _PHOTO_PIXELS) -> AlignmentCard:
    """The card of one reconstruction; ``photo`` (H, W, 3) is the upright image, ``pixels`` the long side of the pictures at most.

    Raises:
        InputError: the stored mask is damaged.
        GeometryError: mesh, camera or pose cannot be drawn.
    """
    small, mask, (x, y, width, height) = object_crop(photo, one, pixels)
    mesh = Mesh(one.vertices, one.faces)
    camera = Camera(one.intrinsics - np.array([[0, 0, x], [0, 0, y], [0, 0, 0]]), width, height)
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
        flags=tuple(FLAGS.get(flag, flag) for flag in one.flags if flag != NOT_IMPROVED),
        improved=NOT_IMPROVED not in one.flags,
    )


def object_crop(photo: np.ndarray, one: Reconstruction, pixels: int) -> tuple[np.ndarray, np.ndarray, tuple[int, int, int, int]]:
    """The object of a photo (H, W, 3) with a margin, its long side at most ``pixels``: its picture, its mask, and its box (x, y, width,
    height) in the photo.

    Raises:
        InputError: the stored mask is damaged.
    """
    whole = decode_mask(one.mask)
    x, y, width, height = box = _around(whole)
    small = shrink(photo[y : y + height, x : x + width], pixels)
    return small, shrink_mask(whole[y : y + height, x : x + width], (small.shape[1], small.shape[0])), box


def _around(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Box (x, y, width, height) around the mask's inside with a margin; the whole image for an empty mask."""
    rows, columns = np.nonzero(mask)
    if len(rows) == 0:
        return 0, 0, mask.shape[1], mask.shape[0]
    margin = int(_MARGIN * max(np.ptp(rows), np.ptp(columns))) + 2
    left, top = max(int(columns.min()) - margin, 0), max(int(rows.min()) - margin, 0)
    right, bottom = min(int(columns.max()) + margin + 1, mask.shape[1]), min(int(rows.max()) + margin + 1, mask.shape[0])
    return left, top, right - left, bottom - top


@dataclass(frozen=True)
class YawCard:
    """The yaw of one image. ``verdict``: turned, uncertain, or left. ``before``, ``after``: the mesh from its supposed front, as data URIs
    (the same where it was not turned). ``injected``: degrees by which a simulated mesh was turned on purpose, -1 if unknown.
    ``certainty``: probability of its turn, where one was told."""

    image_id: str
    category: str
    votes: tuple[int, ...]
    turn: int
    verdict: str
    symmetric: bool
    injected: int
    before: str
    after: str
    certainty: float | None = None

    @property
    def wrong(self) -> bool:
        """Whether a known turn was not undone."""
        return turn_left(self.injected, self.turn) > 0


def turn_left(injected: int, turn: int) -> int:
    """Degrees that a simulated mesh is still turned by after its correction; 0 where ``injected`` is -1, which is unknown."""
    return (injected + turn) % 360 if injected >= 0 else 0


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
        certainty=None if orientation.posterior is None else float(orientation.posterior.max()),
    )

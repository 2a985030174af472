"""The 3D shape of a category as a cloud that turns, and its fits to photos: where each puts the cloud, and what its energy did."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from PIL import Image, ImageDraw

from sc3d.class_shapes.alignment import TERMS, Alignment
from sc3d.class_shapes.carry import seen_points
from sc3d.class_shapes.class_shape import ClassShape
from sc3d.records import Reconstruction
from sc3d.report.alignment import object_crop
from sc3d.report.charts import Series, lines
from sc3d.report.colours import position_colours
from sc3d.report.pictures import enlarge, faded, jpeg_uri, outline_mask, shrink_mask

_PHOTO_PIXELS = 260
_POINT_RADIUS = 1.6
_INT16 = 32767
_LOST, _SAME = 3, 10.0
"""Most poses that are told, and degrees below which one is the pose that won, found again."""
_STYLES = ("series-a", "series-b", "series-c", "series-d")


@dataclass(frozen=True)
class LostPose:
    """A pose that another one beat: ``turn``, its angle from the one that won, in degrees, and how much more energy it has."""

    turn: float
    behind: float


@dataclass(frozen=True)
class FitCard:
    """A class shape in a photo: ``picture`` is a data URI of the photo with the points, ``chart`` the four terms along the steps.
    ``lost``: the best poses that lost, the nearest to winning first."""

    image_id: str
    picture: str
    energy: float
    terms: tuple[tuple[str, float], ...]
    lost: tuple[LostPose, ...]
    chart: Markup


@dataclass(frozen=True)
class ShapeCard:
    """A category: its cloud for a canvas (``points``: base64 of int16 (N, 3) in parts of its radius; ``colours``: base64 of uint8 (N, 3);
    ``rotation``: how it is seen at first), what it is made of, and its fits, the best first."""

    category: str
    images: int
    keypoints: int
    count: int
    mirror_gap: float
    points: str
    colours: str
    rotation: str
    fits: tuple[FitCard, ...]


def shape_card(shape: ClassShape, rotation: np.ndarray, fits: tuple[FitCard, ...]) -> ShapeCard:
    """The card of a class shape, seen at first as turned by ``rotation`` (3, 3) into a camera."""
    centred = shape.points - shape.points.mean(axis=0)
    steps = np.round(centred / np.linalg.norm(centred, axis=1).max() * _INT16).astype("<i2")
    return ShapeCard(
        shape.category,
        shape.images,
        len(shape.ids),
        len(shape.points),
        shape.mirror_gap,
        base64.b64encode(steps.tobytes()).decode(),
        base64.b64encode(shape_colours(shape).tobytes()).decode(),
        " ".join(f"{value:.5f}" for value in rotation.flatten()),
        fits,
    )


def shape_colours(shape: ClassShape) -> np.ndarray:
    """A colour (N, 3) uint8 for each point, by where it lies along the two longest directions of its category's shape."""
    centred = shape.points - shape.points.mean(axis=0)
    return position_colours(centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T)


def fit_card(shape: ClassShape, fit: Alignment, photo: np.ndarray, one: Reconstruction) -> FitCard:
    """The card of a fit to a photo (H, W, 3), whose reconstruction tells its mask.

    Raises:
        InputError: the stored mask is damaged.
    """
    others = fit.others[fit.others[:, 1] > _SAME]
    order = np.argsort(others[:, 0], kind="stable")[:_LOST]
    # The pose's is the same at all steps.
    steps = [Series(name, values, style) for name, values, style in zip(TERMS, fit.history.T, _STYLES, strict=False)]
    return FitCard(
        one.image_id,
        jpeg_uri(_drawn(shape, fit, photo, one)),
        fit.energy,
        tuple(zip(TERMS, fit.terms.tolist(), strict=True)),
        tuple(LostPose(float(turn), float(energy) - fit.energy) for energy, turn in others[order]),
        lines(steps, "step", "energy"),
    )


def _drawn(shape: ClassShape, fit: Alignment, photo: np.ndarray, one: Reconstruction) -> np.ndarray:
    """The object's part of the photo with the points on it, the nearest on top."""
    small, mask, (x, y, width, _) = object_crop(photo, one, _PHOTO_PIXELS)
    small = enlarge(small, _PHOTO_PIXELS)
    mask = shrink_mask(mask, (small.shape[1], small.shape[0]))
    depth = shape.matrix @ fit.keypoints[:, 2]
    xy = seen_points(shape, fit, (one.width, one.height)) * max(one.width, one.height)
    at = (xy - [x, y]) * (small.shape[1] / width)
    picture = Image.fromarray(outline_mask(faded(small), mask))
    draw = ImageDraw.Draw(picture)
    colours = shape_colours(shape)
    for i in np.argsort(-depth, kind="stable"):
        low, high = at[i] - _POINT_RADIUS, at[i] + _POINT_RADIUS
        draw.ellipse((*low, *high), tuple(colours[i].tolist()))
    return np.asarray(picture)

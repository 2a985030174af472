"""Which view of a template a photo shows: silhouettes and features of all views, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sc3d.errors import InputError
from sc3d.geometry.templates.views import (
    BACKGROUND,
    CELLS,
    IMAGE_SIDE,
    MASK_SIDE,
    STRETCHES,
    VIEWS,
    Describer,
    Frame,
    TemplateViews,
    cell_masks,
    described_cells,
)

SILHOUETTE_WEIGHT, FEATURE_WEIGHT = 1.0, 3.0
"""Of the standardised silhouette and feature scores."""

RIVAL_DEGREES = 45.0
"""Azimuths that lie farther away than this are another answer, not a less exact one."""

_AZIMUTHS = np.array([azimuth for azimuth, _ in VIEWS])


@dataclass(frozen=True, eq=False)
class FramedPhoto:
    """A photo's object, framed: ``mask`` (64, 64) float32 coverage, ``seen`` (64, 64) float32 the share that lies in the photo, ``cells``
    (400, C) float32 unit vectors, ``foreground`` (400,) bool."""

    frame: Frame
    mask: np.ndarray
    seen: np.ndarray
    cells: np.ndarray
    foreground: np.ndarray


@dataclass(frozen=True, eq=False)
class PoseEstimate:
    """What comparing a photo with all views of a template says.

    ``view``: the best one, an index into :data:`~sc3d.geometry.templates.views.VIEWS`; ``stretch`` the best of its stretches. ``scores``
    (72,) of all views, in standard deviations over the views. ``confidence``: how far the best score is above the best one at azimuths more
    than 45 degrees away. ``cosine``: the best mean render cosine over the views, which says how well the template fits the photo at all.
    """

    view: int
    stretch: int
    scores: np.ndarray
    confidence: float
    cosine: float

    @property
    def azimuth(self) -> float:
        """Degrees from the template's front to the camera, of the best view."""
        return VIEWS[self.view][0]


def frame_photo(image: np.ndarray, mask: np.ndarray, describe: Describer) -> FramedPhoto:
    """Frame an object and describe it on a plain background.

    Args:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) bool.
        describe: the network that described the template.

    Raises:
        InputError: the mask is empty.
    """
    if not mask.any():
        raise InputError("the mask is empty: no object to pose a template on")
    frame = Frame.of_mask(mask)
    picture = frame.crop(np.where(mask[..., None], image, np.uint8(BACKGROUND)), IMAGE_SIDE, BACKGROUND)
    covered = frame.crop(mask.astype(np.float32), IMAGE_SIDE) >= 0.5
    foreground = cell_masks(covered[None])
    cells = described_cells(describe(picture[None]), foreground, per_picture=True)
    seen = frame.crop(np.ones(mask.shape, np.float32), MASK_SIDE)
    return FramedPhoto(frame, frame.crop(mask.astype(np.float32), MASK_SIDE), seen, cells[0], foreground[0])


def compare(photo: FramedPhoto, views: TemplateViews, facing: float | None = None) -> PoseEstimate:
    """Compare a photo with every view of a template.

    Args:
        facing: azimuth in degrees that a person has said. Then the best view is one of those at most 45 degrees away from it, and the
            confidence is infinite.
    """
    silhouette = silhouette_scores(photo.mask, views.silhouettes)
    stretch = silhouette.argmax(axis=1)
    features = feature_scores(photo, views)
    scores = SILHOUETTE_WEIGHT * _standardised(silhouette.max(axis=1)) + FEATURE_WEIGHT * _standardised(features)
    view = int(np.where(_gaps(facing) <= RIVAL_DEGREES, scores, -np.inf).argmax() if facing is not None else scores.argmax())
    rivals = scores[_gaps(_AZIMUTHS[view]) > RIVAL_DEGREES]
    confidence = float(scores[view] - rivals.max()) if facing is None else np.inf
    return PoseEstimate(view, int(stretch[view]), scores, confidence, float(features.max()))


def _gaps(azimuth: float) -> np.ndarray:
    """Degrees (V,) between the azimuths of the views and another one."""
    return np.asarray(np.abs((_AZIMUTHS - azimuth + 180) % 360 - 180))


def silhouette_scores(mask: np.ndarray, silhouettes: np.ndarray) -> np.ndarray:
    """Soft IoU (V, S) of a mask (64, 64) with silhouettes (V, S, 4096)."""
    flat = mask.reshape(-1).astype(np.float32)
    intersection = np.minimum(silhouettes, flat).sum(axis=2)
    return np.asarray(intersection / (silhouettes.sum(axis=2) + flat.sum() - intersection))


def feature_scores(photo: FramedPhoto, views: TemplateViews) -> np.ndarray:
    """Mean (V,) over each render's foreground cells of the best cosine within one cell of the photo's foreground; without any: -1."""
    around = _neighbourhoods(photo.cells, photo.foreground)
    # One small product a cell: the renders are read once, whatever the number of neighbours.
    cosines = np.matmul(views.cells, around.transpose(0, 2, 1))
    outside = ~_neighbourhoods(photo.foreground[:, None], photo.foreground)[..., 0]
    cosines[np.broadcast_to(outside[:, None], cosines.shape)] = -1.0
    best = np.where(views.foreground, cosines.max(axis=2), 0.0)
    return np.asarray(best.sum(axis=0) / np.maximum(views.foreground.sum(axis=0), 1))


def _neighbourhoods(values: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Values (400, C) of the nine cells within one of each cell: (400, 9, C), 0 where a cell is not ``inside`` (400,)."""
    grid = np.where(inside[:, None], values, values.dtype.type(0)).reshape(CELLS, CELLS, -1)
    padded = np.pad(grid, ((1, 1), (1, 1), (0, 0)))
    shifts = [padded[row : row + CELLS, column : column + CELLS] for row in range(3) for column in range(3)]
    return np.stack(shifts, axis=2).reshape(CELLS * CELLS, 9, -1)


def _standardised(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / max(float(values.std()), 1e-9)


def start_of(estimate: PoseEstimate) -> tuple[float, float, float, float]:
    """Azimuth, elevation, height and length to begin a fit with."""
    return (*VIEWS[estimate.view], *STRETCHES[estimate.stretch])

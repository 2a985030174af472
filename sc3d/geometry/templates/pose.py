"""Which view of a template a photo shows, by silhouettes and features of all views; and the best view on another side of the object."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sc3d.errors import InputError
from sc3d.geometry.templates.paint import BACKGROUND, IMAGE_SIDE
from sc3d.geometry.templates.views import (
    CELLS,
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

    ``views``: the best one, and the best one at azimuths more than 45 degrees away from it; only the best where a person has said the
    side. They are indices into :data:`~sc3d.geometry.templates.views.VIEWS`. ``stretches`` (72,) the best stretch of each view;
    ``scores`` (72,) in standard deviations over the views.
    """

    views: tuple[int, ...]
    stretches: np.ndarray
    scores: np.ndarray

    def start(self, view: int) -> tuple[float, float, float, float]:
        """Azimuth and elevation in degrees, height and length, to begin a fit of a view with."""
        return (*VIEWS[view], *STRETCHES[self.stretches[view]])


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
        facing: azimuth in degrees that a person has said. Then the best view is one of those at most 45 degrees away from it.
    """
    silhouette = silhouette_scores(photo.mask, views.silhouettes)
    features = feature_scores(photo, views)
    scores = SILHOUETTE_WEIGHT * _standardised(silhouette.max(axis=1)) + FEATURE_WEIGHT * _standardised(features)
    said = np.ones(len(scores), bool) if facing is None else _gaps(facing) <= RIVAL_DEGREES
    best = [_best(scores, said)]
    if facing is None:
        best.append(_best(scores, _gaps(_AZIMUTHS[best[0]]) > RIVAL_DEGREES))
    return PoseEstimate(tuple(best), silhouette.argmax(axis=1), scores)


def _best(scores: np.ndarray, among: np.ndarray) -> int:
    return int(np.where(among, scores, -np.inf).argmax())


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

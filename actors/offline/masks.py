"""Object masks without a segmenter: the dataset's own mask file where there is one, else GrabCut.

GrabCut (Rother et al., SIGGRAPH 2004) separates two colour models. Seeded with an annotated box it is usable; seeded with nothing but
the assumption that the object is near the middle and unlike the border, it works for clear photos of one object and fails for busy
ones. It knows nothing of categories: the category name, which a text-prompted segmenter would use, is not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import cv2
import numpy as np

from actors.base import Actor, Row
from sc3d.config import DatasetConfig, RunConfig
from sc3d.datasets.registry import dataset_of
from sc3d.datasets.segmentation import read_segmentation
from sc3d.display import shown
from sc3d.errors import InputError
from sc3d.images import read_orientation
from sc3d.mask_files import load_mask

WORKING_SIDE = 320
ITERATIONS = 5
MIN_AREA = 0.005
MAX_AREA = 0.95
_SEED = 0
# Without a box: the outermost pixels are background; the object is looked for in the part of the image that differs most from all four
# borders (bands this wide, in image sides) and lies near the middle (a Gaussian this wide).
_RING = 0.01
_BAND = 0.1
_MIDDLE = 0.35
_SALIENT_SHARE = 0.2
_LIGHTNESS_NOISE = 5.0
# A box over nearly the whole image leaves GrabCut no sure background to learn from.
_WIDEST_BOX = 0.9


def grabcut_mask(image: np.ndarray, bbox: np.ndarray | None = None, salience: np.ndarray | None = None) -> np.ndarray:
    """Segment the main object of a photo: (H, W, 3) uint8 RGB -> (H, W) bool, its largest connected piece.

    Works at a long side of 320 pixels and is deterministic.

    Args:
        bbox: x1, y1, x2, y2 in pixels around the object; ``None``: an object near the middle, unlike the image's border, is assumed.
        salience: (H, W) float32, 0 and more: where else an object without a box is looked for; it weighs what is unlike the border.

    Raises:
        InputError: the box does not overlap the image; or the result is empty, below 0.5 % of the image, or nearly all of it.
    """
    height, width = image.shape[:2]
    scale = min(1.0, WORKING_SIDE / max(height, width))
    size = max(round(width * scale), 3), max(round(height * scale), 3)
    small = cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2BGR)
    weight = None if salience is None else cv2.resize(salience, size, interpolation=cv2.INTER_AREA)
    seeds = _seeds(small, None if bbox is None else np.asarray(bbox, np.float64) * scale, weight)
    # GrabCut initialises its colour models by k-means with OpenCV's global random state.
    cv2.setRNGSeed(_SEED)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    if (seeds == cv2.GC_PR_FGD).any():  # nothing stands out of an image of one colour
        cv2.grabCut(small, seeds, (0, 0, 1, 1), *models, ITERATIONS, cv2.GC_INIT_WITH_MASK)
    piece = _largest_piece((seeds == cv2.GC_FGD) | (seeds == cv2.GC_PR_FGD))
    area = float(piece.mean())
    if not MIN_AREA <= area <= MAX_AREA:
        found = "nothing" if area == 0 else f"an object of {100 * area:.1f} % of the image"
        raise InputError(f"GrabCut found {found}; give the photo a mask file (--masks DIR) or an annotated box")
    return cv2.resize(piece.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR) > 0.5


def _seeds(image: np.ndarray, box: np.ndarray | None, salience: np.ndarray | None) -> np.ndarray:
    height, width = image.shape[:2]
    ring_x, ring_y = max(1, round(_RING * width)), max(1, round(_RING * height))
    if box is not None:
        x1, y1 = (int(v) for v in np.floor(np.maximum(box[:2], 0)))
        x2, y2 = (int(v) for v in np.ceil(np.minimum(box[2:], (width, height))))
        if x2 <= x1 or y2 <= y1:
            raise InputError(f"the annotated box {np.round(box).astype(int).tolist()} does not overlap the image; correct it")
        if (x2 - x1) * (y2 - y1) <= _WIDEST_BOX * width * height:
            seeds = np.full((height, width), cv2.GC_BGD, np.uint8)
            seeds[y1:y2, x1:x2] = cv2.GC_PR_FGD
            return seeds
    seeds = np.full((height, width), cv2.GC_BGD, np.uint8)
    seeds[ring_y:-ring_y, ring_x:-ring_x] = cv2.GC_PR_BGD
    contrast = _border_contrast(image) if salience is None else _border_contrast(image) * salience
    seeds[(contrast > np.quantile(contrast, 1 - _SALIENT_SHARE)) & (seeds == cv2.GC_PR_BGD)] = cv2.GC_PR_FGD
    return seeds


def _border_contrast(image: np.ndarray) -> np.ndarray:
    """How unlike the colours of each of the four borders a pixel is, times a preference for the middle: (H, W, 3) BGR -> (H, W).

    The product over the borders asks that a pixel differs from all of them: sky, road and both sides (the boundary prior of salient
    object detection).
    """
    colour = cv2.cvtColor(image, cv2.COLOR_BGR2LAB).astype(np.float64)
    height, width = colour.shape[:2]
    band_y, band_x = max(1, round(_BAND * height)), max(1, round(_BAND * width))
    contrast = np.ones((height, width))
    for border in (colour[:band_y], colour[-band_y:], colour[:, :band_x], colour[:, -band_x:]):
        pixels = border.reshape(-1, 3)
        spread = np.cov(pixels.T) + _LIGHTNESS_NOISE**2 * np.eye(3)
        difference = colour - pixels.mean(axis=0)
        contrast *= np.einsum("hwi,ij,hwj->hw", difference, np.linalg.inv(spread), difference) ** 0.125
    y, x = np.mgrid[:height, :width]
    middle = ((x + 0.5) / width - 0.5) ** 2 + ((y + 0.5) / height - 0.5) ** 2
    blurred = cv2.GaussianBlur(contrast, (0, 0), max(height, width) / 55)
    return blurred * np.exp(-middle / (2 * _MIDDLE**2))


def _largest_piece(mask: np.ndarray) -> np.ndarray:
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    opened = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, kernel)
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(opened, connectivity=4)
    if count < 2:
        return np.zeros_like(mask)
    return labels == 1 + int(np.argmax(statistics[1:, cv2.CC_STAT_AREA]))


def read_mask_file(row: Row, dataset: DatasetConfig) -> np.ndarray:
    """The mask file that the data set has for a row, (H, W) bool of the image's size.

    Args:
        row: the required keys of :class:`FileMask`, with a ``mask_path``.
        dataset: its kind decides what the file means.

    Raises:
        InputError: the file is unreadable, does not fit the image, or does not hold the object.
    """
    height, width = row["image"].shape[:2]
    if dataset_of(dataset.kind).masks == "object":
        limits = dataset.download
        return load_mask(row["mask_path"], (width, height), lambda: read_orientation(row["path"], limits), limits)
    mask = read_segmentation(row["mask_path"], row["category"], row["bbox"])
    if mask.shape != (height, width):
        raise InputError(f"{shown(row['mask_path'])}: {mask.shape[1]} x {mask.shape[0]} pixels for an image of {width} x {height}")
    return mask


def given_mask(row: Row, config: RunConfig) -> np.ndarray | None:
    """The mask (H, W) bool that somebody made for a row: its file, or what its photo was cut out for; ``None`` where there is none, or
    where the configuration leaves them aside.

    Raises:
        InputError: as :func:`read_mask_file`.
    """
    if not config.reconstruct.takes_mask_files:
        return None
    cut_out: np.ndarray | None = row["cut_out"]
    return cut_out if row["mask_path"] is None else read_mask_file(row, config.dataset)


class GrabcutMask(Actor):
    """The segmenter's slot without a segmenter: GrabCut from the annotated box, or from the image's border where there is none."""

    requires: ClassVar[Mapping[str, str]] = {
        "image": "upright RGB, (H, W, 3) uint8",
        "path": "where the image is: a local path or a URI",
        "bbox": "annotated box x1, y1, x2, y2 in pixels, or None",
    }
    provides: ClassVar[Mapping[str, str]] = {"mask": "object mask, (H, W) bool"}
    version: ClassVar[str] = "grabcut-2"

    def process(self, row: Row) -> Row:
        """Find the mask; raises :class:`~sc3d.errors.InputError` where none can be used."""
        try:
            return {"mask": self.found(row)}
        except InputError as error:
            raise InputError(f"{shown(row['path'])}: {error}") from None

    def found(self, row: Row) -> np.ndarray:
        """The mask (H, W) bool of a row by its pixels; raises :class:`~sc3d.errors.InputError` where none can be used."""
        return grabcut_mask(row["image"], row["bbox"])


class FileMask(GrabcutMask):
    """The mask file of the data set where there is one, else what the photo was cut out for, else GrabCut. Subclasses find masks
    otherwise, and do without what others made where ``reconstruct.mask`` names their way alone."""

    requires: ClassVar[Mapping[str, str]] = {
        **GrabcutMask.requires,
        "category": "object category",
        "mask_path": "mask file of the data set, if it has one",
        "cut_out": "the opaque part of a photo that was cut out, (H, W) bool, or None",
    }
    version: ClassVar[str] = "file-or-grabcut-3"
    options: ClassVar[tuple[str, ...]] = ("reconstruct.mask", "dataset.kind")

    def process(self, row: Row) -> Row:
        """See :class:`GrabcutMask`."""
        given = given_mask(row, self.config)
        return super().process(row) if given is None else {"mask": given}

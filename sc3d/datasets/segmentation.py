"""Segmentation files of data sets in SPair-71k's layout: masks of one object, and maps of PASCAL VOC's classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sc3d.errors import InputError
from sc3d.images import open_image

# In the order of their indices in segmentation maps, which start at 1.
VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog", "horse", "motorbike",
    "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


def read_segmentation(path: str | Path, category: str, bbox: np.ndarray | None = None) -> np.ndarray:
    """Object mask (H, W) bool of a segmentation file.

    A file whose only values are 0 and 255 is a mask, 255 inside (the toys). Anything else is a class map as in PASCAL VOC: the pixels
    with the index of ``category`` belong to the object; 255 is the unlabelled border around objects. With ``bbox`` (4,), pixels
    outside the box do not count, as a class map does not separate objects of one class.

    Raises:
        InputError: unreadable, a colour image, an empty mask, or a category that VOC does not have.
    """
    try:
        values = np.asarray(open_image(str(path)))
    except InputError as error:
        raise InputError(f"{path}: the segmentation cannot be read ({error})") from None
    if values.ndim != 2:
        raise InputError(f"{path}: a segmentation has one channel, not {values.shape[2:]}; is this a photo?")
    if np.isin(values, (0, 255)).all():
        mask = values == 255
    elif category in VOC_CLASSES:
        mask = values == VOC_CLASSES.index(category) + 1
    else:
        raise InputError(f"{path}: a map of classes, and '{category}' is none of PASCAL VOC's")
    if bbox is not None:
        box = np.zeros_like(mask)
        x1, y1, x2, y2 = (max(int(v), 0) for v in (*np.floor(bbox[:2]), *np.ceil(bbox[2:])))
        box[y1:y2, x1:x2] = True
        mask = mask & box
    if not mask.any():
        raise InputError(f"{path}: shows no {category}")
    return np.asarray(mask)

"""Which pixels of a grey picture or an array are the object: masks, soft masks and maps of labels, which all look alike.

The values alone do not tell: 128 may be the label of the object, half an opinion, or a smoothed edge. Where they lie tells more: a label
fills areas, and what smoothing leaves between two values lies along their border.
"""

from __future__ import annotations

import cv2
import numpy as np

MAX_LABELS = 64
"""A picture with more values than this besides 0 is no map of labels."""

# Ids of classes begin at 1. A mask that is all darker than this would not be taken for bright on dark by anybody.
_SMALL_ID = 32
# How close to black or white the noise of a lossy format lies, in shares of the range.
_NOISE = 1 / 16
# What is thinner than this beside the objects is a border around them; what is wider than that is no border.
_THIN, _WIDE = 0.5, 2.0
_VOID = (255, 65_535)


def inside(values: np.ndarray, lossy: bool = False) -> np.ndarray:
    """The pixels (H, W) bool of the object.

    * Everything below 32: all that is not 0.
    * Two values: the larger one.
    * A map of labels, which has 0 and 2 to 64 labels, fills an area with one but the largest, and is not ``lossy``: see
      :func:`inside_labels`.
    * Anything else: above half of the largest value.

    Args:
        values: (H, W), bool, or numbers from 0 on.
        lossy: the values went through a format that changes them.

    Raises:
        ValueError: as :func:`inside_labels`.
    """
    if values.dtype == np.bool_:
        return values
    largest = values.max()
    if values.dtype.kind == "f" or largest < _SMALL_ID:
        return np.asarray(values > (largest / 2 if values.dtype.kind == "f" else 0))
    found = None if lossy else _distinct(values)
    if found is not None and len(found) == 2:
        return np.asarray(values == largest)
    if found is not None and _is_label_map(values, found):
        return inside_labels(values)
    return np.asarray(values > largest / 2)


def inside_labels(labels: np.ndarray) -> np.ndarray:
    """The pixels (H, W) bool of all ``labels`` (H, W) but 0 and, beside others, void: 255 or 65535 as in PASCAL VOC.

    The largest value is void if the other labels are below 32, or if its areas are less than half as wide as theirs.

    Raises:
        ValueError: that value may as well be the object: the other labels are below 32, and its areas more than twice as wide.
    """
    found = np.asarray(labels > 0)
    largest = labels.max()
    others = found & (labels != largest)
    if largest not in _VOID or not others.any():
        return found
    ratio = _width(labels == largest) / _width(others)
    if labels[others].max() >= _SMALL_ID:
        return others if ratio < _THIN else found
    if ratio > _WIDE and not found.all():
        raise ValueError(
            f"its pixels of {largest} may be the object, or a border that does not count around labels below {_SMALL_ID}; "
            "write the object as 255 and all else as 0"
        )
    return others


def _is_label_map(values: np.ndarray, found: np.ndarray) -> bool:
    """Whether ``values``, of which ``found`` are the different ones in ascending order, are labels on a background of 0."""
    if len(found) < 3 or found[0] > 0:
        return False
    largest = int(found[-1])
    low, high = largest * _NOISE, largest * (1 - _NOISE)
    if ((found > high) & (found < largest)).any() and ((found > 0) & (found < low)).any():
        # Noise at both ends: a mask that went through a lossy format.
        return False
    codes = _table(found)[values] if values.dtype.itemsize <= 2 else np.searchsorted(found, values).astype(np.uint8)
    square = np.ones((3, 3), np.uint8)
    flat = cv2.erode(codes, square) == cv2.dilate(codes, square)
    filled = found[np.flatnonzero(np.bincount(codes[flat], minlength=len(found)))]
    return bool(((filled > 0) & (filled < largest)).any())


def _distinct(values: np.ndarray) -> np.ndarray | None:
    """The different values in ascending order, or None if there are more than labels."""
    short = values.dtype.kind == "u" and values.dtype.itemsize <= 2
    found = np.flatnonzero(np.bincount(values.ravel())) if short else np.unique(values)
    return found if len(found) <= MAX_LABELS + 1 else None


def _table(found: np.ndarray) -> np.ndarray:
    """Value of up to 16 bits -> its place among those that were found."""
    table = np.zeros(1 << 16, np.uint8)
    table[found] = np.arange(len(found))
    return table


def _width(area: np.ndarray) -> float:
    """The radius in pixels of the largest disc in an area; the picture's border is no border of it."""
    return float(cv2.distanceTransform(area.astype(np.uint8), cv2.DIST_L2, 3).max())

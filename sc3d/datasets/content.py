"""What the reader of a data set returns, and what all readers share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sc3d.datasets.annotation_files import MAX_COORDINATE
from sc3d.errors import InputError
from sc3d.records import SPLITS, ImageRecord, Pair, Reject

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_NAMED = 3


@dataclass(frozen=True)
class AnnotatedSet:
    """Images and ordered pairs. Every pair's images are listed.

    A pair's ``category`` is what the data set's protocol averages over: the category of both images, or what they share.

    Attributes:
        listed: pairs of each split as the data set lists them, repeated ones and those left out included.
        left_out: images and pairs that the protocol does not use, and why.
        aside: what lies with the images and is not used, in a line for each reason, with how many files that are.
    """

    images: list[ImageRecord]
    pairs: list[Pair]
    listed: Mapping[str, int] = field(default_factory=dict)
    left_out: tuple[Reject, ...] = ()
    aside: tuple[str, ...] = ()


def left_out(name: str, why: str) -> Reject:
    """The note that the image, pair or folder ``name`` of a data set is not used."""
    return Reject(id=name, stage="dataset", error_type="LeftOut", message=why)


def check_splits(splits: Sequence[str]) -> None:
    """Raise :class:`InputError` unless ``splits`` are some of trn, val and test."""
    if not splits or any(split not in SPLITS for split in splits):
        raise InputError(f"splits must be some of {', '.join(SPLITS)}; got {list(splits)}")


def check_categories(root: Path, wanted: Iterable[str], available: Iterable[str]) -> None:
    """Raise :class:`InputError` unless all ``wanted`` categories are ``available``."""
    there = set(available)
    missing = sorted(set(wanted) - there)
    if missing:
        raise InputError(f"{root}: no annotations of {', '.join(missing)}; there are {', '.join(sorted(there)) or 'none'}")


def safe_id(*parts: str) -> str:
    """An image id of the parts; characters that no id can have become underscores."""
    return _UNSAFE.sub("_", "-".join(parts))


def named(items: Sequence[object]) -> str:
    """The first few of ``items``, and how many more there are."""
    shown = ", ".join(str(item) for item in items[:_NAMED])
    return shown if len(items) <= _NAMED else f"{shown} and {len(items) - _NAMED:,} more"


def require_files(paths: Iterable[Path], what: str, remedy: str) -> None:
    """Raise :class:`InputError` that names those of ``paths`` that are no files."""
    paths = sorted(set(paths))
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise InputError(f"{len(missing):,} of {len(paths):,} {what} are missing: {named(missing)}; {remedy}")


def finite(value: Any, length: int) -> np.ndarray:
    """``value`` as (length,) float32; raises ``ValueError`` unless it is that many finite numbers."""
    numbers = np.asarray(value, np.float32)
    if numbers.shape != (length,) or not np.isfinite(numbers).all():
        raise ValueError(f"expected {length} finite numbers, got {value}")
    return numbers


class PairKeypoints:
    """Numbers the keypoints of data sets that annotate pairs instead of images.

    Each pair's points get ids of their own. So the keypoints that two images share are the pair's, neither fewer nor more, whatever other
    pairs the images are in. The ids say nothing about parts of the object.
    """

    def __init__(self) -> None:
        self._points: dict[tuple[str, str], np.ndarray] = {}
        self._ids: dict[str, list[np.ndarray]] = {}
        self._xy: dict[str, list[np.ndarray]] = {}
        self._next = 0

    def add(self, images: tuple[str, str], points: np.ndarray, where: str) -> None:
        """Add a pair's points (K, 4): x, y in the first and x, y in the second image.

        The same pair, or the reversed one, may come again with the same points in any order.

        Raises:
            InputError: it comes again with other points, is a pair of an image with itself, or has points far from any image; ``where``
                begins the message.
        """
        if not (np.abs(points) <= MAX_COORDINATE).all():
            raise InputError(f"{where}: points more than {MAX_COORDINATE:,.0f} pixels away; correct them")
        if images[0] == images[1]:
            raise InputError(f"{where}: a pair of {images[0]} with itself; remove it")
        if images[0] > images[1]:
            images, points = (images[1], images[0]), points[:, [2, 3, 0, 1]]
        points = points[np.lexsort(points.T[::-1])]
        known = self._points.setdefault(images, points)
        if known is not points:
            if not np.array_equal(known, points):
                raise InputError(f"{where}: lists other points of {images[0]} and {images[1]} than an earlier line; correct one")
            return
        ids = np.arange(self._next, self._next + len(points), dtype=np.int32)
        self._next += len(points)
        for image, xy in zip(images, (points[:, :2], points[:, 2:]), strict=True):
            self._ids.setdefault(image, []).append(ids)
            self._xy.setdefault(image, []).append(xy.astype(np.float32))

    def of(self, image: str) -> tuple[np.ndarray, np.ndarray]:
        """Ids (K,) ascending and pixels (K, 2) of all keypoints of an image."""
        return np.concatenate(self._ids[image]), np.concatenate(self._xy[image])

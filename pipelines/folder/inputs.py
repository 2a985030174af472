"""What the artefacts of an image are made of, as hashes in the manifest: so a replaced photo, a corrected mask or another box is seen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from sc3d.config import DownloadConfig
from sc3d.contents import hash_contents
from sc3d.records import ImageRecord
from sc3d.store import RunFolder

FILES = ("path", "mask_path", "truth_path")
"""Columns of the manifest that name files. What these hold counts, not where they are: a data set may be moved."""

_ALWAYS = ("category",)
_ANNOTATION = ("keypoint_ids", "keypoint_xy", "bbox")
_DIGITS = 12


def with_inputs(
    run: RunFolder,
    images: Sequence[ImageRecord],
    columns: Collection[str],
    advance: Callable[[int], None] = lambda count: None,
    download: DownloadConfig | None = None,
) -> list[ImageRecord]:
    """The images with ``photo``, ``inputs`` and ``annotation`` filled in.

    Args:
        columns: those columns of the manifest that the stages read which are configured. A mask file that nobody reads changes nothing.
        advance: told of each file that has been looked at.
        download: what may be asked and how large a file may be; a larger one counts as one that cannot be read.

    Raises:
        StoreError: the run folder or the store of the photos is away.
    """
    files = [name for name in FILES if name in columns]
    paths = (path for image in images for name in files if (path := getattr(image, name)))
    contents = hash_contents(run, paths, advance, download)
    read = sorted({*columns, *_ALWAYS} - {"image_id"})
    return [
        image.replace(
            photo=contents.get(image.path, ""), inputs=_hash(image, read, contents), annotation=_hash(image, _ANNOTATION, {})
        )
        for image in images
    ]


def _hash(image: ImageRecord, columns: Sequence[str], contents: Mapping[str, str]) -> str:
    values = {}
    for name in columns:
        value = getattr(image, name)
        values[name] = contents.get(value, value) if name in FILES else value.tolist() if isinstance(value, np.ndarray) else value
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:_DIGITS]

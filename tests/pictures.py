"""Pictures of the kinds that cameras and programs write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HEIC = Path(__file__).parent / "heic"
"""Pictures of 96 x 64 pixels in HEIC, red and green above blue and white: ``upright``; ``turned``, stored on its side (irot, EXIF 6);
and ``cut_out``, opaque in the columns 20 to 70 of the rows 10 to 50. No decoder of the project can write them."""


def save(image: Image.Image | np.ndarray, path: Path, **options: Any) -> str:
    """Save an image, or an array of pixels, as a picture; returns its path."""
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return str(path)


def stored_as(upright: np.ndarray, orientation: int) -> np.ndarray:
    """The pixels that a camera stores so that a viewer which applies ``orientation`` shows ``upright`` (EXIF 2.3, tag 0x0112)."""
    row_first = {1: (0, 0), 2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)}
    flip_rows, flip_columns = row_first[orientation]
    image = upright[::-1] if flip_rows else upright
    image = image[:, ::-1] if flip_columns else image
    return np.ascontiguousarray(image.swapaxes(0, 1) if orientation >= 5 else image)


def save_with_orientation(upright: np.ndarray, orientation: int, path: Path) -> str:
    """Save pixels as a camera does that is held so."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return save(stored_as(upright, orientation), path, exif=exif)

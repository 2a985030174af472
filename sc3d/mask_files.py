"""Reading object masks: pictures, NumPy arrays and COCO's run lengths become boolean arrays, or a typed error that says what to do.

Sizes are (width, height) in pixels, arrays are (height, width).
"""

from __future__ import annotations

import io
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

from sc3d.config import DownloadConfig
from sc3d.display import shown
from sc3d.errors import InputError
from sc3d.images import EXTENSIONS, MAX_PIXELS, SIXTEEN_BIT, decode_image, has_alpha, orientation_of, read_bytes, to_rgb, upright
from sc3d.mask_values import inside, inside_labels
from sc3d.run_lengths import read_runs

MASK_EXTENSIONS = (*EXTENSIONS, ".npy", ".json")
"""What names of mask files end in, in small or capital letters. What a file is, its content says."""

ASPECT_TOLERANCE = 0.01

_NUMPY = b"\x93NUMPY"
_MAX_HEADER = 10_000
_LOSSY = ("JPEG", "MPO", "HEIF", "AVIF", "WEBP")
# A mask that covers so much of the photo's border, and its corners, is inverted or shows no shape.
_MOST_BORDER = 0.75
_SPECK = 0.01


def load_mask(
    path: str, size: tuple[int, int], orientation: int | Callable[[], int] = 1, download: DownloadConfig | None = None
) -> np.ndarray:
    """Read an object mask for an upright photo of ``size``, as (H, W) bool.

    A picture, a NumPy array (``.npy``, one channel), or COCO's run lengths in JSON (:mod:`sc3d.run_lengths`). What is inside: opaque
    pixels, if a picture has real transparency; of a palette with colours all but black and void, as
    :func:`~sc3d.mask_values.inside_labels` has it; else what :func:`~sc3d.mask_values.inside` says of a grey picture, of the brightest
    channel of a colour picture, or of an array.

    A mask of another size with the same aspect ratio (within 1 %) is resized (nearest). The mask's own EXIF orientation is
    applied. A mask that fits only the photo *as stored* was drawn by a program that ignores EXIF, and is turned like the photo.

    Args:
        path: local path or address, see :func:`~sc3d.images.read_bytes`.
        size: (width, height) of the upright photo.
        orientation: the photo's EXIF orientation, see :func:`~sc3d.images.read_orientation`; or what finds it out, called only where it
            matters.
        download: limits, see :func:`~sc3d.images.read_bytes`.

    Raises:
        InputError: unreadable; another size and aspect ratio; values that may mean one thing or another; empty; or full, or all round the
            photo's border (which is an inverted mask, or carries no shape).
        StoreError: the store of a bucket is away, or does not accept the credentials.
    """
    where = shown(path)
    mask = _read(read_bytes(path, download), where)
    have = mask.shape[1], mask.shape[0]
    if not _fits(have, size) and _fits(have, (size[1], size[0])):
        turned = orientation() if callable(orientation) else orientation
        mask = np.asarray(upright(Image.fromarray(mask), turned)) if turned in (5, 6, 7, 8) else mask
        have = mask.shape[1], mask.shape[0]
    if not _fits(have, size):
        raise InputError(
            f"{where}: the mask has {have[0]} x {have[1]} pixels, its photo {size[0]} x {size[1]}; "
            "export it at the photo's size, or at least with its aspect ratio"
        )
    if have != tuple(size):
        mask = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
    _check_shape(mask, where)
    return mask


def without_specks(mask: np.ndarray) -> np.ndarray:
    """A mask (H, W) bool without pieces of less than a hundredth of the largest one's area: stray pixels, by which its box is wider than
    the object."""
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count < 3:
        return mask
    areas = statistics[:, cv2.CC_STAT_AREA]
    kept = areas >= _SPECK * areas[1:].max()
    kept[0] = False
    return np.asarray(kept[labels])


def _read(data: bytes, where: str) -> np.ndarray:
    """The mask (H, W) bool that a file holds, upright as far as the file says."""
    try:
        if data.startswith(_NUMPY):
            return inside(_array(data, where))
        if data.lstrip()[:1] in (b"{", b"["):
            return read_runs(data, where, MAX_PIXELS)
        image = decode_image(data, where)
        return _inside(upright(image, orientation_of(image)), image.format in _LOSSY, where)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None


def _inside(image: Image.Image, lossy: bool, where: str) -> np.ndarray:
    if has_alpha(image):
        alpha: np.ndarray = np.asarray(image.convert("RGBA"))[..., 3]
        if alpha.min() < 255:
            return alpha > 127
    values: np.ndarray = np.asarray(image)
    if image.mode == "P":
        colours: np.ndarray = np.asarray(image.convert("RGB"))
        if (colours == colours[..., :1]).all():
            return inside(colours[..., 0], lossy)
        return inside_labels(np.where(colours.any(axis=2), np.maximum(values, 1), 0))
    if values.dtype != np.bool_ and image.mode not in ("L", *SIXTEEN_BIT):
        values = np.asarray(to_rgb(image, where)).max(axis=2)
    return inside(values, lossy)


def _array(data: bytes, where: str) -> np.ndarray:
    """The one channel (H, W) of an array of numbers in NumPy's format, of which nothing is unpickled."""
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = read(stream, max_header_size=_MAX_HEADER)
    except Exception as error:  # the header is a Python literal, whose reader raises whatever it stumbles over
        raise InputError(f"{where}: is no NumPy array that can be read ({type(error).__name__}); save it with numpy.save") from None
    sides = [side for side in shape if side != 1] if len(shape) > 2 else list(shape)
    if len(sides) != 2 or any(type(side) is not int or side < 1 for side in sides) or dtype.kind not in "buif" or dtype.hasobject:
        raise InputError(f"{where}: holds {dtype} {shape}; a mask is one channel (height, width) of numbers")
    count, left = sides[0] * sides[1], len(data) - stream.tell()
    if count > MAX_PIXELS:
        raise InputError(
            f"{where}: {sides[1]} x {sides[0]} are more than {MAX_PIXELS // 10**6} million pixels; scale it down first"
        )
    if count * dtype.itemsize != left:
        raise InputError(f"{where}: its {left:,} bytes are not the {count * dtype.itemsize:,} of its header; save it again")
    values = np.frombuffer(data, dtype, count, stream.tell()).reshape(sides, order="F" if is_fortran else "C")
    if dtype.kind == "f" and (not np.isfinite(values).all() or values.min() < 0):
        raise InputError(f"{where}: holds numbers below 0, or that are none; save what is inside as True or 1")
    # What is below 0 stands for no label.
    return np.maximum(values, 0) if dtype.kind == "i" else np.ascontiguousarray(values)


def _fits(have: tuple[int, int], want: tuple[int, int]) -> bool:
    return abs((have[0] / have[1]) / (want[0] / want[1]) - 1) <= ASPECT_TOLERANCE


def _check_shape(mask: np.ndarray, where: str) -> None:
    if not mask.any():
        raise InputError(f"{where}: the mask is empty; draw the object, or remove the file to have a mask computed")
    if mask.all():
        raise InputError(f"{where}: the mask covers the whole photo, so it shows no shape; draw the object, or remove the file")
    corners = mask[[0, 0, -1, -1], [0, -1, 0, -1]]
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    if corners.all() and border.mean() > _MOST_BORDER:
        raise InputError(
            f"{where}: the mask covers {100 * border.mean():.0f} % of the photo's border and all its corners; invert it, since the object "
            "is what is bright, or remove it if the object fills the photo, which shows no shape"
        )

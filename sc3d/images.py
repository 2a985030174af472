"""Reading photos and masks: what is in the file becomes upright 8-bit RGB or a boolean mask, or a typed error that says what to do.

Sizes are (width, height) in pixels, arrays are (height, width, ...). "Upright" means that the EXIF orientation has been applied.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Literal

import numpy as np
from PIL import Image
from PIL.ExifTags import Base as ExifTag

from sc3d.addresses import check_address
from sc3d.config import DownloadConfig
from sc3d.display import scheme_of, shown
from sc3d.errors import InputError
from sc3d.grid import Letterbox
from sc3d.local_files import read_local
from sc3d.remote_images import read_object, read_url

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
MIN_SIDE = 16
# A little below the size at which Pillow itself begins to warn about decompression bombs.
MAX_PIXELS = 80_000_000
ASPECT_TOLERANCE = 0.01

# A scan of a few bytes may go over all pixels. Progressive photos have about ten.
_MAX_SCANS = 100
_SCAN = b"\xff\xda"

# Only formats that Pillow decodes by itself: others (EPS, for one) start external programs.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")
# Grey masks whose largest value is below this are label maps (0, 1, 2, ..): anything but 0 is inside.
_MAX_LABEL = 32


def read_bytes(path: str, download: DownloadConfig | None = None) -> bytes:
    """The content of a local path, or of a ``file://``, ``s3://``, ``http://`` or ``https://`` address.

    Args:
        path: local path or address.
        download: limits, of which those for a connection count for what does not lie here.

    Raises:
        InputError: missing, unreadable, no regular file, empty or too large; credentials or options in the address; a host or bucket that
            may not be asked; or a web server that does not give it in time.
        StoreError: the store of a bucket is away, or does not accept the credentials: that says nothing about the image.
    """
    download = download or DownloadConfig()
    scheme = scheme_of(path)
    check_address(path)
    if scheme == "s3":
        data = read_object(path, download.buckets, download.max_bytes)
    elif scheme in ("http", "https"):
        data = read_url(path, download)
    else:
        data = read_local(path, download.max_bytes, "scale it down, or raise dataset.download.max_megabytes")
    if not data:
        raise InputError(f"{shown(path)}: the file is empty (0 bytes); copy it again or remove it")
    return data


def load_image(path: str, download: DownloadConfig | None = None) -> np.ndarray:
    """Read a photo as upright RGB, (H, W, 3) uint8.

    The EXIF orientation is applied; CMYK, palette and grey images become RGB; 16-bit grey keeps its upper 8 bits; transparent
    pixels are laid over white; of several frames the first one counts.

    Args:
        path: local path or address, see :func:`read_bytes`.
        download: limits, see :func:`read_bytes`.

    Raises:
        InputError: missing, empty, truncated, not an image, too small (a side below 16 pixels), too large (a decompression bomb),
            or of a pixel type that has no display range.
        StoreError: the store of a bucket is away, or does not accept the credentials.
    """
    image, where = open_image(path, download), shown(path)
    if min(image.size) < MIN_SIDE:
        raise InputError(
            f"{where}: {image.width} x {image.height} pixels; photos need at least {MIN_SIDE} pixels a side; remove it"
        )
    return np.ascontiguousarray(np.asarray(_to_rgb(_upright(image, orientation_of(image)), where)))


def read_orientation(path: str, download: DownloadConfig | None = None) -> int:
    """EXIF orientation of an image file: 1 to 8; 1 is stored upright, or not stated.

    Raises:
        InputError, StoreError: the file cannot be read as an image; see :func:`load_image`.
    """
    return orientation_of(open_image(path, download))


def orientation_of(image: Image.Image) -> int:
    """EXIF orientation of an opened image; 1 where there is none, or where the EXIF block is damaged."""
    try:
        value = image.getexif().get(ExifTag.Orientation, 1)
    except Exception:  # a damaged EXIF block raises whatever its parser stumbled over; the pixels are still good
        return 1
    return value if value in _TRANSPOSITIONS else 1


def load_mask(
    path: str, size: tuple[int, int], orientation: int | Callable[[], int] = 1, download: DownloadConfig | None = None
) -> np.ndarray:
    """Read an object mask for an upright photo of ``size``, as (H, W) bool.

    What is inside: opaque pixels, if the mask has real transparency; of a palette any colour but black; of a grey or colour mask
    whose largest value is below 32 (a label map) any value but 0, else everything above half of the largest value.

    A mask of another size with the same aspect ratio (within 1 %) is resized (nearest). The mask's own EXIF orientation is
    applied. A mask that fits only the photo *as stored* was drawn by a program that ignores EXIF, and is turned like the photo.

    Args:
        path: local path or address, see :func:`read_bytes`.
        size: (width, height) of the upright photo.
        orientation: the photo's EXIF orientation, see :func:`read_orientation`; or what finds it out, called only where it matters.
        download: limits, see :func:`read_bytes`.

    Raises:
        InputError: unreadable; another size and aspect ratio; empty; or full (which carries no shape).
        StoreError: the store of a bucket is away, or does not accept the credentials.
    """
    stored, where = open_image(path, download), shown(path)
    image = _upright(stored, orientation_of(stored))
    if not _fits(image.size, size) and _fits(image.size, (size[1], size[0])):
        turned = orientation() if callable(orientation) else orientation
        image = _upright(image, turned) if turned in (5, 6, 7, 8) else image
    if not _fits(image.size, size):
        raise InputError(
            f"{where}: the mask has {image.width} x {image.height} pixels, its photo {size[0]} x {size[1]}; "
            "export it at the photo's size, or at least with its aspect ratio"
        )
    if image.size != tuple(size):
        image = image.resize(size, Image.Resampling.NEAREST)
    mask = _inside(image, where)
    if not mask.any():
        raise InputError(f"{where}: the mask is empty; draw the object, or remove the file to have a mask computed")
    if mask.all():
        raise InputError(f"{where}: the mask covers the whole photo, so it shows no shape; draw the object, or remove the file")
    return mask


def encode_mask(mask: np.ndarray) -> bytes:
    """Boolean mask (H, W) -> 8-bit grey PNG, 255 inside."""
    if mask.ndim != 2 or mask.dtype != np.bool_ or mask.size == 0:
        raise InputError(f"a mask must be a non-empty boolean array (H, W), got {mask.dtype} {mask.shape}")
    buffer = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * np.uint8(255)).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def decode_mask(data: bytes) -> np.ndarray:
    """Inverse of :func:`encode_mask`: PNG -> (H, W) bool. Raises :class:`InputError` if ``data`` is no such PNG."""
    image = _decode(data, "stored mask")
    if image.mode != "L":
        raise InputError(f"stored mask: an 8-bit grey PNG was expected, got mode {image.mode}; reconstruct the image again")
    return np.asarray(image) > 127


def letterbox(image: np.ndarray, size: int, fill: int | Literal["edge"] = 0) -> np.ndarray:
    """Resize (LANCZOS) the long side to ``size`` and centre on a square of ``fill``, a grey level or the image's own edge continued:
    (H, W, 3) uint8 -> (size, size, 3) uint8.

    Rounding and offsets are those of :class:`~sc3d.grid.Letterbox`, so a pixel of the result is a pixel of that frame at this size.
    """
    box = Letterbox(image.shape[1], image.shape[0], size, 1)
    (width, height), (left, top) = box.resized, box.offset
    resized = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))
    around = ((top, size - height - top), (left, size - width - left), (0, 0))
    return np.pad(resized, around, mode="edge") if fill == "edge" else np.pad(resized, around, constant_values=fill)


def open_image(path: str, download: DownloadConfig | None = None) -> Image.Image:
    """An image as it is stored, decoded whole; raises as :func:`load_image` does, except that it may be small and of any pixel type."""
    return _decode(read_bytes(path, download), shown(path))


def _decode(data: bytes, where: str) -> Image.Image:
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=_FORMATS)
        pixels = image.width * image.height
        if pixels <= MAX_PIXELS:
            if image.format in ("JPEG", "MPO") and data.count(_SCAN) > _MAX_SCANS:
                raise ValueError(f"it has more than {_MAX_SCANS} scans")
            image.load()
            _check_whole(data, image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InputError(f"{where}: more than {MAX_PIXELS // 10**6} million pixels; scale it down first") from None
    except Image.UnidentifiedImageError:
        names = ", ".join(sorted({e.lstrip(".") for e in EXTENSIONS}))
        raise InputError(f"{where}: not an image that can be read; convert it to one of {names}") from None
    except Exception as error:  # decoders raise whatever they stumble over in a damaged file
        raise InputError(f"{where}: the image is truncated or damaged ({error}); copy it again or remove it") from None
    if pixels > MAX_PIXELS:
        raise InputError(
            f"{where}: {image.width} x {image.height} are more than {MAX_PIXELS // 10**6} million pixels; scale it down first"
        )
    return image


def _check_whole(data: bytes, image: Image.Image) -> None:
    """Raise an exception if the decoder left pixels of a loaded image as they were, or made some up: then it is not the whole picture."""
    if image.format in ("JPEG", "MPO"):
        # Here, since it is compiled code, which processes that open no photo need not load.
        from sc3d.jpeg import check_jpeg

        check_jpeg(data)
    elif 0 in _corner(image):
        # What no decoder wrote is still zero. Over another colour, it would be that.
        again: Image.Image = Image.open(io.BytesIO(data), formats=_FORMATS)
        bands = len(again.getbands())
        again.im = Image.new(again.mode, again.size, 255 if bands == 1 else (255,) * bands).im
        again.load()
        if _corner(again) != _corner(image):
            raise ValueError("it holds less than its header promises")


def _corner(image: Image.Image) -> bytes:
    """The last four pixels. Files hold their pixels in such an order that all others are there if these are."""
    return image.crop((image.width - 2, image.height - 2, image.width, image.height)).tobytes()


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_TRANSPOSITIONS[orientation]) if orientation in _TRANSPOSITIONS else image


def _has_alpha(image: Image.Image) -> bool:
    return "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa")


def _to_rgb(image: Image.Image, where: str) -> Image.Image:
    if image.mode in _SIXTEEN_BIT or image.mode == "F":
        return Image.fromarray(_to_8_bit(image, where)).convert("RGB")
    try:
        if not _has_alpha(image):
            return image.convert("RGB")
        rgba = image.convert("RGBA")
    except ValueError:
        raise InputError(f"{where}: pixel type {image.mode} cannot be shown as RGB; convert it to 8-bit RGB") from None
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _to_8_bit(image: Image.Image, where: str) -> np.ndarray:
    values: np.ndarray = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 0xFFFF:
        raise InputError(f"{where}: floating point or 32-bit pixels have no fixed display range; convert it to 8-bit RGB")
    return (values.astype(np.uint32) >> 8).astype(np.uint8)


def _fits(have: tuple[int, int], want: tuple[int, int]) -> bool:
    return abs((have[0] / have[1]) / (want[0] / want[1]) - 1) <= ASPECT_TOLERANCE


def _inside(image: Image.Image, where: str) -> np.ndarray:
    if _has_alpha(image):
        alpha: np.ndarray = np.asarray(image.convert("RGBA"))[..., 3]
        if alpha.min() < 255:
            return alpha > 127
    if image.mode == "P":
        return np.asarray(np.asarray(image.convert("RGB")).any(axis=2))
    values: np.ndarray = np.asarray(image)
    if values.dtype != np.bool_ and image.mode not in ("L", *_SIXTEEN_BIT):
        values = np.asarray(_to_rgb(image, where)).max(axis=2)
    largest = int(values.max())
    return np.asarray(values > (0 if largest < _MAX_LABEL else largest / 2))

"""Reading photos: what is in the file becomes upright 8-bit RGB, or a typed error that says what to do. Masks: :mod:`sc3d.mask_files`.

Sizes are (width, height) in pixels, arrays are (height, width, ...). "Upright" means that the EXIF orientation has been applied.
"""

from __future__ import annotations

import io
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

EXTENSIONS = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".png", ".webp", ".heic", ".heif", ".hif", ".avif", ".gif", ".bmp", ".tif", ".tiff"
)  # fmt: skip
"""What names of photos end in, in small or capital letters. What a file is, its content says."""

MIN_SIDE = 16
# A little below the size at which Pillow itself begins to warn about decompression bombs.
MAX_PIXELS = 80_000_000

# A scan of a few bytes may go over all pixels. Progressive photos have about ten.
_MAX_SCANS = 100
_SCAN = b"\xff\xda"

# Only formats that Pillow decodes by itself: others (EPS, for one) start external programs.
_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "TIFF", "GIF", "PPM")
# HEIC and AVIF are made of boxes; the first one names what is in the others.
_BOX, _AVIF = b"ftyp", (b"avif", b"avis")
_MAX_BRANDS = 256
_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")
"""Modes of Pillow whose pixels are one number of up to 16 bits."""

# What cameras deliver in 16 bits.
_DEPTHS = (8, 10, 12, 14, 16)
# Where a PNG says how many bits a value has, and the tag by which a TIFF does.
_PNG_BITS, _TIFF_BITS = 24, 258
_LEAST_BRIGHT = 16
# Shares of a photo that the opaque part of a cut-out has: less is no object, and more is a picture with rounded corners.
_CUT_OUT = (0.005, 0.95)


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
    """Read a photo as upright RGB, (H, W, 3) uint8: the first of what :func:`load_photo` returns."""
    return load_photo(path, download)[0]


def load_photo(path: str, download: DownloadConfig | None = None) -> tuple[np.ndarray, np.ndarray | None]:
    """Read a photo as upright RGB, (H, W, 3) uint8, and the object that it was cut out for, (H, W) bool.

    JPEG, PNG, WebP, HEIC, AVIF, GIF, BMP, TIFF. The EXIF orientation is applied; CMYK, palette and grey images become RGB; 16-bit grey
    keeps the upper 8 of the 8, 10, 12, 14 or 16 bits that its values need; transparent pixels are laid over white; of several frames the
    first one counts.

    The object is what is opaque, where that is 0.5 to 95 % of the photo; else there is ``None``.

    Args:
        path: local path or address, see :func:`read_bytes`.
        download: limits, see :func:`read_bytes`.

    Raises:
        InputError: missing, empty, truncated, not an image, too small (a side below 16 pixels), too large (a decompression bomb),
            or of a pixel type that has no display range.
        StoreError: the store of a bucket is away, or does not accept the credentials.
    """
    data, where = read_bytes(path, download), shown(path)
    image = decode_image(data, where)
    if min(image.size) < MIN_SIDE:
        raise InputError(
            f"{where}: {image.width} x {image.height} pixels; photos need at least {MIN_SIDE} pixels a side; remove it"
        )
    _check_depth(data, image, where)
    image = upright(image, orientation_of(image))
    return np.ascontiguousarray(np.asarray(to_rgb(image, where))), _cut_out(image)


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


def encode_mask(mask: np.ndarray) -> bytes:
    """Boolean mask (H, W) -> 8-bit grey PNG, 255 inside."""
    if mask.ndim != 2 or mask.dtype != np.bool_ or mask.size == 0:
        raise InputError(f"a mask must be a non-empty boolean array (H, W), got {mask.dtype} {mask.shape}")
    buffer = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * np.uint8(255)).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def decode_mask(data: bytes) -> np.ndarray:
    """Inverse of :func:`encode_mask`: PNG -> (H, W) bool. Raises :class:`InputError` if ``data`` is no such PNG."""
    image = decode_image(data, "stored mask")
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
    return decode_image(read_bytes(path, download), shown(path))


def decode_image(data: bytes, where: str) -> Image.Image:
    """As :func:`open_image`, of the content of a file; ``where`` begins the messages."""
    try:
        image: Image.Image = _opened(data)
        pixels = image.width * image.height
        if pixels <= MAX_PIXELS:
            if image.format in ("JPEG", "MPO") and data.count(_SCAN) > _MAX_SCANS:
                raise ValueError(f"it has more than {_MAX_SCANS} scans")
            image.load()
            # What a HEIC decodes to may have another size than its header says.
            pixels = image.width * image.height
            _check_whole(data, image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InputError(f"{where}: more than {MAX_PIXELS // 10**6} million pixels; scale it down first") from None
    except Image.UnidentifiedImageError:
        raise InputError(f"{where}: not an image that can be read; convert it to JPEG or PNG") from None
    except Exception as error:  # decoders raise whatever they stumble over in a damaged file
        raise InputError(f"{where}: the image is truncated or damaged ({error}); copy it again or remove it") from None
    if pixels > MAX_PIXELS:
        raise InputError(
            f"{where}: {image.width} x {image.height} are more than {MAX_PIXELS // 10**6} million pixels; scale it down first"
        )
    return image


def _opened(data: bytes) -> Image.Image:
    if data[4:8] != _BOX or any(brand in data[8 : min(int.from_bytes(data[:4], "big"), _MAX_BRANDS)] for brand in _AVIF):
        return Image.open(io.BytesIO(data), formats=_FORMATS)
    # Here, since it is compiled code, which processes that open no such photo need not load.
    import pi_heif

    pi_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)
    return Image.open(io.BytesIO(data), formats=("HEIF", "AVIF"))


def _check_whole(data: bytes, image: Image.Image) -> None:
    """Raise an exception if the decoder left pixels of a loaded image as they were, or made some up: then it is not the whole picture."""
    if image.format in ("JPEG", "MPO"):
        # Here, since it is compiled code, which processes that open no photo need not load.
        from sc3d.jpeg import check_jpeg

        check_jpeg(data)
    elif 0 in _corner(image):
        # What no decoder wrote is still zero. Over another colour, it would be that.
        again = _opened(data)
        bands = len(again.getbands())
        again.im = Image.new(again.mode, again.size, 255 if bands == 1 else (255,) * bands).im
        again.load()
        if _corner(again) != _corner(image):
            raise ValueError("it holds less than its header promises")


def _corner(image: Image.Image) -> bytes:
    """The last four pixels. Files hold their pixels in such an order that all others are there if these are."""
    return image.crop((image.width - 2, image.height - 2, image.width, image.height)).tobytes()


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """An image with its EXIF orientation applied; whatever is none of 2 to 8 leaves it as it is."""
    return image.transpose(_TRANSPOSITIONS[orientation]) if orientation in _TRANSPOSITIONS else image


def has_alpha(image: Image.Image) -> bool:
    """Whether an image can have transparent pixels."""
    return "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa")


def _check_depth(data: bytes, image: Image.Image, where: str) -> None:
    """Refuse 16-bit colours of which Pillow, which reads their upper 8 bits, has left nothing that one can see."""
    if image.mode not in ("RGB", "RGBA", "LA"):
        return
    deep = data[_PNG_BITS] == 16 if image.format == "PNG" else 16 in getattr(image, "tag_v2", {}).get(_TIFF_BITS, ())
    if deep and 0 < int(np.asarray(image.convert("RGB")).max()) < _LEAST_BRIGHT:
        raise InputError(f"{where}: its 16-bit colours use less than 13 of their bits, so it is black; convert it to 8 bits")


def _cut_out(image: Image.Image) -> np.ndarray | None:
    if not has_alpha(image):
        return None
    opaque: np.ndarray = np.asarray(image.convert("RGBA"))[..., 3] > 127
    least, most = _CUT_OUT
    return opaque if least <= opaque.mean() <= most else None


def to_rgb(image: Image.Image, where: str) -> Image.Image:
    """An image of any pixel type as 8-bit RGB, over white; ``where`` begins the message of the InputError where that cannot be."""
    if image.mode in SIXTEEN_BIT or image.mode == "F":
        return Image.fromarray(_to_8_bit(image, where)).convert("RGB")
    try:
        if not has_alpha(image):
            return image.convert("RGB")
        rgba = image.convert("RGBA")
    except ValueError:
        raise InputError(f"{where}: pixel type {image.mode} cannot be shown as RGB; convert it to 8-bit RGB") from None
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _to_8_bit(image: Image.Image, where: str) -> np.ndarray:
    values: np.ndarray = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 0xFFFF:
        raise InputError(f"{where}: floating point or 32-bit pixels have no fixed display range; convert it to 8-bit RGB")
    most = int(values.max())
    depth = next(depth for depth in _DEPTHS if most >> depth == 0)
    return (values.astype(np.uint32) >> (depth - 8)).astype(np.uint8)

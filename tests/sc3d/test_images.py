"""Reading photos and masks. Bad files are made here, each in its own test."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from sc3d.errors import InputError
from sc3d.grid import Letterbox
from sc3d.images import decode_mask, encode_mask, letterbox, load_image, load_mask, read_orientation

WIDTH, HEIGHT = 48, 32


@pytest.fixture
def quadrants():
    """Upright (32, 48, 3): red, green / blue, white; no symmetry, so that every orientation looks different."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[:16, :24] = 255, 0, 0
    image[:16, 24:] = 0, 255, 0
    image[16:, :24] = 0, 0, 255
    image[16:, 24:] = 255, 255, 255
    return image


def save(image, path, **options):
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return str(path)


def stored_as(upright, orientation):
    """The pixels that a camera stores so that a viewer which applies ``orientation`` shows ``upright`` (EXIF 2.3, tag 0x0112)."""
    row_first = {1: (0, 0), 2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)}
    flip_rows, flip_columns = row_first[orientation]
    image = upright[::-1] if flip_rows else upright
    image = image[:, ::-1] if flip_columns else image
    return np.ascontiguousarray(image.swapaxes(0, 1) if orientation >= 5 else image)


def rgb_png(width, height, depth, rows):
    """An RGB PNG written by hand (PNG specification, chunks IHDR, IDAT, IEND)."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def save_with_orientation(upright, orientation, path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return save(stored_as(upright, orientation), path, exif=exif)


def test_plain_image_is_read_as_it_is(quadrants, tmp_path):
    image = load_image(save(quadrants, tmp_path / "a.png"))
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    np.testing.assert_array_equal(image, quadrants)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotated_image_comes_back_upright(quadrants, tmp_path, orientation):
    path = save_with_orientation(quadrants, orientation, tmp_path / "a.png")
    assert read_orientation(path) == orientation
    np.testing.assert_array_equal(load_image(path), quadrants)


def test_stated_orientation_matches_the_standard(quadrants, tmp_path):
    """Orientation 6: row 0 of the file is the right-hand side of the scene, column 0 its top."""
    stored = np.asarray(Image.open(save_with_orientation(quadrants, 6, tmp_path / "a.png")))
    assert tuple(stored[0, 0]) == (0, 255, 0)  # right and top: green
    assert tuple(stored[0, -1]) == (255, 255, 255)  # right and bottom: white


def test_damaged_exif_does_not_lose_the_photo(quadrants, tmp_path):
    path = save(quadrants, tmp_path / "a.jpg", exif=b"Exif\x00\x00MM\x00\x2a\xff\xff\xff\xff\x00", quality=95)
    assert load_image(path).shape == quadrants.shape


def test_cmyk_image(quadrants, tmp_path):
    path = save(Image.fromarray(quadrants).convert("CMYK"), tmp_path / "a.jpg", quality=100)
    assert Image.open(path).mode == "CMYK"
    assert np.abs(load_image(path).astype(int) - quadrants).max() < 30  # JPEG noise at the quadrants' borders


def test_16_bit_grey_image_keeps_its_contrast(tmp_path):
    ramp = np.linspace(0, 65535, WIDTH).astype(np.uint16)[None].repeat(HEIGHT, axis=0)
    image = load_image(save(Image.fromarray(ramp), tmp_path / "a.png"))
    np.testing.assert_array_equal(image[..., 1], ramp >> 8)
    np.testing.assert_array_equal(image[..., 0], image[..., 2])


def test_16_bit_rgb_image(tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (HEIGHT, WIDTH, 3)).astype(">u2")
    rows = b"".join(b"\x00" + row.tobytes() for row in values)
    (tmp_path / "a.png").write_bytes(rgb_png(WIDTH, HEIGHT, 16, rows))
    np.testing.assert_array_equal(load_image(str(tmp_path / "a.png")), values >> 8)


def test_floating_point_image_is_refused(tmp_path):
    path = save(Image.fromarray(np.ones((HEIGHT, WIDTH), np.float32)), tmp_path / "a.tif")
    with pytest.raises(InputError, match="display range"):
        load_image(path)


def test_palette_and_grey_and_1_bit_images(quadrants, tmp_path):
    palette = save(Image.fromarray(quadrants).quantize(8), tmp_path / "p.png")
    np.testing.assert_array_equal(load_image(palette), quadrants)
    grey = quadrants[..., 0]
    np.testing.assert_array_equal(load_image(save(grey, tmp_path / "l.png")), grey[..., None].repeat(3, axis=2))
    bits = save(Image.fromarray(grey > 0), tmp_path / "1.png")
    np.testing.assert_array_equal(load_image(bits), grey[..., None].repeat(3, axis=2))


def test_alpha_is_laid_over_white(quadrants, tmp_path):
    alpha = np.zeros((HEIGHT, WIDTH, 1), np.uint8)
    alpha[:, :24] = 255
    image = load_image(save(np.concatenate([quadrants, alpha], axis=2), tmp_path / "a.png"))
    np.testing.assert_array_equal(image[:, :24], quadrants[:, :24])
    assert (image[:, 24:] == 255).all()


def test_transparent_palette_colour_is_laid_over_white(quadrants, tmp_path):
    palette = Image.fromarray(quadrants).quantize(8)
    red = palette.getpixel((0, 0))
    image = load_image(save(palette, tmp_path / "a.png", transparency=red))
    assert (image[:16, :24] == 255).all()
    np.testing.assert_array_equal(image[16:], quadrants[16:])


def test_file_that_is_no_image(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_text("not found")
    with pytest.raises(InputError, match=r"a\.jpg: not an image that can be read; convert"):
        load_image(str(path))


def test_zero_byte_image(tmp_path):
    (tmp_path / "a.jpg").touch()
    with pytest.raises(InputError, match=r"a\.jpg: the file is empty"):
        load_image(str(tmp_path / "a.jpg"))


def test_missing_image(tmp_path):
    with pytest.raises(InputError, match=r"gone\.jpg: cannot be read \(No such file"):
        load_image(str(tmp_path / "gone.jpg"))


@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "tif"])
def test_truncated_image(tmp_path, extension):
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3)).astype(np.uint8)
    path = tmp_path / f"a.{extension}"
    save(noise, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(InputError, match=r"a\.\w+: "):
        load_image(str(path))


@given(height=st.integers(17, 400), share=st.floats(0, 1), mode=st.sampled_from(["RGB", "L", "P", "1", "RGBA", "I;16"]))
def test_a_png_whose_header_promises_more_than_it_holds(tmp_path_factory, height, share, mode):
    """Its data end properly, only too early; decoders leave the rest black."""
    folder = tmp_path_factory.mktemp("png")
    whole = np.random.default_rng(0).integers(1, 255, (height, 40, 4)).astype(np.uint8)
    image = Image.fromarray(whole[..., 0].astype(np.uint16)) if mode == "I;16" else Image.fromarray(whole).convert(mode)
    data = Path(save(image, folder / "a.png")).read_bytes()
    kept = int(share * (height - 1))
    at = data.index(b"IDAT")
    length = int.from_bytes(data[at - 4 : at], "big")
    rows = zlib.decompress(data[at + 4 : at + 4 + length])
    packed = zlib.compress(rows[: len(rows) // height * kept])
    chunk = struct.pack(">I", len(packed)) + b"IDAT" + packed + struct.pack(">I", zlib.crc32(b"IDAT" + packed))
    (folder / "b.png").write_bytes(data[: at - 4] + chunk + data[at + 8 + length :])
    load_image(str(folder / "a.png"))
    with pytest.raises(InputError, match=r"b\.png: the image is truncated or damaged"):
        load_image(str(folder / "b.png"))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "CMYK", "LAB", "P", "I;16"])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_a_tiff_whose_header_promises_more_than_it_holds(tmp_path, mode, compression):
    path = Path(save(Image.new(mode, (40, 30)), tmp_path / "a.tif", compression=compression))
    load_image(str(path))
    data = path.read_bytes()
    # The entry of the tag 257, ImageLength, as one 16-bit or 32-bit number.
    at = next(found for kind in (3, 4) if (found := data.find(struct.pack("<HHI", 257, kind, 1))) >= 0)
    path.write_bytes(data[: at + 8] + struct.pack("<I", 600) + data[at + 12 :])
    with pytest.raises(InputError, match=r"a\.tif: "):
        load_image(str(path))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "LAB", "YCbCr", "I;16", "I"])
@pytest.mark.parametrize("ending", ["png", "tif", "bmp", "gif", "webp", "ppm", "jpg"])
def test_black_pictures_are_whole(tmp_path, mode, ending):
    """What was not written looks like black; what is black was written."""
    image = Image.new(mode, (40, 30))
    try:
        image.save(tmp_path / f"a.{ending}")
    except (OSError, KeyError, ValueError):
        return  # no file of this kind has such pixels
    assert load_image(str(tmp_path / f"a.{ending}")).shape == (30, 40, 3)


@pytest.mark.parametrize("size", [(1, 1), (15, 400)])
def test_1_pixel_image(tmp_path, size):
    path = save(Image.new("RGB", size), tmp_path / "a.png")
    with pytest.raises(InputError, match="at least 16 pixels a side"):
        load_image(path)


@pytest.mark.parametrize("size", [(10_000, 10_000), (20_000, 20_000)])
def test_decompression_bomb(tmp_path, size):
    """100 and 400 million pixels: below and above the size at which Pillow itself refuses."""
    (tmp_path / "a.png").write_bytes(rgb_png(*size, 8, b""))
    with pytest.raises(InputError, match=r"80 million pixels; scale it down"):
        load_image(str(tmp_path / "a.png"))


def test_path_with_spaces_and_unicode(quadrants, tmp_path):
    folder = tmp_path / "mein Ordner 图片"
    folder.mkdir()
    path = save(quadrants, folder / "été ß 1.png")
    np.testing.assert_array_equal(load_image(path), quadrants)


def test_file_uri(quadrants, tmp_path):
    path = save(quadrants, tmp_path / "a b.png")
    np.testing.assert_array_equal(load_image((tmp_path / "a b.png").as_uri()), quadrants)
    with pytest.raises(InputError, match="cannot be read"):
        load_image(f"file://{path}.missing")
    with pytest.raises(InputError, match="cannot be read"):
        load_image("nonsense://bucket/a.png")


def test_s3_uri(quadrants, tmp_path, bucket, s3_server):
    import boto3

    path = save(quadrants, tmp_path / "a.png")
    boto3.client("s3", endpoint_url=s3_server).upload_file(path, bucket.removeprefix("s3://"), "photos/a b.png")
    np.testing.assert_array_equal(load_image(f"{bucket}/photos/a%20b.png"), quadrants)
    with pytest.raises(InputError, match=r"gone\.png: cannot be read"):
        load_image(f"{bucket}/photos/gone.png")


def test_credentials_in_a_uri_are_refused_and_not_repeated():
    with pytest.raises(InputError, match="credentials") as caught:
        load_image("s3://key:secret@bucket/a.png")
    assert "secret" not in str(caught.value)


# --- masks ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def blob():
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[4:14, 6:40] = True
    mask[14:28, 6:12] = True
    return mask


def as_grey(mask, inside=255):
    return mask.astype(np.uint8) * np.uint8(inside)


@pytest.mark.parametrize("inside", [255, 200, 1, 7])
def test_grey_mask(blob, tmp_path, inside):
    np.testing.assert_array_equal(load_mask(save(as_grey(blob, inside), tmp_path / "m.png"), (WIDTH, HEIGHT)), blob)


def test_label_map_counts_every_label(blob, tmp_path):
    labels = as_grey(blob, 1)
    labels[20:28, 20:30] = 5
    np.testing.assert_array_equal(load_mask(save(labels, tmp_path / "m.png"), (WIDTH, HEIGHT)), labels > 0)


def test_soft_mask_is_cut_at_half(blob, tmp_path):
    soft = as_grey(blob)
    soft[0, 0], soft[0, 1] = 100, 150
    mask = load_mask(save(soft, tmp_path / "m.png"), (WIDTH, HEIGHT))
    assert not mask[0, 0]
    assert mask[0, 1]


def test_palette_mask(blob, tmp_path):
    image = Image.fromarray(as_grey(blob, 3), "P")
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 64, 0, 0])  # the first colours of PASCAL VOC
    np.testing.assert_array_equal(load_mask(save(image, tmp_path / "m.png"), (WIDTH, HEIGHT)), blob)


def test_rgba_cut_out_is_a_mask_by_its_alpha(blob, quadrants, tmp_path):
    cut = np.concatenate([quadrants, as_grey(blob)[..., None]], axis=2)
    np.testing.assert_array_equal(load_mask(save(cut, tmp_path / "m.png"), (WIDTH, HEIGHT)), blob)


def test_opaque_rgba_mask_is_read_by_its_colour(blob, tmp_path):
    rgba = np.stack(
        [np.zeros_like(as_grey(blob)), as_grey(blob), np.zeros_like(as_grey(blob)), np.full(blob.shape, 255, np.uint8)], -1
    )
    np.testing.assert_array_equal(load_mask(save(rgba, tmp_path / "m.png"), (WIDTH, HEIGHT)), blob)


def test_16_bit_and_1_bit_masks(blob, tmp_path):
    deep = save(Image.fromarray(blob.astype(np.uint16) * np.uint16(65535)), tmp_path / "m.png")
    np.testing.assert_array_equal(load_mask(deep, (WIDTH, HEIGHT)), blob)
    np.testing.assert_array_equal(load_mask(save(Image.fromarray(blob), tmp_path / "n.png"), (WIDTH, HEIGHT)), blob)


def test_mask_of_another_size(blob, tmp_path):
    path = save(as_grey(blob), tmp_path / "m.png")
    with pytest.raises(InputError, match=r"m\.png: the mask has 48 x 32 pixels, its photo 100 x 100"):
        load_mask(path, (100, 100))


def test_mask_of_another_resolution_is_resized(blob, tmp_path):
    mask = load_mask(save(as_grey(blob), tmp_path / "m.png"), (2 * WIDTH, 2 * HEIGHT))
    np.testing.assert_array_equal(mask, blob.repeat(2, axis=0).repeat(2, axis=1))


def test_empty_mask(blob, tmp_path):
    with pytest.raises(InputError, match=r"m\.png: the mask is empty"):
        load_mask(save(as_grey(blob, 0), tmp_path / "m.png"), (WIDTH, HEIGHT))


@pytest.mark.parametrize("inside", [255, 1])
def test_full_mask(tmp_path, inside):
    full = np.full((HEIGHT, WIDTH), inside, np.uint8)
    with pytest.raises(InputError, match=r"m\.png: the mask covers the whole photo"):
        load_mask(save(full, tmp_path / "m.png"), (WIDTH, HEIGHT))


def test_unreadable_mask(tmp_path):
    (tmp_path / "m.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    with pytest.raises(InputError, match=r"m\.png"):
        load_mask(str(tmp_path / "m.png"), (WIDTH, HEIGHT))


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_mask_of_a_rotated_photo(blob, tmp_path, orientation):
    """Drawn on the upright photo, drawn on the photo as stored, and with an EXIF orientation of its own: always upright."""
    upright = save(as_grey(blob), tmp_path / "upright.png")
    stored = save(stored_as(as_grey(blob), orientation), tmp_path / "stored.png")
    tagged = save_with_orientation(as_grey(blob), orientation, tmp_path / "tagged.png")
    for path in (upright, stored, tagged):
        np.testing.assert_array_equal(load_mask(path, (WIDTH, HEIGHT), orientation), blob)
    with pytest.raises(InputError, match="its photo"):
        load_mask(stored, (WIDTH, HEIGHT))


@given(arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40))))
def test_mask_round_trip(mask):
    data = encode_mask(mask)
    assert data.startswith(b"\x89PNG")
    np.testing.assert_array_equal(decode_mask(data), mask)


def test_bad_stored_mask(blob):
    with pytest.raises(InputError, match="stored mask"):
        decode_mask(b"rubbish")
    with pytest.raises(InputError, match="stored mask"):
        decode_mask(encode_mask(blob)[:-30])
    with pytest.raises(InputError, match="boolean"):
        encode_mask(blob.astype(np.uint8))


# --- letterbox ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "height", "offset"), [(500, 333, (0, 140)), (332, 500, (141, 0)), (64, 64, (0, 0))])
def test_letterbox_places_the_image_as_the_grid_does(width, height, offset):
    """(500, 333) -> 840 x 559 at (0, 140) is the worked pair of the SPair-71k protocol."""
    framed = letterbox(np.full((height, width, 3), 200, np.uint8), 840, fill=7)
    box = Letterbox(width, height)
    assert framed.shape == (840, 840, 3)
    assert box.offset == offset
    inside = np.zeros((840, 840), bool)
    inside[offset[1] : offset[1] + box.resized[1], offset[0] : offset[0] + box.resized[0]] = True
    assert (framed[inside] == 200).all()
    assert (framed[~inside] == 7).all()


def test_letterbox_keeps_points_where_the_grid_says():
    image = np.zeros((300, 450, 3), np.uint8)
    image[195:206, 95:106] = 255
    framed = letterbox(image, 840)
    rows, columns = np.nonzero(framed[..., 0] > 127)
    centre = np.array([columns.mean() + 0.5, rows.mean() + 0.5])
    np.testing.assert_allclose(centre, Letterbox(450, 300).to_square(np.array([[100.5, 200.5]]))[0], atol=0.5)


@pytest.mark.parametrize(("height", "width"), [(30, 60), (61, 20)])
def test_letterbox_can_continue_the_edge(height, width):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    filled, continued = letterbox(image, 96), letterbox(image, 96, "edge")
    box = Letterbox(width, height, 96, 1)
    (w, h), (left, top) = box.resized, box.offset
    inside = (slice(top, top + h), slice(left, left + w))
    np.testing.assert_array_equal(continued[inside], filled[inside])
    rows, columns = np.arange(96).clip(top, top + h - 1), np.arange(96).clip(left, left + w - 1)
    np.testing.assert_array_equal(continued, continued[np.ix_(rows, columns)])

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
from sc3d.images import EXTENSIONS, decode_mask, encode_mask, letterbox, load_image, load_photo, read_orientation
from tests.pictures import HEIC, save, save_with_orientation

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


def rgb_png(width, height, depth, rows):
    """An RGB PNG written by hand (PNG specification, chunks IHDR, IDAT, IEND)."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


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


@given(bits=st.integers(1, 16), seed=st.integers(0, 5))
def test_grey_of_fewer_bits_in_16_is_as_bright_as_its_depth(tmp_path_factory, bits, seed):
    """A camera of 12 bits writes values up to 4095; the picture is as bright as one of 8 bits would be."""
    values = np.random.default_rng(seed).integers(0, 1 << bits, (HEIGHT, WIDTH)).astype(np.uint16)
    values[0, 0] = (1 << bits) - 1
    depth = next(depth for depth in (8, 10, 12, 14, 16) if depth >= bits)
    image = load_image(save(Image.fromarray(values), tmp_path_factory.mktemp("deep") / "a.png"))
    np.testing.assert_array_equal(image[..., 0], values >> (depth - 8))
    assert image.max() >= (63 if bits > 8 else values.max())


@pytest.mark.parametrize(("most", "is_read"), [(1 << 16, True), (1 << 13, True), (1 << 12, False), (1 << 10, False), (1, True)])
def test_16_bit_colours_of_12_bits_are_refused_not_black(tmp_path, most, is_read):
    """Of each of three colours Pillow keeps the upper 8 bits. A picture that is black, and nothing else, stays so."""
    values = np.random.default_rng(0).integers(0, most, (HEIGHT, WIDTH, 3)).astype(">u2")
    (tmp_path / "a.png").write_bytes(rgb_png(WIDTH, HEIGHT, 16, b"".join(b"\x00" + row.tobytes() for row in values)))
    if is_read:
        np.testing.assert_array_equal(load_image(str(tmp_path / "a.png")), values >> 8)
    else:
        with pytest.raises(InputError, match=r"a\.png: its 16-bit colours use less than 13 of their bits"):
            load_image(str(tmp_path / "a.png"))


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


# --- formats ----------------------------------------------------------------------------------------------------------------------


@given(
    seed=st.integers(0, 99),
    ending=st.sampled_from(["png", "bmp", "tif", "tiff", "webp", "gif", "jpg", "jpeg", "jpe", "jfif", "avif"]),
)
def test_every_format_gives_the_pixels_back_within_its_loss(tmp_path_factory, seed, ending):
    """Whatever the name ends in, in large or small letters: what is in a file, its content says."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 6, 3)).astype(np.uint8)
    image = Image.fromarray(small).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    kind = {"jpe": "JPEG", "jfif": "JPEG", "jpg": "JPEG", "tif": "TIFF", "webp": "WEBP"}.get(ending, ending.upper())
    options = {
        "WEBP": {"lossless": True},
        "JPEG": {"quality": 95, "subsampling": 0},
        "AVIF": {"quality": 95, "subsampling": "4:4:4"},
    }
    path = tmp_path_factory.mktemp("formats") / f"a.{ending.upper() if seed % 2 else ending}"
    save(image, path, format=kind, **options.get(kind, {}))
    assert path.suffix.lower() in EXTENSIONS
    worst = {"JPEG": 20, "AVIF": 20, "GIF": 90}.get(kind, 0)
    away = np.abs(load_image(str(path)).astype(int) - np.asarray(image))
    assert away.max() <= worst
    assert away.mean() <= worst / 8


@pytest.mark.parametrize("name", ["upright", "turned"])
def test_heic_comes_back_upright(name):
    image = load_image(str(HEIC / f"{name}.heic")).astype(int)
    assert image.shape == (64, 96, 3)
    for rows, columns, colour in [(0, 0, (255, 0, 0)), (0, 1, (0, 255, 0)), (1, 0, (0, 0, 255)), (1, 1, (255, 255, 255))]:
        quarter = image[32 * rows + 4 : 32 * rows + 28, 48 * columns + 4 : 48 * columns + 44]
        assert np.abs(quarter - colour).max() < 12
    assert read_orientation(str(HEIC / f"{name}.heic")) == 1


def test_heic_that_claims_to_be_larger_or_is_cut_short(tmp_path):
    data = (HEIC / "upright.heic").read_bytes()
    at = data.index(b"ispe") + 8
    (tmp_path / "bomb.heic").write_bytes(data[:at] + struct.pack(">II", 20_000, 20_000) + data[at + 8 :])
    with pytest.raises(InputError, match=r"bomb\.heic: .*80 million pixels"):
        load_image(str(tmp_path / "bomb.heic"))
    (tmp_path / "larger.heic").write_bytes(data[:at] + struct.pack(">II", 200, 150) + data[at + 8 :])
    with pytest.raises(InputError, match=r"larger\.heic: "):
        load_image(str(tmp_path / "larger.heic"))
    for length in range(12, len(data) - 1, 31):
        (tmp_path / "cut.heic").write_bytes(data[:length])
        with pytest.raises(InputError, match=r"cut\.heic: "):
            load_image(str(tmp_path / "cut.heic"))


def test_avif_that_claims_to_be_larger_or_is_cut_short(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3)).astype(np.uint8)
    data = Path(save(noise, tmp_path / "a.avif")).read_bytes()
    at = data.index(b"ispe") + 8
    for size in ((20_000, 20_000), (60_000, 60_000), (2**31, 2**31)):
        (tmp_path / "bomb.avif").write_bytes(data[:at] + struct.pack(">II", *size) + data[at + 8 :])
        with pytest.raises(InputError, match=r"bomb\.avif: "):
            load_image(str(tmp_path / "bomb.avif"))
    for length in range(12, len(data) - 1, 97):
        (tmp_path / "cut.avif").write_bytes(data[:length])
        with pytest.raises(InputError, match=r"cut\.avif: "):
            load_image(str(tmp_path / "cut.avif"))


@pytest.mark.parametrize("kind", ["gif", "webp", "avif"])
def test_of_several_frames_the_first_counts(tmp_path, quadrants, kind):
    frames = [Image.fromarray(pixels) for pixels in (quadrants, 255 - quadrants, quadrants[::-1])]
    path = save(
        frames[0], tmp_path / f"a.{kind}", save_all=True, append_images=frames[1:], **({} if kind == "gif" else {"quality": 95})
    )
    image = load_image(path).astype(int)
    assert np.abs(image[4:12, 4:20] - quadrants[4:12, 4:20]).max() < 20


@pytest.mark.parametrize("share", [0.001, 0.3, 0.99])
def test_a_cut_out_photo_brings_its_mask(tmp_path, quadrants, share):
    """Not a picture with rounded corners, nor one with a stray opaque pixel."""
    opaque = np.zeros((HEIGHT, WIDTH), bool)
    opaque.flat[: max(1, round(share * opaque.size))] = True
    cut = np.concatenate([quadrants, opaque[..., None].astype(np.uint8) * 255], axis=2)
    image, mask = load_photo(save(cut, tmp_path / "a.png"))
    np.testing.assert_array_equal(image[opaque], quadrants[opaque])
    if share == 0.3:
        np.testing.assert_array_equal(mask, opaque)
    else:
        assert mask is None
    assert load_photo(save(quadrants, tmp_path / "b.png"))[1] is None


def test_a_cut_out_in_heic():
    mask = load_photo(str(HEIC / "cut_out.heic"))[1]
    expected = np.zeros((64, 96), bool)
    expected[10:50, 20:70] = True
    np.testing.assert_array_equal(mask, expected)


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


# --- stored masks ---------------------------------------------------------------------------------------------------------------


@given(arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40))))
def test_mask_round_trip(mask):
    data = encode_mask(mask)
    assert data.startswith(b"\x89PNG")
    np.testing.assert_array_equal(decode_mask(data), mask)


def test_bad_stored_mask():
    blob = np.zeros((HEIGHT, WIDTH), bool)
    blob[4:14, 6:40] = True
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

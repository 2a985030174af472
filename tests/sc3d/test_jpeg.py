"""A JPEG is a whole picture or it is refused, wherever it ends and whatever its header says."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sc3d.errors import InputError
from sc3d.images import load_image
from sc3d.jpeg import JpegError, check_jpeg

EOI = b"\xff\xd9"


def encoded(width: int, height: int, seed: int = 0, mode: str = "RGB", plain: bool = False, **options: Any) -> bytes:
    rng = np.random.default_rng(seed)
    sides = (1, 1) if plain else (height // 6 + 1, width // 6 + 1)
    coarse = Image.fromarray(rng.integers(0, 256, (*sides, 3)).astype(np.uint8))
    stream = io.BytesIO()
    coarse.resize((width, height), Image.Resampling.BICUBIC).convert(mode).save(stream, "JPEG", **options)
    return stream.getvalue()


@st.composite
def pictures(draw: st.DrawFn) -> tuple[bytes, tuple[int, int]]:
    """A JPEG of any size and kind that Pillow writes, and its size."""
    mode = draw(st.sampled_from(("RGB", "L", "CMYK")))
    options: dict[str, Any] = {
        "quality": draw(st.integers(1, 100)),
        "progressive": draw(st.booleans()),
        "optimize": draw(st.booleans()),
    }
    if mode == "RGB":
        options["subsampling"] = draw(st.sampled_from((0, 1, 2)))
    if draw(st.booleans()):
        options["restart_marker_blocks"] = draw(st.integers(1, 30))
    size = draw(st.integers(16, 150)), draw(st.integers(16, 150))
    return encoded(*size, draw(st.integers(0, 1000)), mode, draw(st.booleans()), **options), size


def with_size(data: bytes, width: int, height: int) -> bytes:
    """The same data under a header that states another size."""
    # By its segments: the bytes of a marker may also be values of a table.
    at = 2
    while data[at + 1] not in (0xC0, 0xC2):
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]


def loaded(data: bytes, folder: Path) -> np.ndarray:
    (folder / "a.jpg").write_bytes(data)
    return load_image(str(folder / "a.jpg"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("jpeg")


@given(picture=pictures())
@settings(max_examples=150)
def test_whole_pictures_are_whole(picture: tuple[bytes, tuple[int, int]]) -> None:
    check_jpeg(picture[0])
    # What follows the end, as a second picture or a film does, is nobody's business; some encoders also leave bytes before it.
    check_jpeg(picture[0] + bytes(1000))
    check_jpeg(picture[0].removesuffix(EOI) + bytes(20) + EOI)


@given(picture=pictures(), share=st.floats(0, 1), closed=st.booleans())
@settings(max_examples=150)
def test_a_picture_that_is_cut_short_is_refused(
    folder: Path, picture: tuple[bytes, tuple[int, int]], share: float, closed: bool
) -> None:
    """Also where it was closed again, which decoders take for an end."""
    data, _ = picture
    cut = data[: int(share * (len(data) - len(EOI)))] + (EOI if closed else b"")
    try:
        image = loaded(cut, folder)
    except InputError:
        return
    # Of the last bits, some may be no more than filling.
    np.testing.assert_array_equal(image, loaded(data, folder))


@given(picture=pictures(), width=st.integers(16, 400), height=st.integers(16, 400))
@settings(max_examples=150)
def test_a_header_that_promises_more_than_there_is_is_refused(
    folder: Path, picture: tuple[bytes, tuple[int, int]], width: int, height: int
) -> None:
    """More blocks than there are, of any picture. Up to seven may hide in the bits that fill the last byte."""
    data, size = picture
    lie = max(width, size[0]), max(height, size[1])
    there, promised = (-(-one[0] // 32) * -(-one[1] // 32) for one in (size, lie))
    if promised - there <= 7:
        return
    with pytest.raises(InputError, match=r"less than its header promises|of .* parts, its header promises"):
        loaded(with_size(data, *lie), folder)


def test_a_header_that_promises_less_than_there_is_is_refused() -> None:
    data = encoded(100, 100, quality=95)
    for size in ((100, 60), (60, 100), (16, 16)):
        with pytest.raises(JpegError, match="more than its header promises"):
            check_jpeg(with_size(data, *size))


def test_a_progressive_picture_without_its_last_scans_is_refused(folder: Path) -> None:
    """It would be a blurred one."""
    data = encoded(100, 80, progressive=True)
    starts = [i for i in range(len(data) - 1) if data[i : i + 2] == b"\xff\xda"]
    tables = [data.rindex(b"\xff\xc4", 0, start) for start in starts[1:]]
    for end in (*starts[1:], *tables):
        cut = data[:end] + EOI
        assert Image.open(io.BytesIO(cut)).size == (100, 80)
        with pytest.raises(InputError, match="scans are missing"):
            loaded(cut, folder)


def test_a_picture_of_a_thousand_scans_is_refused_before_it_is_decoded(folder: Path) -> None:
    """A few bytes a scan, each of which takes a pass over all pixels."""
    data = encoded(64, 64, progressive=True)
    last = data[data.rindex(b"\xff\xda") : -len(EOI)]
    with pytest.raises(InputError, match="more than 100 scans"):
        loaded(data[: -len(EOI)] + last * 1000 + EOI, folder)


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_in_one_way(data: bytes) -> None:
    with pytest.raises(JpegError):
        check_jpeg(b"\xff\xd8" + data)


@given(picture=pictures(), at=st.floats(0, 1), new=st.binary(min_size=1, max_size=3))
@settings(max_examples=150)
def test_a_changed_byte_is_an_error_or_none(picture: tuple[bytes, tuple[int, int]], at: float, new: bytes) -> None:
    data, _ = picture
    place = int(at * (len(data) - 1))
    try:
        check_jpeg(data[:place] + new + data[place + 1 :])
    except JpegError:
        return


def test_published_photos_are_whole(shared: Path) -> None:
    photos = sorted(shared.rglob("*.jpg"))
    assert photos
    for path in photos:
        check_jpeg(path.read_bytes())

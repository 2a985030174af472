"""Reading masks: what is inside, of every kind of file, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from sc3d.errors import InputError
from sc3d.mask_files import load_mask, without_specks
from tests.pictures import save, save_with_orientation, stored_as

WIDTH, HEIGHT = 48, 32


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


def test_rgba_cut_out_is_a_mask_by_its_alpha(blob, tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (*blob.shape, 3)).astype(np.uint8)
    cut = np.concatenate([colours, as_grey(blob)[..., None]], axis=2)
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


# --- maps of labels ---------------------------------------------------------------------------------------------------------------


def scene(object_id: int, void: int = 0, width: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A map (90, 120) of two objects of one id with a border of ``void`` around them, the objects, and the borders."""
    y, x = np.mgrid[:90, :120]
    distance = np.minimum(np.hypot(x - 35, y - 45) - 20, np.hypot(x - 85, y - 40) - 18)
    objects, border = distance <= 0, (distance > 0) & (distance <= width)
    return np.where(objects, object_id, np.where(border, void, 0)), objects, border


@pytest.mark.parametrize("object_id", [1, 7, 20, 31, 32, 90, 150, 254])
@pytest.mark.parametrize("width", [2, 3, 5])
def test_void_around_a_label_is_not_the_object(tmp_path, object_id, width):
    labels, objects, _ = scene(object_id, 255, width)
    np.testing.assert_array_equal(load_mask(save(labels.astype(np.uint8), tmp_path / "m.png"), (120, 90)), objects)


@given(ids=st.lists(st.integers(1, 65_535), min_size=2, max_size=2, unique=True))
def test_every_label_of_a_map_counts(tmp_path_factory, ids):
    """Whatever ids the two objects have, in as many bits as they need."""
    labels, objects, _ = scene(ids[0])
    labels[:, 60:][objects[:, 60:]] = ids[1]
    kind = np.uint8 if max(ids) < 256 else np.uint16
    path = save(Image.fromarray(labels.astype(kind)), tmp_path_factory.mktemp("map") / "m.png")
    low, high = sorted(ids)
    # Beside ids of classes, the largest number is void.
    expected = labels == low if high in (255, 65_535) and low < 32 else objects
    np.testing.assert_array_equal(load_mask(path, (120, 90)), expected)


def test_a_trimap_s_unsure_border_does_not_replace_the_object(tmp_path):
    labels, objects, border = scene(255, 128, 4)
    np.testing.assert_array_equal(load_mask(save(labels.astype(np.uint8), tmp_path / "m.png"), (120, 90)), objects | border)


@pytest.mark.parametrize(("dark", "bright"), [(3, 250), (0, 33), (40, 60), (200, 255), (1, 255)])
def test_of_two_values_the_brighter_one_is_the_object(tmp_path, dark, bright):
    _, objects, _ = scene(1)
    values = np.where(objects, bright, dark).astype(np.uint8)
    np.testing.assert_array_equal(load_mask(save(values, tmp_path / "m.png"), (120, 90)), objects)


def test_void_in_the_palette_of_voc(tmp_path):
    labels, objects, _ = scene(15, 255)
    image = Image.fromarray(labels.astype(np.uint8), "P")
    colours = np.zeros((256, 3), np.uint8)
    colours[15], colours[255] = (192, 128, 128), (224, 224, 192)
    image.putpalette(colours.ravel().tolist())
    np.testing.assert_array_equal(load_mask(save(image, tmp_path / "m.png"), (120, 90)), objects)


def test_what_may_be_object_or_void_is_refused(tmp_path):
    labels, _, _ = scene(255)
    labels[80:84, 5:9] = 3
    with pytest.raises(InputError, match=r"m\.png: its pixels of 255 may be the object, or a border"):
        load_mask(save(labels.astype(np.uint8), tmp_path / "m.png"), (120, 90))


@given(scale=st.floats(0.3, 4), kind=st.sampled_from([Image.Resampling.BILINEAR, Image.Resampling.BOX, Image.Resampling.LANCZOS]))
def test_smooth_edges_are_no_labels(tmp_path_factory, scale, kind):
    _, objects, _ = scene(1)
    size = round(120 * scale), round(90 * scale)
    image = Image.fromarray(objects.astype(np.uint8) * 255).resize(size, kind)
    mask = load_mask(save(image, tmp_path_factory.mktemp("soft") / "m.png"), size)
    np.testing.assert_array_equal(mask, np.asarray(image) > 127)


@pytest.mark.parametrize("ending", ["jpg", "webp", "avif"])
@pytest.mark.parametrize("quality", [20, 50, 90])
@pytest.mark.parametrize("again", [False, True])
def test_noise_of_lossy_formats_is_no_label(tmp_path, ending, quality, again):
    """Nor after the picture was saved as PNG."""
    _, objects, _ = scene(1)
    path = save(objects.astype(np.uint8) * 255, tmp_path / f"m.{ending}", quality=quality)
    path = save(Image.open(path), tmp_path / "n.png") if again else path
    mask = load_mask(path, (120, 90))
    assert (mask != objects).mean() < 0.02


@pytest.mark.parametrize("ending", ["png", "npy"])
def test_an_inverted_mask_is_refused(tmp_path, ending):
    _, objects, _ = scene(1)
    if ending == "png":
        path = save((~objects).astype(np.uint8) * 255, tmp_path / "m.png")
    else:
        np.save(tmp_path / "m.npy", ~objects)
        path = str(tmp_path / "m.npy")
    with pytest.raises(InputError, match=r"covers 100 % of the photo's border .* invert it"):
        load_mask(path, (120, 90))


def test_an_object_that_leaves_the_photo_on_three_sides_is_read(tmp_path):
    mask = np.zeros((90, 120), np.uint8)
    mask[20:, :] = 255
    assert load_mask(save(mask, tmp_path / "m.png"), (120, 90)).mean() > 0.7


# --- NumPy arrays -----------------------------------------------------------------------------------------------------------------


@given(
    mask=arrays(bool, st.tuples(st.integers(8, 30), st.integers(8, 30))),
    kind=st.sampled_from(["?", "u1", "i2", ">u4", "i8", "f2", "<f8"]),
    fortran=st.booleans(),
    shape=st.sampled_from(["hw", "1hw", "hw1"]),
)
def test_a_numpy_array_of_any_type_is_the_mask(tmp_path_factory, mask, kind, fortran, shape):
    mask[0, 0], mask[1, 1] = False, True
    values = np.asarray(mask.astype(kind), order="F" if fortran else "C")
    values = values[None] if shape == "1hw" else values[..., None] if shape == "hw1" else values
    path = tmp_path_factory.mktemp("npy") / "m.npy"
    np.save(path, values)
    np.testing.assert_array_equal(load_mask(str(path), (mask.shape[1], mask.shape[0])), mask)


def test_a_soft_numpy_mask_is_cut_at_half_of_its_largest_value(tmp_path, blob):
    np.save(tmp_path / "m.npy", np.where(blob, 0.9, 0.2).astype(np.float32))
    np.testing.assert_array_equal(load_mask(str(tmp_path / "m.npy"), (WIDTH, HEIGHT)), blob)


def test_negative_ids_are_no_labels(tmp_path, blob):
    np.save(tmp_path / "m.npy", np.where(blob, 70_000, -1))
    np.testing.assert_array_equal(load_mask(str(tmp_path / "m.npy"), (WIDTH, HEIGHT)), blob)


def npy(shape: str, dtype: str = "|u1", data: bytes = b"") -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (npy("(100000, 100000)"), "million pixels"),
        (npy("(8000, 8000)"), "its 0 bytes are not the 64,000,000 of its header"),
        (npy("(32, 48)", "|O", b"x" * 1536), "one channel"),
        (npy("(32, 48)", "<U4", b"x" * 1536 * 16), "one channel"),
        (npy("(32, 48, 3)", data=b"x" * 1536 * 3), "one channel"),
        (npy("(0, 48)"), "one channel"),
        (npy("(32, -48)"), "one channel"),
        (npy("(True, True)", data=b"x"), "one channel"),
        (npy("x" * 40), "no NumPy array"),
        (b"\x93NUMPY", "no NumPy array"),
        (npy("(32, 48)", "<f4", np.full((32, 48), np.nan, np.float32).tobytes()), "that are none"),
        (npy("(32, 48)", "<f4", np.full((32, 48), -3, np.float32).tobytes()), "below 0"),
    ],
)
def test_arrays_that_are_no_mask(tmp_path, data, reason):
    (tmp_path / "m.npy").write_bytes(data)
    with pytest.raises(InputError, match=reason):
        load_mask(str(tmp_path / "m.npy"), (WIDTH, HEIGHT))


def test_nothing_is_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self):
            return Path.touch, (tmp_path / "exploded",)

    np.save(tmp_path / "m.npy", np.array([[Bomb()]], object), allow_pickle=True)
    with pytest.raises(InputError, match="one channel"):
        load_mask(str(tmp_path / "m.npy"), (WIDTH, HEIGHT))
    assert not (tmp_path / "exploded").exists()


# --- pieces -----------------------------------------------------------------------------------------------------------------------


@given(specks=st.lists(st.tuples(st.integers(0, 86), st.integers(0, 116), st.integers(1, 3)), max_size=10))
def test_stray_pixels_do_not_widen_the_object(specks):
    """They are taken out; where they touch the object, its box grows by their own size at most."""
    _, objects, _ = scene(1)
    spotted = objects.copy()
    for y, x, side in specks:
        spotted[y : y + side, x : x + side] = True
    clean = without_specks(spotted)
    assert (clean[objects]).all()
    assert not (clean & ~spotted).any()
    for axis in (0, 1):
        have, want = np.flatnonzero(clean.any(axis=axis)), np.flatnonzero(objects.any(axis=axis))
        # Ten specks of three pixels can at most form one chain.
        assert want[0] - 30 <= have[0]
        assert have[-1] <= want[-1] + 30


def test_both_halves_of_an_object_behind_a_pole_stay():
    _, objects, _ = scene(1)
    objects[:, 30:34] = False
    np.testing.assert_array_equal(without_specks(objects), objects)

"""Hand-made dense descriptors: where they lie, what they are invariant to, and that they tell places apart."""

import numpy as np
import pytest
from skimage.data import astronaut
from skimage.feature import daisy

from actors.base import check_actors
from actors.offline.dense import DaisySource, HogSource
from actors.offline.descriptors import WINDOWS, Rings, daisy_descriptor, hog_layers
from sc3d.config import RunConfig
from sc3d.grid import Letterbox

SIDES = {"sd.s3": 60, "sd.s4": 30, "sd.s5": 15}


@pytest.fixture(scope="module")
def photo():
    return np.ascontiguousarray(astronaut()[:, 40:420])  # (512, 380, 3): borders left and right


def layers(image, name=None):
    if name is not None:
        return daisy_descriptor(image) if name == "dino" else hog_layers(image, {name: WINDOWS[name]})[name]
    return {"dino": daisy_descriptor(image), **hog_layers(image)}


def unit(features):
    flat = features.reshape(len(features), -1).T
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9)


def columns_of_the_photo(image, side):
    inside = Letterbox(image.shape[1], image.shape[0]).sample_mask(np.ones(image.shape[:2], bool))
    step = 60 // side
    return inside[step // 2 :: step, step // 2 :: step].ravel()


def test_shapes_and_values(photo):
    described = layers(photo)
    assert {name: f.shape[1:] for name, f in described.items()} == {"dino": (60, 60), **{n: (s, s) for n, s in SIDES.items()}}
    for features in described.values():
        assert features.dtype == np.float32
        assert len(features) < 1000
        assert np.isfinite(features).all()
        assert np.abs(features).max() < 10


def test_deterministic(photo):
    first, second = layers(photo), layers(photo)
    for name, features in first.items():
        np.testing.assert_array_equal(features, second[name])


@pytest.mark.parametrize("name", ["dino", *SIDES])
def test_a_shifted_image_has_shifted_descriptors(name):
    """A shift by four cells of the working frame, which is a whole number of cells of every layer, moves descriptors by as many cells."""
    image = astronaut()[:480, :480]
    shifted = np.roll(image, (32, 32), axis=(0, 1))  # 480 px / 60 cells = 8 px a cell
    features, moved = (layers(i, name) for i in (image, shifted))
    cells = 4 * features.shape[1] // 60
    margin = features.shape[1] // 4
    middle = slice(margin, features.shape[1] - margin - cells)
    later = slice(middle.start + cells, middle.stop + cells)
    similarity = (unit(features[:, middle, middle]) * unit(moved[:, later, later])).sum(axis=1)
    assert np.median(similarity) > 0.9


@pytest.mark.parametrize("name", ["dino", "sd.s3", "sd.s4"])
def test_descriptors_find_their_place_in_a_darker_and_resized_copy(photo, name):
    """Nearest neighbours in a copy at 70 % of the brightness and half of the size land within a tenth of the photo."""
    copy = (photo[::2, ::2] * 0.7).astype(np.uint8)
    side = SIDES.get(name, 60)
    inside = columns_of_the_photo(photo, side)
    nearest = np.argmax(unit(layers(photo, name))[inside] @ unit(layers(copy, name)).T, axis=1)
    own = np.flatnonzero(inside)
    distance = np.hypot(nearest % side - own % side, nearest // side - own // side)
    assert (distance < side / 10).mean() > 0.9


@pytest.mark.parametrize("name", ["dino", *SIDES])
def test_cosines_tell_places_apart(photo, name):
    """Far places must not look alike: histograms that keep their mean have cosines close to one everywhere."""
    side = SIDES.get(name, 60)
    flat = unit(layers(photo, name))[columns_of_the_photo(photo, side)]
    assert np.median(flat @ flat.T) < 0.7


def test_mirroring_is_seen(photo):
    """DAISY's gradients are signed and placed: a mirrored photo is another one, or nothing could learn which way an object faces."""
    features, mirrored = daisy_descriptor(photo), daisy_descriptor(photo[:, ::-1])
    same_place = (unit(features) * unit(mirrored[:, :, ::-1])).sum(axis=1)
    assert np.median(same_place[columns_of_the_photo(photo, 60)]) < 0.7


def test_daisy_is_sampled_at_cell_centres():
    """Parity with scikit-image's dense DAISY at every pixel, read at the cells' central pixels."""
    image = np.ascontiguousarray(astronaut()[:180, :180])
    ring = Rings(3, 9)
    grey = np.pad(np.sqrt(np.round(image @ (0.299, 0.587, 0.114)) / 255), 9, mode="edge")
    dense = daisy(grey, step=1, radius=9, rings=2, histograms=8, orientations=8, normalization="l1")[1::3, 1::3]
    expected = np.sqrt(dense) - np.sqrt(dense).mean(axis=-1, keepdims=True)
    expected /= np.linalg.norm(expected, axis=-1, keepdims=True)
    got = daisy_descriptor(image, (ring,)).transpose(1, 2, 0)
    assert ((got * expected).sum(axis=-1)).min() > 0.99


def test_uniform_image_gives_finite_descriptors():
    for features in layers(np.full((50, 90, 3), 128, np.uint8)).values():
        assert np.isfinite(features).all()


def test_extreme_shapes():
    for size in ((16, 400), (400, 16), (16, 16)):
        image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
        assert {n: f.shape[1:] for n, f in layers(image).items()} == {"dino": (60, 60), **{n: (s, s) for n, s in SIDES.items()}}


def test_weights_scale_their_part_only(photo):
    double = daisy_descriptor(photo, (Rings(1, 9), Rings(1, 15, weight=2.0)))
    plain = daisy_descriptor(photo, (Rings(1, 9), Rings(1, 15)))
    half = len(plain) // 2
    np.testing.assert_allclose(double[:half], plain[:half])
    np.testing.assert_allclose(double[half:], 2 * plain[half:])


def test_actors_provide_half_precision(photo):
    check_actors([DaisySource, HogSource], ["image"])
    dino = DaisySource(RunConfig()).process({"image": photo})["dino"]
    sd = HogSource(RunConfig()).process({"image": photo})["sd"]
    assert dino.dtype == np.float16
    assert {name: (f.dtype, f.shape[1:]) for name, f in sd.items()} == {n: (np.float16, (s, s)) for n, s in SIDES.items()}
    np.testing.assert_allclose(dino, daisy_descriptor(photo), atol=2e-3)


def test_their_parameters_are_in_the_code_so_recipes_hold_a_version_alone():
    for source in (DaisySource, HogSource):
        assert source.made_of(RunConfig()) == {"version": source.version, "options": {}, "weights": {}}
    assert DaisySource.version != HogSource.version

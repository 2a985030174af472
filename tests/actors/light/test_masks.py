"""Masks where the network sees an object: what activations add to GrabCut, and what comes before them."""

import numpy as np
import pytest
from PIL import Image
from skimage.data import chelsea

from actors.base import check_actors, run_actors
from actors.light.activation import activation_map
from actors.light.masks import ActivationMask
from actors.light.network import Lite0
from actors.offline.load import LoadImage
from actors.offline.masks import grabcut_mask
from sc3d.config import RunConfig
from sc3d.config_file import load_config
from sc3d.errors import InputError


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def scene():
    """A cat's face low at the right, on noise, beside a disc of one loud colour; returns also the face's mask."""
    rng = np.random.default_rng(0)
    image = rng.normal(120, 25, (360, 480, 3))
    rows, columns = np.mgrid[:360, :480]
    face = ((columns - 370) / 95) ** 2 + ((rows - 230) / 110) ** 2 <= 1
    cat = chelsea()[20:240, 130:320]
    placed = np.zeros((360, 480, 3))
    placed[120:340, 275:465] = cat
    image[face] = placed[face]
    image[(columns - 150) ** 2 + (rows - 150) ** 2 <= 60**2] = (230, 20, 220)
    return image.clip(0, 255).astype(np.uint8), face


def test_the_map_lies_on_what_is_recognised():
    image, face = scene()
    found = activation_map(Lite0.from_package(), image)
    assert found.shape == face.shape
    assert 0 <= found.min() <= found.max() <= 1.001
    assert found[face].mean() > 2 * found[~face].mean()


def test_the_shift_of_the_network_s_padding_is_undone():
    """The map of a mirror image is the mirror image of the map: left alone, the two would be 31 pixels of the frame apart."""
    network, cat = Lite0.from_package(), np.ascontiguousarray(chelsea()[:, :440])
    one = activation_map(network, cat)
    other = activation_map(network, np.ascontiguousarray(cat[:, ::-1]))[:, ::-1]
    centres = [np.average(np.arange(440), weights=(m**4).sum(axis=0)) for m in (one, other)]
    assert abs(centres[0] - centres[1]) < 12


def test_salience_decides_between_two_objects():
    rows, columns = np.mgrid[:360, :480]
    image = np.random.default_rng(1).normal(120, 15, (360, 480, 3))
    large, small = (((columns - x) ** 2 + (rows - y) ** 2 <= r**2) for x, y, r in ((150, 160, 75), (370, 230, 60)))
    image[large], image[small] = (200, 30, 30), (30, 190, 30)
    image = image.clip(0, 255).astype(np.uint8)
    assert iou(grabcut_mask(image), large) > 0.9
    salience = np.exp(-((columns - 370.0) ** 2 + (rows - 230.0) ** 2) / 60**2).astype(np.float32)
    assert iou(grabcut_mask(image, None, salience), small) > 0.9


def test_salience_that_is_zero_everywhere_finds_nothing():
    image, _ = scene()
    with pytest.raises(InputError, match="GrabCut found"):
        grabcut_mask(image, None, np.zeros(image.shape[:2], np.float32))


@pytest.mark.parametrize("value", ["file_or_activation", "activation"])
def test_a_file_comes_first_unless_told_otherwise_and_a_box_before_activations(tmp_path, value):
    image, face = scene()
    Image.fromarray(image).save(tmp_path / "a.png")
    drawn = np.zeros(face.shape, bool)
    drawn[:30, :40] = True
    Image.fromarray(drawn.astype(np.uint8) * 255).save(tmp_path / "m.png")
    config: RunConfig = load_config(overrides=[f"reconstruct.mask={value}"])
    check_actors([LoadImage, ActivationMask], ["image_id", "path", "category", "mask_path", "bbox"])
    base = {"image_id": "a", "path": str(tmp_path / "a.png"), "category": "cat", "mask_path": None, "bbox": None}
    rows = [base, {**base, "mask_path": str(tmp_path / "m.png")}, {**base, "bbox": np.array([85, 85, 215, 215], np.float32)}]
    found, file, box = (
        o.row["mask"] for o in run_actors([LoadImage(config), ActivationMask(config)], rows, "image_id", "reconstruct")
    )
    assert iou(found, face) > 0.6
    assert iou(file, drawn if value == "file_or_activation" else face) > 0.6
    assert box[150, 150]
    assert not (box & face).any()

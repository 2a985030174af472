"""Lite0 in the slots: shapes, weights, one pass for both, what a change of the frame does, and that it tells places apart."""

import numpy as np
import pytest
import torch
from skimage.data import chelsea

from actors.base import check_actors
from actors.light.dense import Lite0Dino, Lite0Sd, Lite0Source
from actors.light.network import Lite0
from actors.registry import actors_of
from pipelines.stages.describe import DescribeStage
from sc3d.config import MatchConfig, RunConfig
from sc3d.config_file import load_config
from sc3d.features import Features
from sc3d.grid import Letterbox
from sc3d.matching.fusion import fuse, group_descriptors, group_weights


@pytest.fixture(scope="module")
def photo():
    return np.ascontiguousarray(chelsea()[:, 40:340])  # (300, 300, 3)


@pytest.fixture(scope="module")
def described(photo):
    return Lite0Source(RunConfig()).process({"image": photo})


def test_layers_are_small_centred_and_weighed(described):
    layers = {"dino": described["dino"], **described["sd"]}
    assert {name: layer.shape for name, layer in layers.items()} == {
        "dino": (192, 15, 15),
        "sd.b07": (80, 30, 30),
        "sd.b10": (112, 30, 30),
    }
    assert sum(layer.nbytes for layer in layers.values()) == 432_000
    assert {layer.dtype for layer in layers.values()} == {np.dtype(np.float16)}
    for name, squared in (("dino", 1), ("sd.b07", 0.5), ("sd.b10", 1)):
        np.testing.assert_allclose((layers[name].astype(np.float32) ** 2).sum(axis=0), squared, atol=5e-3)


def test_with_the_default_weights_the_layers_count_half_one_and_one(described):
    cells = np.array([5 * 60 + 7, 30 * 60 + 31, 50 * 60 + 20])
    features = Features("a", Letterbox(300, 300), np.ones((60, 60), bool), 300.0, {"dino": described["dino"], **described["sd"]})
    weights = group_weights(MatchConfig())
    fused = fuse(group_descriptors(features, cells), {"sd": weights["sd"], "dino": weights["dino"]})
    parts = fused.split([80, 112, 192], dim=1)
    shares = torch.stack([(part**2).sum(dim=1) for part in parts], dim=1)
    # Interpolating between cells shortens a layer a little.
    np.testing.assert_allclose(shares.numpy(), np.tile([[0.2, 0.4, 0.4]], (3, 1)), atol=0.03)


def test_both_slots_take_one_pass_and_a_slot_alone_the_same_values(described, photo, monkeypatch):
    assert DescribeStage(RunConfig()).actors().count(Lite0Source) == 1
    assert not {Lite0Dino, Lite0Sd} & set(DescribeStage(RunConfig()).actors())
    slots = ("load", "describe.dino", "describe.sd")
    for overrides, expected, name in (
        (["describe.sd=hog"], Lite0Dino, "dino"),
        (["describe.dino=daisy"], Lite0Sd, "sd"),
    ):
        config = load_config(overrides=overrides)
        actors = actors_of(config, slots)
        check_actors(actors, ["path"])
        assert expected in actors
        assert len(actors) == 3
        alone = expected(config).process({"image": photo})
        assert list(alone) == [name]
        for layer in alone[name] if name == "sd" else [...]:
            np.testing.assert_array_equal(alone[name][layer], described[name][layer])
    passes = []
    blocks = Lite0.blocks
    monkeypatch.setattr(Lite0, "blocks", lambda self, *arguments: passes.append(1) or blocks(self, *arguments))
    (_, *both) = actors_of(RunConfig(), slots)
    for actor in both:
        actor(RunConfig()).process({"image": photo})
    assert len(passes) == 1


def test_an_even_image_and_extreme_shapes_have_finite_features():
    actor = Lite0Source(RunConfig())
    for height, width in ((64, 64), (7, 500), (2000, 16)):
        found = actor.process({"image": np.full((height, width, 3), 90, np.uint8)})
        assert all(np.isfinite(layer).all() for layer in (found["dino"], *found["sd"].values()))


def test_a_place_is_found_again_when_the_object_moves():
    """A cat's cells, moved by 4 of the 60 cells, are nearest to where they went."""
    scene = np.full((480, 480, 3), 127, np.uint8)
    cat = np.ascontiguousarray(chelsea()[:288, 96:384])
    first, second = scene.copy(), scene.copy()
    first[80:368, 80:368], second[112:400, 112:400] = cat, cat
    actor = Lite0Source(RunConfig())
    cells = [row * 60 + column for row in range(16, 40, 4) for column in range(16, 40, 4)]
    fused = []
    for image, wanted in ((first, np.array(cells)), (second, np.arange(3600))):
        found = actor.process({"image": image})
        features = Features("a", Letterbox(480, 480), np.ones((60, 60), bool), 288.0, {"dino": found["dino"], **found["sd"]})
        fused.append(fuse(group_descriptors(features, wanted), {"sd": 0.6, "dino": 0.4}))
    nearest = (fused[0] @ fused[1].T).argmax(dim=1).numpy()
    rows, columns = np.divmod(nearest, 60)
    moved = np.hypot(rows - np.array(cells) // 60 - 4, columns - np.array(cells) % 60 - 4)
    assert (moved <= 3).mean() > 0.9

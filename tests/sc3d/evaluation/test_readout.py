"""Descriptors of all cells: the same cosines as those of maps that are resized, fused and multiplied whole."""

import dataclasses

import numpy as np
import pytest
import torch

from sc3d.errors import FeatureError
from sc3d.evaluation.readout import CellDescriptors
from sc3d.features import Features
from sc3d.matching.fusion import group_descriptors


def plain_cosines(source: Features, target: Features, weights: dict[str, float]) -> np.ndarray:
    """The weighted mean of the slots' cosines of all cells with all cells, every layer resized first."""
    side = source.letterbox.side
    mine, theirs = (group_descriptors(features, np.arange(side * side)) for features in (source, target))
    total = sum(weights.values())
    parts = [weight / total * (mine[slot] @ theirs[slot].T).numpy() for slot, weight in weights.items() if weight]
    return np.asarray(sum(parts))


@pytest.mark.parametrize(
    "weights",
    [
        {"dino": 1.0},
        {"sd": 1.0},
        {"sd": 0.5, "dino": 0.5},
        {"sd": 0.5, "dino": 1 / 3, "shape": 1 / 6},
        {"shape": 2.0},
        {"sd": 1, "dino": 0},
    ],
)
def test_cosines_equal_those_of_resized_maps(make_features, weights):
    source, target = make_features(1, "a"), make_features(2, "b")
    cells = np.array([0, 17, 143, 17, 60])
    found = CellDescriptors.of_features(source, weights).similarity(cells, CellDescriptors.of_features(target, weights))
    np.testing.assert_allclose(found, plain_cosines(source, target, weights)[cells], atol=2e-6)


def test_a_map_is_compared_by_cosine(make_features):
    box = make_features(1, "a").letterbox
    maps = np.random.default_rng(0).normal(size=(2, 5, 12, 12)).astype(np.float16)
    maps[1, :, 3, 4] = 0
    source, target = (CellDescriptors.of_map(one, box) for one in maps)
    flat = [torch.nn.functional.normalize(torch.from_numpy(one.astype(np.float32)).reshape(5, -1), dim=0) for one in maps]
    found = source.similarity(np.arange(144), target)
    np.testing.assert_allclose(found, (flat[0].T @ flat[1]).numpy(), atol=1e-6)
    assert (found[:, 3 * 12 + 4] == 0).all()


def test_no_keypoints_have_no_similarities(make_features):
    one = CellDescriptors.of_features(make_features(1, "a"), {"sd": 1.0})
    assert one.similarity(np.zeros(0, int), one).shape == (0, 144)


def test_missing_slots_are_named(make_features):
    features = make_features(1, "a")
    with pytest.raises(FeatureError, match="a: has no mesh, so no 3D descriptors"):
        CellDescriptors.of_features(dataclasses.replace(features, shape=None, surface=None), {"shape": 1.0})
    only_dino = dataclasses.replace(features, sources={"dino": features.sources["dino"]})
    with pytest.raises(FeatureError, match="no features in the slot sd"):
        CellDescriptors.of_features(only_dino, {"sd": 1.0})


def test_memory_is_counted(make_features):
    features = make_features(1, "a")
    both, one = (CellDescriptors.of_features(features, w) for w in ({"sd": 1.0, "dino": 1.0}, {"dino": 1.0}))
    assert both.n_bytes > one.n_bytes >= features.sources["dino"].astype(np.float32).nbytes * 0.9

"""Global descriptors: the mean of the fused slots, whatever slots there are."""

import dataclasses

import numpy as np
import pytest

from sc3d.config import MatchConfig
from sc3d.errors import FeatureError, SchemaError
from sc3d.matching.embedding import embed, fuse_embeddings
from sc3d.matching.fusion import group_descriptors
from sc3d.records import Embedding

CONFIG = MatchConfig()


def record(name: str, slots: dict[str, np.ndarray]) -> Embedding:
    return Embedding(name, "cat", tuple(slots), np.array([len(v) for v in slots.values()]), np.concatenate(list(slots.values())))


def test_cosine_of_two_images_is_the_weighted_mean_of_the_cosines_of_their_mean_slots(make_features):
    images = [make_features(seed, f"image-{seed}", n_covered=40) for seed in range(3)]
    fused = fuse_embeddings([record(i.image_id, embed(i)) for i in images], CONFIG)
    means = []
    for image in images:
        groups = group_descriptors(image, np.flatnonzero(image.foreground))
        mean = {g: v.numpy().astype(np.float64).mean(axis=0) for g, v in groups.items()}
        means.append({g: v / np.linalg.norm(v) for g, v in mean.items()})
    weights = {"sd": CONFIG.alpha, "dino": CONFIG.beta, "shape": CONFIG.gamma}
    expected = [[sum(w * a[g] @ b[g] for g, w in weights.items()) for b in means] for a in means]
    np.testing.assert_allclose(fused @ fused.T, expected, atol=1e-6)


def test_the_background_does_not_count(make_features):
    image = make_features(0)
    cells = image.foreground
    noise = {n: np.where(cells, v, np.float16(9)) if v.shape[1:] == cells.shape else v for n, v in image.sources.items()}
    other = dataclasses.replace(image, sources=noise)
    np.testing.assert_array_equal(embed(other)["dino"], embed(image)["dino"])


def test_images_without_a_mesh_are_compared_by_their_other_slots(make_features):
    with_mesh, without = make_features(1), make_features(1, mesh=False)
    fused = fuse_embeddings([record("a", embed(with_mesh)), record("b", embed(without))], CONFIG)
    np.testing.assert_allclose(np.linalg.norm(fused, axis=1), 1, atol=1e-6)
    # The 2D slots are equal: sqrt of the 5/6 of the weight that they have in one image and all in the other.
    assert fused[0] @ fused[1] == pytest.approx(np.sqrt(5 / 6), abs=1e-5)
    assert np.isnan(fuse_embeddings([record("a", {"shape": np.ones(3)})], MatchConfig(alpha=0.5, beta=0.5))).all()
    assert fuse_embeddings([], CONFIG).shape == (0, 0)


def test_what_cannot_be_compared_is_refused(make_features):
    with pytest.raises(FeatureError, match="image-1: slot 'dino' of 5 channels, 6 in other images"):
        fuse_embeddings([record("image-0", {"dino": np.ones(6)}), record("image-1", {"dino": np.ones(5)})], CONFIG)
    empty = dataclasses.replace(make_features(0, mesh=False), foreground=np.zeros((12, 12), bool))
    with pytest.raises(FeatureError, match="image has no foreground cell"):
        embed(empty)
    with pytest.raises(SchemaError, match="embedding of a"):
        Embedding("a", "cat", ("dino",), np.array([3]), np.ones(2))

"""Fusion: what a fused cosine is, and that resizing agrees with torch's bilinear interpolation."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sc3d.config import MatchConfig
from sc3d.errors import FeatureError
from sc3d.matching.fusion import bilinear_taps, fuse, group_descriptors, group_weights


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 20))
def test_taps_resize_like_torch(height, width, side):
    layer = torch.from_numpy(np.random.default_rng(height * 400 + width * 20 + side).normal(size=(3, height, width))).float()
    expected = torch.nn.functional.interpolate(layer[None], size=(side, side), mode="bilinear", align_corners=False)[0]
    ours = bilinear_taps(height, width, side, np.arange(side * side)).apply(layer.reshape(3, -1).T.contiguous())
    torch.testing.assert_close(ours.T.reshape(3, side, side), expected, atol=1e-5, rtol=1e-5)


def test_layers_are_resized_concatenated_raw_and_normalised_as_one_group(make_features):
    features = make_features(0)
    cells = np.flatnonzero(features.foreground)
    groups = group_descriptors(features, cells)
    resized = [
        torch.nn.functional.interpolate(
            torch.from_numpy(features.sources[f"sd.{n}"]).float()[None], size=(12, 12), mode="bilinear"
        )[0]
        for n in ("s3", "s4", "s5")
    ]
    raw = torch.cat(resized).reshape(16, -1).T[cells]
    torch.testing.assert_close(groups["sd"], raw / raw.norm(dim=1, keepdim=True), atol=1e-5, rtol=1e-5)
    assert {g: v.shape for g, v in groups.items()} == {"sd": (60, 16), "dino": (60, 6), "shape": (60, 8)}


def test_shape_group_is_interpolated_at_the_hits_and_zero_without_one(make_features):
    features = make_features(3, n_covered=50)
    surface = features.surface
    row, cell = 4, int(surface.cells[4])
    expected = surface.barycentric[row] @ features.shape[surface.corners[row]].astype(np.float32)
    uncovered = np.setdiff1d(np.flatnonzero(features.foreground), surface.cells)
    shape = group_descriptors(features, np.array([cell, uncovered[0]]))["shape"].numpy()
    np.testing.assert_allclose(shape[0], expected / np.linalg.norm(expected), atol=1e-6)
    assert not shape[1].any()


@given(st.floats(0.05, 1), st.floats(0.05, 1), st.floats(0.05, 1), st.integers(0, 99))
def test_fused_dot_product_is_the_weighted_mean_of_the_cosines(a, b, c, seed):
    rng = np.random.default_rng(seed)
    weights = {"sd": a, "dino": b, "shape": c}
    sides = [{g: torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(5, 4))), dim=1) for g in weights} for _ in "st"]
    fused = fuse(sides[0], weights) @ fuse(sides[1], weights).T
    mean = sum(w * sides[0][g] @ sides[1][g].T for g, w in weights.items()) / (a + b + c)
    torch.testing.assert_close(fused, mean)


def test_weights_of_absent_groups_are_shared_out():
    groups = {"dino": torch.nn.functional.normalize(torch.randn(4, 3), dim=1)}
    torch.testing.assert_close(fuse(groups, {"sd": 0.5, "dino": 0.3}), groups["dino"])
    with pytest.raises(FeatureError, match=r"none of the groups with a weight \(sd\)"):
        fuse(groups, {"sd": 1.0})


def test_a_weight_that_is_only_rounding_is_no_weight():
    assert set(group_weights(MatchConfig(alpha=2 / 3, beta=1 / 3))) == {"sd", "dino"}
    assert group_weights(MatchConfig()) == pytest.approx({"sd": 1 / 2, "dino": 1 / 3, "shape": 1 / 6})

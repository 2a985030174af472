"""Candidates: parity with brute force and with DIY-SC, and the relaxed cycle's edge."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sc3d.config import MatchConfig
from sc3d.errors import FeatureError
from sc3d.features import Features
from sc3d.matching.candidates import cycle_error, cycle_tolerance, nearest, passes_cycle, similarity
from sc3d.matching.described import Described
from sc3d.matching.fusion import fuse, group_descriptors, group_weights


@pytest.mark.parametrize("config", [MatchConfig(), MatchConfig(alpha=0.6, beta=0.4), MatchConfig(alpha=0, beta=1)])
def test_product_at_native_grids_equals_product_of_fused_descriptors(make_features, config):
    images = [make_features(seed, f"i{seed}") for seed in (1, 2)]
    described = [Described(f, config) for f in images]
    fused = [
        fuse({g: v for g, v in group_descriptors(f, d.cells).items() if g in d.weights}, group_weights(config)).double()
        for f, d in zip(images, described, strict=True)
    ]
    assert config.alpha == 0 or described[0].coarse, "the coarse layers must take the short way, or this test proves nothing"
    torch.testing.assert_close(similarity(*described).double(), fused[0] @ fused[1].T, atol=1e-6, rtol=0)


@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 40), st.booleans())
@settings(max_examples=60)
def test_nearest_equals_float64_brute_force(seed, n, m, ties):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(n, 5)), rng.normal(size=(m, 5))
    if ties:
        a, b = np.round(a), np.round(b)
    exact = a @ b.T
    forward, backward = nearest(torch.from_numpy(a).float() @ torch.from_numpy(b).float().T)
    assert forward.shape == (n,)
    assert backward.shape == (m,)
    assert (exact[np.arange(n), forward] >= exact.max(axis=1) - 1e-6 * np.abs(exact).max()).all()
    assert (exact[backward, np.arange(m)] >= exact.max(axis=0) - 1e-6 * np.abs(exact).max()).all()
    if ties:  # whole numbers are exact in float32, so the lowest index must win
        np.testing.assert_array_equal(forward, exact.argmax(axis=1))
        np.testing.assert_array_equal(backward, exact.argmax(axis=0))


def test_strict_setting_reproduces_diy_sc(shared):
    golden = np.load(shared / "golden" / "cycle.npz")
    features = torch.from_numpy(golden["features"].astype(np.float32))
    source, target = np.flatnonzero(golden["mask0"]), np.flatnonzero(golden["mask1"])
    forward, backward = nearest(features[0][source] @ features[1][target].T)
    np.testing.assert_array_equal(source, golden["nn_source"])
    np.testing.assert_array_equal(target[forward], golden["nn_target"])
    error = cycle_error(source, forward, backward, side=60, cell_pixels=14.0)
    kept = passes_cycle(error, 28.0)
    assert (error == 28).any(), "the fixture has round trips of exactly 28 px, which DIY-SC keeps"
    np.testing.assert_array_equal(source[kept], golden["kept_source"])
    np.testing.assert_array_equal(target[forward][kept], golden["kept_target"])


def test_cycle_error_is_the_distance_of_the_round_trip_in_source_pixels():
    cells = np.array([0, 13, 27])  # (row, column) on a 12 grid: (0, 0), (1, 1), (2, 3)
    error = cycle_error(cells, forward=np.array([0, 0, 1]), backward=np.array([2, 1]), side=12, cell_pixels=5.0)
    np.testing.assert_allclose(error, [np.hypot(2, 3) * 5, np.hypot(1, 2) * 5, np.hypot(1, 2) * 5])


def test_tolerance_is_a_share_of_the_extent_and_at_least_one_cell():
    assert cycle_tolerance(0.05, 400.0, 8.0) == 20.0
    assert cycle_tolerance(0.05, 100.0, 8.0) == 8.0
    for cell in (840 / 500 * 14, 14 / 1.68, 1 / 3):  # one cell exactly, stored as float32, passes
        assert passes_cycle(np.float32([cell]), cycle_tolerance(0.0001, 1.0, cell)).all()
        assert not passes_cycle(np.float32([cell * 1.001]), cycle_tolerance(0.0001, 1.0, cell)).any()


def without(features: Features, **changes) -> Features:
    values = {n: getattr(features, n) for n in Features.__dataclass_fields__}
    return Features(**(values | changes))


def test_recipes_that_do_not_fit_are_refused_by_name(make_features):
    a, b = make_features(1, "one"), make_features(2, "two")
    other_layer = without(b, sources=b.sources | {"sd.s4": b.sources["sd.s4"][:3]})
    with pytest.raises(FeatureError, match=r"one and two were described by different recipes: sd\.s4 differ"):
        similarity(Described(a, MatchConfig()), Described(other_layer, MatchConfig()))
    with pytest.raises(FeatureError, match="fused with weights"):
        similarity(Described(a, MatchConfig()), Described(b, MatchConfig(alpha=0.4)))
    with pytest.raises(FeatureError, match="shape descriptors of 8 and 5 channels"):
        similarity(Described(a, MatchConfig()), Described(without(b, shape=b.shape[:, :5]), MatchConfig()))
    with pytest.raises(FeatureError, match="belong to no slot"):
        Described(without(b, sources={"clip": b.sources["dino"]}), MatchConfig())
    with pytest.raises(FeatureError, match="none of the groups with a weight"):
        Described(without(b, sources={}), MatchConfig(alpha=0.5, beta=0.5))


def test_broken_surfaces_are_refused(make_features):
    import dataclasses

    features = make_features(1, "broken")
    surface = features.surface
    for change, message in [
        ({"corners": surface.corners + 39}, "broken: hit corners reach .* beyond 0 to 39"),
        ({"barycentric": surface.barycentric * np.nan}, "broken: barycentric weights hold values that are not finite"),
        ({"diagonal": 0.0}, "diagonal of 0"),
        ({"dominant": surface.dominant[:-1]}, r"broken: dominant vertices are int32 \(59,\), expected \(60,\)"),
    ]:
        with pytest.raises(FeatureError, match=message):
            Described(without(features, surface=dataclasses.replace(surface, **change)), MatchConfig())

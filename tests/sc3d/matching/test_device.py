"""Matching on a device gives what matching on the host gives, pair by pair."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sc3d.config import MatchConfig
from sc3d.errors import ConfigError, FeatureError
from sc3d.matching.described import Described
from sc3d.matching.device import DeviceImage, match_pairs
from sc3d.matching.label import match_pair

CONFIGS = [MatchConfig(), MatchConfig(alpha=0.6, beta=0.4, tau_cc=0.3), MatchConfig(alpha=0.5, beta=0.2, tau_geo=0.1)]


def assert_equal_to_the_host(images, config, device):
    on_device = [DeviceImage(image, device) for image in images]
    pairs = [(a, b) for a in range(len(images)) for b in range(len(images))]
    found = match_pairs([(on_device[a], on_device[b]) for a, b in pairs], "toy", config)
    kept = 0
    for (a, b), matches in zip(pairs, found, strict=True):
        expected = match_pair(images[a], images[b], "toy", config)
        assert (matches.pair_id, matches.n_candidates, matches.n_cycle) == (
            expected.pair_id,
            expected.n_candidates,
            expected.n_cycle,
        )
        np.testing.assert_array_equal(matches.source_xy, expected.source_xy)
        np.testing.assert_array_equal(matches.target_xy, expected.target_xy)
        np.testing.assert_array_equal(matches.cycle_error, expected.cycle_error)
        np.testing.assert_allclose(matches.cosine, expected.cosine, atol=1e-6)
        np.testing.assert_allclose(matches.geodesic_error, expected.geodesic_error, atol=1e-7)
        kept += len(matches)
    return kept


@given(seed=st.integers(0, 10**6), config=st.sampled_from(CONFIGS), n=st.sampled_from([1, 2, 30]))
@settings(max_examples=25)
def test_a_tile_equals_its_pairs_on_the_host(make_features, seed, config, n):
    features = [
        make_features(seed, "s", n_foreground=n),
        make_features(seed + 1, "t", n_foreground=30, n_covered=25, size=(90, 160)),
    ]
    assert_equal_to_the_host([Described(f, config) for f in features], config, "cpu")


def test_the_property_above_sees_kept_matches(make_features):
    config = MatchConfig()
    assert assert_equal_to_the_host([Described(make_features(i, f"i{i}"), config) for i in range(3)], config, "cpu") > 50


def test_a_device_goes_by_the_templates_prior_too(make_features):
    config = MatchConfig(alpha=0.6, beta=0.4, tau_cc=0.3, template_prior=5.0)
    features = [make_features(i, f"i{i}") for i in range(3)]
    images = [Described(replace(f, surface=replace(f.surface, numbering="template")), config) for f in features]
    assert all(image.template is not None for image in images)
    assert assert_equal_to_the_host(images, config, "cpu") > 50


def test_a_device_goes_by_the_median_of_the_registrations(make_features):
    config = MatchConfig(tau_cc=0.3, transfer="registration")
    rng = np.random.default_rng(0)
    images = []
    for i in range(3):
        features = make_features(i, f"i{i}")
        # Nearly what the next image has at each vertex, so that some matches pass.
        lattice = np.stack(np.unravel_index(np.arange(len(features.surface.vertices)), (7, 7, 7)), axis=1) / 7
        places = np.hstack([lattice, np.zeros_like(lattice)]) + rng.normal(0, 0.02, (3, len(lattice), 6))
        images.append(Described(features, config, places.astype(np.float32)))
    assert assert_equal_to_the_host(images, config, "cpu") > 20
    bare = DeviceImage(Described(make_features(5, "bare"), config), "cpu")
    with pytest.raises(FeatureError, match="not registered"):
        match_pairs([(bare, bare)], "toy", config)


def test_images_without_foreground_or_mesh_keep_nothing(make_features):
    config = MatchConfig(alpha=0.6, beta=0.4)
    images = [
        Described(make_features(0, "none", n_foreground=0), config),
        Described(make_features(1, "flat", mesh=False), config),
        Described(make_features(2, "whole"), config),
    ]
    assert_equal_to_the_host(images, config, "cpu")


def test_images_of_different_recipes_and_small_balls_are_refused(make_features):
    a, b = make_features(0, "a"), make_features(1, "b")
    mixed = [DeviceImage(Described(a, MatchConfig()), "cpu"), DeviceImage(Described(b, MatchConfig(alpha=0.1)), "cpu")]
    with pytest.raises(FeatureError, match="weights"):
        match_pairs([(mixed[0], mixed[1])], "toy", MatchConfig())
    with pytest.raises(FeatureError, match="ball_radius"):
        match_pairs([(mixed[0], mixed[0])], "toy", MatchConfig(tau_geo=0.3))


def test_other_transfers_are_refused():
    with pytest.raises(ConfigError, match="CPU"):
        match_pairs([], "toy", MatchConfig(transfer="transport"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_finds_the_same_matches(make_features):
    config = MatchConfig()
    assert assert_equal_to_the_host([Described(make_features(i, f"i{i}"), config) for i in range(3)], config, "cuda") > 50

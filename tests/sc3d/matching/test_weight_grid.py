"""A pair under many weights at once against describing and matching it anew under each of them."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sc3d.config import LabelConfig, MatchConfig
from sc3d.errors import FeatureError
from sc3d.matching.described import Described
from sc3d.matching.explain import explain_pair
from sc3d.matching.fusion import fuse, group_descriptors, group_weights
from sc3d.matching.weight_grid import GroupedImage, match_settings

WEIGHTS = [
    MatchConfig(),
    MatchConfig(alpha=1.0, beta=0.0),
    MatchConfig(alpha=0.0, beta=1.0),
    MatchConfig(alpha=0.0, beta=0.0),
    MatchConfig(alpha=2 / 3, beta=1 / 3),
    MatchConfig(alpha=0.0, beta=0.7),
    MatchConfig(alpha=0.1, beta=0.0),
]
WIDEST = LabelConfig(tau_cc=0.3, tau_geo=0.2)
TIE = 1e-6


def distinct(source, target, setting):
    """Whether nothing is decided by less than the tie: the margins of the plain fused cosines in both directions, in float64."""
    weights = group_weights(setting)
    cells = [Described(image, setting).cells for image in (source, target)]
    if not all(map(len, cells)):
        return True
    mine, theirs = (fuse(group_descriptors(f, at), weights).double().numpy() for f, at in zip((source, target), cells, strict=True))
    cosines = mine @ theirs.T
    margins = [np.diff(np.sort(cosines, axis=axis), axis=axis).take([-1], axis=axis) for axis in (0, 1) if cosines.shape[axis] > 1]
    return all(margin.min() > TIE for margin in margins)


def assert_as_if_alone(source, target, setting, found):
    explanation = explain_pair(Described(source, setting), Described(target, setting), WIDEST)
    np.testing.assert_array_equal(found.source_cells, explanation.source_cells)
    np.testing.assert_array_equal(found.target_cells, explanation.target_cells)
    np.testing.assert_array_equal(found.target_xy, explanation.target_xy)
    np.testing.assert_allclose(found.cosine, explanation.cosine, atol=TIE)
    np.testing.assert_array_equal(found.cycle_error, explanation.cycle_error)
    kept = explanation.rejected_by == ""
    np.testing.assert_array_equal(found.geodesic_error[kept], explanation.geodesic_error[kept])
    assert (found.geodesic_error[~kept] > WIDEST.tau_geo).all()
    return int(kept.sum())


@given(
    seed=st.integers(0, 10**6),
    n=st.sampled_from([0, 1, 2, 60]),
    covered=st.sampled_from([None, 0, 1, 45]),
    mesh=st.sampled_from([True, True, False]),
    drop=st.sampled_from(["", "", "sd", "dino"]),
)
@settings(max_examples=40)
def test_every_setting_has_the_candidates_of_matching_alone(make_features, seed, n, covered, mesh, drop):
    covered = None if covered is None else min(covered, n)
    source = make_features(seed, "s", n_foreground=n, n_covered=covered, mesh=mesh)
    target = make_features(seed + 1, "t", n_foreground=50, n_covered=40, size=(90, 160))
    source, target = (
        dataclasses.replace(f, sources={k: v for k, v in f.sources.items() if not drop or not k.startswith(drop)})
        for f in (source, target)
    )
    weights = [w for w in WEIGHTS if not {"sd": w.beta + w.gamma, "dino": w.alpha + w.gamma, "": 1.0}[drop] < TIE]
    result = match_settings(*(GroupedImage(f, MatchConfig()) for f in (source, target)), weights, WIDEST)
    assert len(result) == len(weights)
    for setting, found in zip(weights, result, strict=True):
        if distinct(source, target, setting):
            assert_as_if_alone(source, target, setting, found)


def test_the_parity_test_sees_labels_under_every_setting(make_features):
    """Guards the property above: each setting must keep some candidates in its scenes."""
    source, target = (make_features(seed, f"i{seed}", n_foreground=100, n_covered=90) for seed in (3, 4))
    result = match_settings(*(GroupedImage(f, MatchConfig()) for f in (source, target)), WEIGHTS, WIDEST)
    assert all(assert_as_if_alone(source, target, *one) > 3 for one in zip(WEIGHTS, result, strict=True))
    assert len({len(found) for found in result}) == 2


def test_images_without_2d_features_match_by_shape(make_features):
    images = [dataclasses.replace(make_features(i, f"i{i}"), sources={}) for i in (1, 2)]
    pair = [GroupedImage(image, MatchConfig()) for image in images]
    [alone, shared] = match_settings(*pair, [MatchConfig(alpha=0.0, beta=0.0), MatchConfig()], WIDEST)
    assert assert_as_if_alone(*images, MatchConfig(), shared) > 3
    np.testing.assert_array_equal(alone.target_cells, shared.target_cells)
    with pytest.raises(FeatureError, match="none of the groups with a weight"):
        match_settings(*pair, [MatchConfig(alpha=1.0, beta=0.0)], WIDEST)


def test_nothing_to_evaluate_is_no_error(make_features):
    image = GroupedImage(make_features(1), MatchConfig())
    assert match_settings(image, image, [], WIDEST) == []


def test_images_of_different_recipes_are_refused(make_features):
    full, other = make_features(1, "full"), make_features(2, "other")
    whole = GroupedImage(full, MatchConfig())
    less = GroupedImage(dataclasses.replace(other, sources={k: v for k, v in other.sources.items() if k != "dino"}), MatchConfig())
    with pytest.raises(FeatureError, match="full and other have different groups of features: sd, dino and sd"):
        match_settings(whole, less, WEIGHTS, WIDEST)
    coarser = GroupedImage(dataclasses.replace(other, sources={**other.sources, "dino": other.sources["dino"][:3]}), MatchConfig())
    with pytest.raises(FeatureError, match="full and other were described by different recipes: dino"):
        match_settings(whole, coarser, WEIGHTS, WIDEST)


def test_balls_that_are_too_small_for_the_widest_threshold_are_refused(make_features):
    image = GroupedImage(make_features(1, "small"), MatchConfig())
    with pytest.raises(FeatureError, match="small: its geodesic balls reach"):
        match_settings(image, image, WEIGHTS, LabelConfig(tau_geo=0.3))


def test_memory_counts_every_group(make_features):
    features = make_features(1)
    image = GroupedImage(features, MatchConfig())
    assert image.n_bytes > Described(features, MatchConfig(alpha=1.0, beta=0.0)).n_bytes + image.groups["dino"].dense.nbytes


def test_the_configured_transfer_is_used(make_features):
    images = [make_features(i, f"i{i}", n_foreground=100) for i in (3, 4)]
    config = MatchConfig(transfer="functional_map")
    [found] = match_settings(*(GroupedImage(image, config) for image in images), [config], WIDEST)
    [nearest] = match_settings(*(GroupedImage(image, MatchConfig()) for image in images), [config], WIDEST)
    assert assert_as_if_alone(*images, config, found) > 0
    assert (found.geodesic_error != nearest.geodesic_error).any()


def test_the_templates_prior_is_that_of_matching_alone(make_features):
    """Under every setting of the weights, with cosines that are cosines."""
    images = [make_features(i, f"i{i}", n_foreground=100, n_covered=90) for i in (3, 4)]
    images = [dataclasses.replace(one, surface=dataclasses.replace(one.surface, numbering="template")) for one in images]
    settings_ = [dataclasses.replace(one, template_prior=5.0) for one in WEIGHTS]
    found = match_settings(*(GroupedImage(image, settings_[0]) for image in images), settings_, WIDEST)
    plain = match_settings(*(GroupedImage(image, WEIGHTS[0]) for image in images), WEIGHTS, WIDEST)
    for setting, mine, without in zip(settings_, found, plain, strict=True):
        assert assert_as_if_alone(*images, setting, mine) > 0
        assert (mine.target_cells != without.target_cells).any()

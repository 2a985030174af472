"""Prototypes: what points look like, and how likely a feature shows one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm

from sc3d.class_shapes.observation import unit_rows
from sc3d.class_shapes.prototypes import Prototypes, make_prototypes


def test_prototypes_are_means_and_spreads() -> None:
    """Of one image: of the cosines of a point's own features with their mean; of a single one, the least deviation."""
    features = unit_rows(np.random.default_rng(0).normal(size=(30, 8)) + 1)
    groups = [np.arange(20), np.array([25])]
    made = make_prototypes(groups, features, np.zeros(30, int))
    mean = features[:20].mean(axis=0)
    cosines = features[:20] @ mean / np.linalg.norm(mean)
    np.testing.assert_allclose(made.features[0], mean / np.linalg.norm(mean), rtol=1e-5)
    assert made.mean[0] == pytest.approx(cosines.mean())
    assert made.deviation[0] == pytest.approx(cosines.std(ddof=1), rel=1e-4)
    np.testing.assert_allclose(made.features[1], features[25], rtol=1e-6)
    assert made.mean[1] == pytest.approx(1)
    assert made.deviation[1] == pytest.approx(0.02)


def test_the_spread_is_that_of_images_that_a_prototype_has_not_seen() -> None:
    """As leaving each image out in a loop says; where every image looks its own way, unseen ones are further off than seen ones."""
    rng = np.random.default_rng(1)
    images = np.repeat([5, 2, 9, 7], [10, 4, 1, 12])
    features = unit_rows(rng.normal(size=(10, 16))[images] + 0.3 * rng.normal(size=(len(images), 16)) + 0.5)
    made = make_prototypes([np.arange(len(images))], features, images)
    cosines = []
    for feature, image in zip(features, images, strict=True):
        others = features[images != image].sum(axis=0)
        cosines.append(feature @ others / np.linalg.norm(others))
    assert made.mean[0] == pytest.approx(np.mean(cosines), rel=1e-4)
    assert made.deviation[0] == pytest.approx(np.std(cosines, ddof=1), rel=1e-4)
    seen = make_prototypes([np.arange(len(images))], features, np.zeros(len(images), int))
    np.testing.assert_allclose(seen.features, made.features, rtol=1e-5)
    assert made.mean[0] < seen.mean[0] - 0.1


def test_the_likelihood_is_that_of_the_tail() -> None:
    """2 (1 - Phi(|s - mu| / sigma)) below the mean, and 1 above it; finite however far."""
    made = Prototypes(np.array([[1.0, 0, 0]], np.float32), np.array([0.5], np.float32), np.array([0.1], np.float32))
    cosines = np.array([0.45, 0.2, 0.5, 0.8, -1.0])
    features = np.stack([cosines, np.sqrt(1 - cosines**2), 0 * cosines], axis=1).astype(np.float32)
    found = made.log_likelihood(torch.from_numpy(features)).numpy()[:, 0]
    wanted = np.log(2) + norm.logsf(np.maximum(0.5 - cosines, 0) / 0.1)
    np.testing.assert_allclose(found, wanted, atol=2e-3)
    assert found[3] == found[2] == pytest.approx(0, abs=1e-6)
    rows = made.select(np.array([0, 0]))
    np.testing.assert_array_equal(rows.log_likelihood(torch.from_numpy(features)).numpy()[:, 1], found)

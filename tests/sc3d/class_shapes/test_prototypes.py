"""Prototypes: what points look like, and how likely a feature shows one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm

from sc3d.class_shapes.observation import unit_rows
from sc3d.class_shapes.prototypes import Prototypes, make_prototypes


def test_prototypes_are_means_and_spreads() -> None:
    """Of the cosines of a point's own features with their mean; of a single one, the least deviation."""
    features = unit_rows(np.random.default_rng(0).normal(size=(30, 8)) + 1)
    groups = [np.arange(20), np.array([25])]
    made = make_prototypes(groups, features)
    mean = features[:20].mean(axis=0)
    cosines = features[:20] @ mean / np.linalg.norm(mean)
    np.testing.assert_allclose(made.features[0], mean / np.linalg.norm(mean), rtol=1e-5)
    assert made.mean[0] == pytest.approx(cosines.mean())
    assert made.deviation[0] == pytest.approx(cosines.std(ddof=1), rel=1e-4)
    np.testing.assert_allclose(made.features[1], features[25], rtol=1e-6)
    assert made.mean[1] == pytest.approx(1)
    assert made.deviation[1] == pytest.approx(0.02)


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

"""The statistics of keypoints' geometry, beside a loop over SciPy's fits, and the energy they make."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from scipy.stats import beta
from synthetic import hidden, views

import sc3d.class_shapes.statistics as module
from sc3d.class_shapes.geometric_features import corner_features, corners, edge_pairs, pair_features
from sc3d.class_shapes.statistics import GeometricEnergy, GeometryStatistics, fit_statistics

N = 6


@pytest.fixture(scope="module")
def lifted() -> np.ndarray:
    """Keypoints of 30 images."""
    made = views(N, 30, 0.8, 0.04, seed=1)
    return hidden(made.points, made.visible)


@pytest.fixture(scope="module")
def statistics(lifted: np.ndarray) -> GeometryStatistics:
    """Of these."""
    return fit_statistics(lifted, N, seed=3)


def test_distributions_are_those_of_a_plain_loop(lifted: np.ndarray, statistics: GeometryStatistics) -> None:
    """Feature by feature over the noisy copies that SciPy fits. The noise is drawn in the same order."""
    rng = np.random.default_rng(3)
    copies = np.full((len(lifted), module.COPIES, N, 3), np.nan)
    for number, points in enumerate(lifted):
        seen = np.isfinite(points).all(axis=1)
        if seen.sum() < 2:
            continue
        shortest = min(np.linalg.norm(a - b) for i, a in enumerate(points[seen]) for b in points[seen][i + 1 :])
        copies[number][:, seen] = points[seen] + rng.normal(size=(10, seen.sum(), 3)) * 0.2 * shortest
    tables = ((pair_features, edge_pairs(N), statistics.pairs, statistics.pair_ab),)
    tables += ((corner_features, corners(N), statistics.corners, statistics.corner_ab),)
    for features, every, kept, ab in tables:
        found = {tuple(of): values for of, values in zip(kept.tolist(), ab, strict=True)}
        values = features(torch.from_numpy(copies), torch.from_numpy(every)).clamp(1e-6, 1 - 1e-6).numpy()
        for index in range(0, len(every), 7):
            of = values[:, :, index].reshape(-1, values.shape[-1])
            of = of[np.isfinite(of).all(axis=1)]
            wanted = np.array([beta.fit(column, floc=0, fscale=1)[:2] for column in of.T])
            if tuple(every[index]) in found:
                np.testing.assert_allclose(found[tuple(every[index])], wanted, rtol=5e-3)
            else:
                mode = (wanted[-1, 0] - 1) / (wanted[-1].sum() - 2)
                assert (wanted <= 1).any() or len(of) < 40 or not 0.01 <= mode <= 0.99
    assert len(statistics.pairs) > 50
    assert len(statistics.corners) > 20


def test_a_feature_needs_four_images(lifted: np.ndarray) -> None:
    """Three give none."""
    points = np.nan_to_num(lifted[:4], nan=0.5) + np.random.default_rng(0).normal(size=(4, N, 3)) * 0.01
    assert len(fit_statistics(points[:3], N).pairs) == 0 == len(fit_statistics(points[:3], N).corners)
    assert len(fit_statistics(points, N).corners)


def test_the_most_certain_leave_no_keypoint_out(statistics: GeometryStatistics) -> None:
    """The narrowest distributions, each keypoint with its share of them, in the order they had."""
    few = statistics.most_certain(30)
    assert (len(few.pairs), len(few.corners)) == (30, 30)
    for of in (few.pairs, few.corners):
        count = np.bincount(of.ravel(), minlength=N)
        assert (count >= 5).all()
    rows = {tuple(row) for row in statistics.pairs.tolist()}
    assert {tuple(row) for row in few.pairs.tolist()} <= rows

    def width(ab: np.ndarray) -> float:
        total = ab.sum(-1)
        return float((ab.prod(-1) / (total**2 * (total + 1))).mean())

    assert width(few.pair_ab) < width(statistics.pair_ab)
    assert width(few.corner_ab) < width(statistics.corner_ab)
    assert statistics.most_certain(10**6).pairs is statistics.pairs


def test_the_energy_is_the_mean_of_likelihoods(statistics: GeometryStatistics) -> None:
    """(1/5) of the sum over the five kinds of features of the mean of -log Beta, by SciPy."""
    points = np.random.default_rng(5).uniform(-1, 1, (N, 3))
    at = torch.from_numpy(points)
    wanted = 0.0
    for features, of, ab in (
        (pair_features, statistics.pairs, statistics.pair_ab),
        (corner_features, statistics.corners, statistics.corner_ab),
    ):
        x = features(at, torch.from_numpy(of)).numpy().clip(1e-6, 1 - 1e-6)
        wanted += -beta.logpdf(x, ab[..., 0].astype(float), ab[..., 1].astype(float)).mean(axis=0).sum() / 5
    assert GeometricEnergy(statistics, dtype=torch.float64)(at).item() == pytest.approx(wanted, rel=1e-5)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(0.2, 5))
def test_the_energy_knows_no_size_and_no_pose(statistics: GeometryStatistics, seed: int, scale: float) -> None:
    """And all poses of a batch at once are each by itself."""
    energy, rng = GeometricEnergy(statistics, dtype=torch.float64), np.random.default_rng(seed)
    points = rng.uniform(-1, 1, (N, 3))
    moved = scale * points @ Rotation.random(rng=rng).as_matrix().T + 3
    both = energy(torch.from_numpy(np.stack([points, moved]))).numpy()
    np.testing.assert_allclose(both[0], both[1], rtol=1e-6)
    np.testing.assert_allclose(both[0], energy(torch.from_numpy(points)).item(), rtol=1e-9)


def test_the_mean_shape_has_less_energy_than_others(lifted: np.ndarray, statistics: GeometryStatistics) -> None:
    """Than its mirror image, and than itself stretched."""
    energy, mean = GeometricEnergy(statistics, dtype=torch.float64), views(N, 30, 0.8, 0.04, seed=1).shape

    def of(points: np.ndarray) -> float:
        return energy(torch.from_numpy(points)).item()

    assert of(mean) + 1 < of(mean * [1, 1, -1])
    assert of(mean) + 0.1 < of(mean * [1, 1, 2])


def test_without_statistics_there_is_no_energy() -> None:
    """Not even NaN."""
    none = GeometryStatistics(*[np.zeros((0, *shape)) for shape in ((4,), (2, 2), (4,), (3, 2))])
    assert GeometricEnergy(none)(torch.ones(3, N, 3)).tolist() == [0, 0, 0]

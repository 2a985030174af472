"""The joint problem against plain references: regressions made anew without each mesh, products of turned descriptors."""

from __future__ import annotations

import numpy as np
import pytest

from sc3d.errors import InputError
from sc3d.geometry.orientation.compass import Compass, likelihoods, posteriors
from sc3d.geometry.orientation.joint import (
    UNKNOWN,
    gram_matrix,
    left_out_scores,
    settle,
    solve_joint,
    targets_of,
)
from sc3d.geometry.orientation.pooling import turned

TYPICAL = 14.0


def category(n: int, seed: int = 0, noise: float = 0.6, width: int = 64) -> np.ndarray:
    """Descriptors (n, 8, width) of meshes that all face forward: what they share, and noise of their own."""
    rng = np.random.default_rng(seed)
    found = rng.normal(size=(1, 8, width)) + noise * rng.normal(size=(n, 8, width))
    return (found / np.linalg.norm(found, axis=(1, 2), keepdims=True)).astype(np.float32)


def misturned(descriptors: np.ndarray, turns: np.ndarray) -> np.ndarray:
    return np.stack([turned(one, turn) for one, turn in zip(descriptors, turns, strict=True)])


def test_the_gram_matrix_is_that_of_all_turns_without_their_mean() -> None:
    descriptors = category(5)
    every = np.stack([[turned(one, k) for k in range(4)] for one in descriptors]).astype(np.float64)
    every = (every - every.mean(axis=1, keepdims=True)).reshape(20, -1)
    np.testing.assert_allclose(gram_matrix(descriptors), every @ every.T, atol=1e-6)


def test_scores_are_those_of_a_regression_made_without_the_mesh() -> None:
    gram, turns, n = gram_matrix(category(7)), np.array([0, 0, 3, 0, 1, 0, 0]), 7
    ridge = 0.1
    found = left_out_scores(np.linalg.inv(gram + ridge * np.eye(4 * n)), turns)
    targets = targets_of(turns).reshape(-1)
    for mesh in range(n):
        own = np.arange(4 * mesh, 4 * mesh + 4)
        others = np.setdiff1d(np.arange(4 * n), own)
        coefficients = np.linalg.solve(gram[np.ix_(others, others)] + ridge * np.eye(len(others)), targets[others])
        np.testing.assert_allclose(found[mesh], gram[np.ix_(own, others)] @ coefficients, atol=1e-9)


def test_turning_the_meshes_permutes_the_gram_matrix() -> None:
    """So trials of injected turns need no descriptor anew."""
    descriptors, turns = category(4), np.array([0, 1, 2, 3])
    order = (4 * np.arange(4)[:, None] + (np.arange(4) + turns[:, None]) % 4).ravel()
    np.testing.assert_allclose(
        gram_matrix(misturned(descriptors, turns)), gram_matrix(descriptors)[np.ix_(order, order)], atol=1e-6
    )


@pytest.mark.parametrize("seed", range(5))
def test_injected_turns_are_undone_and_nothing_else_is_turned(seed: int) -> None:
    turns = np.zeros(16, int)
    turns[[2, 5, 11]] = 1, 2, 3
    settled, compass = solve_joint(misturned(category(16, seed), turns), TYPICAL)
    assert (settled.posteriors.argmax(axis=1) == -turns % 4).all()
    assert settled.posteriors.max(axis=1).min() > 0.8
    # The rest of the category, which the compass has not seen.
    for index, one in enumerate(category(40, seed)[16:]):
        q = compass.posterior(turned(one, index % 4))
        assert int(q.argmax()) == -index % 4
        assert q.sum() == pytest.approx(1)


def test_a_category_without_direction_is_left_alone() -> None:
    rng = np.random.default_rng(3)
    found = rng.normal(size=(24, 8, 64)).astype(np.float32)
    found /= np.linalg.norm(found, axis=(1, 2), keepdims=True)
    settled, compass = solve_joint(found, TYPICAL)
    assert (settled.posteriors.argmax(axis=1) == 0).all()
    assert compass.sharpness < TYPICAL


def test_the_majority_is_followed() -> None:
    turns = np.repeat([0, 2], [3, 8])
    found = solve_joint(misturned(category(11), turns), TYPICAL)[0].posteriors.argmax(axis=1)
    assert (found == [2] * 3 + [0] * 8).all()


def test_what_is_known_is_never_turned_and_counts_as_it_is_known() -> None:
    turns = np.repeat([0, 2], [3, 8])
    wrong = misturned(category(11), turns)
    known = np.where(turns == 0, 0, UNKNOWN)
    settled, _ = solve_joint(wrong, TYPICAL, known)
    np.testing.assert_array_equal(settled.posteriors[:3], np.eye(4)[[0] * 3])
    # Enough that are known to be turned tell of the others.
    known = np.where(turns == 0, UNKNOWN, 2)
    settled, _ = solve_joint(wrong, TYPICAL, known)
    assert (settled.posteriors.argmax(axis=1) == turns).all()


def test_one_mesh_alone_stays_as_it_is() -> None:
    settled, compass = solve_joint(category(1), TYPICAL)
    assert settled.posteriors[0].argmax() == 0
    assert 0.9 < compass.prior <= 0.97
    same = settle(gram_matrix(category(1)), TYPICAL, np.array([UNKNOWN]))
    np.testing.assert_array_equal(same.posteriors, settled.posteriors)


def test_the_compass_scores_as_the_regression_does() -> None:
    descriptors, other = category(9), category(30, seed=0)[20]
    settled, compass = solve_joint(descriptors, TYPICAL)
    every = np.stack([[turned(one, k) for k in range(4)] for one in [*descriptors, other]]).astype(np.float64)
    every = (every - every.mean(axis=1, keepdims=True)).reshape(40, -1)
    scores = every[36:] @ every[:36].T @ settled.coefficients
    expected = posteriors((scores - scores.mean())[None], compass.sharpness, compass.prior)[0]
    np.testing.assert_allclose(compass.posterior(other), expected, atol=1e-4)


def test_likelihoods_leave_a_little_for_strange_meshes() -> None:
    found = likelihoods(np.array([[1000.0, 0, 0, 0], [0, 0, 0, 0]]), 2.0)
    np.testing.assert_allclose(found, [[0.9925, 0.0025, 0.0025, 0.0025], [0.25] * 4])


@pytest.mark.parametrize(
    ("descriptors", "known"),
    [(np.zeros((0, 8, 4)), None), (np.zeros((2, 8)), None), (np.zeros((2, 8, 4)), [0]), (np.zeros((2, 8, 4)), [0, 4])],
)
def test_what_does_not_fit_is_refused(descriptors: np.ndarray, known: list[int] | None) -> None:
    with pytest.raises(InputError, match="at least one mesh"):
        solve_joint(descriptors, TYPICAL, known)


def test_a_descriptor_of_another_kind_is_refused() -> None:
    with pytest.raises(InputError, match="does not compare"):
        Compass(np.zeros((8, 4), np.float32), 14, 0.94).posterior(np.zeros((8, 5)))

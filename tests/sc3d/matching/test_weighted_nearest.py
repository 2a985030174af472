"""The one-pass search against numpy's argmax of each weighted sum, ties and signs included."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sc3d.matching.weighted_nearest import weighted_nearest


@given(
    seed=st.integers(0, 10**6),
    shape=st.sampled_from([(1, 1), (1, 300), (300, 1), (7, 255), (8, 256), (9, 257), (40, 600)]),
    offset=st.sampled_from([0.0, -2.0, 2.0]),
    coarse=st.booleans(),
)
def test_every_setting_equals_the_argmax_of_its_weighted_sum(seed, shape, offset, coarse):
    rng = np.random.default_rng(seed)
    matrices = tuple((rng.uniform(-1, 1, shape) + offset).astype(np.float32) for _ in range(3))
    if coarse:  # many exact ties, and zeros of both signs
        matrices = tuple(np.round(m * 2) / 2 for m in matrices)
    weights = np.array([[0.5, 0.25, 0.25], [1, 0, 0], [0, 0, 1], [0.3, 0.7, 0]], np.float32)
    found = weighted_nearest(matrices, weights)
    for s, (a, b, c) in enumerate(weights):
        mean = a * matrices[0] + b * matrices[1] + c * matrices[2]
        # +0 and -0 are equal to numpy; the order of the bits puts -0 below.
        mean = mean + np.float32(0)
        np.testing.assert_array_equal(found.similarity[s], mean.max(axis=1))
        np.testing.assert_array_equal(mean[np.arange(shape[0]), found.forward[s]], mean.max(axis=1))
        np.testing.assert_array_equal(mean[found.backward[s], np.arange(shape[1])], mean.max(axis=0))
        if not (mean == 0).any():
            np.testing.assert_array_equal(found.forward[s], mean.argmax(axis=1))
            np.testing.assert_array_equal(found.backward[s], mean.argmax(axis=0))


def test_the_lowest_index_wins_across_blocks():
    flat = np.ones((50, 700), np.float32)
    found = weighted_nearest((flat, flat, flat), np.full((1, 3), 1 / 3, np.float32))
    assert not found.forward.any()
    assert not found.backward.any()
    flat[30, 500] = 2
    found = weighted_nearest((flat, flat, flat), np.full((1, 3), 1 / 3, np.float32))
    assert (found.forward[0, 30], found.backward[0, 500]) == (500, 30)
    assert found.similarity[0, 30] == pytest.approx(2)

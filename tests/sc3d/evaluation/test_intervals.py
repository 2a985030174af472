"""Intervals of counted shares against published values, their coverage, and which differences they leave open."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sc3d.evaluation.intervals import is_told_apart, share_interval


def test_none_of_a_few_is_not_none_of_all() -> None:
    low, high = share_interval(0, 29)
    # Wilson without correction: z^2 / (n + z^2), z = 1.96.
    assert low == pytest.approx(0.0, abs=1e-12)
    assert high == pytest.approx(1.959964**2 / (29 + 1.959964**2))


def test_newcombes_own_examples() -> None:
    # Newcombe, Statistics in Medicine 17 (1998), 857-872, tables I and II: 81 of 263 (0.2553 to 0.3662), 15 of 148 (0.0624 to 0.1605),
    # and the difference of 56 of 70 and 48 of 80, 0.0524 to 0.3339, which leaves out zero.
    assert share_interval(81, 263) == (pytest.approx(0.2553, abs=1e-4), pytest.approx(0.3662, abs=1e-4))
    assert share_interval(15, 148) == (pytest.approx(0.0624, abs=1e-4), pytest.approx(0.1605, abs=1e-4))
    assert is_told_apart((56, 70), (48, 80))
    assert not is_told_apart((9, 10), (3, 4))


def test_it_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    for truth in (0.02, 0.2):
        counts = rng.binomial(60, truth, 400).tolist()
        held = np.mean([low <= truth <= high for low, high in (share_interval(count, 60) for count in counts)])
        assert held > 0.9


@given(st.integers(1, 500), st.integers(1, 500), st.data())
def test_shares_are_in_their_intervals_and_the_order_of_two_does_not_matter(total: int, other: int, data: st.DataObject) -> None:
    one = data.draw(st.integers(0, total)), total
    two = data.draw(st.integers(0, other)), other
    low, high = share_interval(*one)
    assert -1e-12 <= low <= one[0] / total + 1e-12
    assert one[0] / total - 1e-12 <= high <= 1 + 1e-12
    assert is_told_apart(one, two) == is_told_apart(two, one)
    assert not is_told_apart(one, one)

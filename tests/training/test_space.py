"""What a setting may be: values are told apart from those outside, and go through a search algorithm and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.space import Choice, Range, contains, decoded, encoded

SPACE = {"weights": Choice(((0.5, 0.5), (1.0, 0.0))), "negatives": Choice(("labels", "map")), "rate": Range(1e-3, 2e-2, log=True)}


def test_what_lies_in_a_space() -> None:
    assert contains(Choice((0.1, "a")), "a")
    assert not contains(Choice((0.1,)), 0.2)
    assert contains(Range(1, 2), 1.5)
    assert contains(Range(1, 2), 1)
    assert contains(Range(1, 2), 2)
    assert not contains(Range(1, 2), 3)
    assert not contains(Range(1, 2), 0.9)
    assert not contains(Range(1, 2), "1.5")


@given(st.sampled_from(SPACE["weights"].values), st.sampled_from(SPACE["negatives"].values))
def test_values_of_any_kind_go_through_a_search_algorithm_as_their_places(weights: object, negatives: object) -> None:
    settings = {"weights": weights, "negatives": negatives}
    places = encoded(SPACE, settings)
    assert all(isinstance(place, int) for place in places.values())
    assert decoded(SPACE, places) == settings


@given(st.floats(1e-3, 2e-2))
def test_a_number_is_read_with_three_digits_and_stays_in_its_range(rate: float) -> None:
    read = decoded(SPACE, {"rate": rate})["rate"]
    assert read == pytest.approx(rate, rel=5e-3)
    assert len(f"{read:g}".partition("e")[0].lstrip("0.")) <= 3
    assert contains(SPACE["rate"], read)


def test_rounding_never_leaves_the_range() -> None:
    narrow = {"rate": Range(0.10014, 0.10016)}
    assert decoded(narrow, {"rate": 0.10015}) == {"rate": 0.10014}
    assert decoded({"rate": Range(1000, 2000)}, {"rate": 1234}) == {"rate": 1234}, "whole numbers are not rounded"


def test_a_value_that_is_not_among_the_choices_has_no_place() -> None:
    with pytest.raises(ValueError):
        encoded(SPACE, {"negatives": "other"})

"""Each filter tests what its name says."""

import numpy as np
import pytest

from sc3d.config import LabelConfig
from sc3d.errors import ConfigError
from sc3d.matching import filters
from sc3d.matching.explain import CYCLE, GEODESIC, Explanation
from sc3d.matching.filters import (
    FILTERS,
    MAX_BOX_DISTANCE,
    MAX_DIRECTION_ANGLE,
    MAX_POSITION_DISTANCE,
    MIN_SHAPE_COSINE,
    filter_named,
)


def explanation(n: int, **columns: np.ndarray) -> Explanation:
    """``n`` candidates that pass every filter, with some columns replaced."""
    values = {
        "source_cells": np.arange(n),
        "target_cells": np.arange(n),
        "source_xy": np.zeros((n, 2)),
        "target_xy": np.zeros((n, 2)),
        "cosine": np.ones(n),
        "cycle_error": np.zeros(n),
        "geodesic_error": np.zeros(n, np.float32),
        "source_vertex": np.zeros(n, int),
        "target_vertex": np.zeros(n, int),
        "predicted_source": np.zeros(n, int),
        "predicted_target": np.zeros(n, int),
        "shape_cosine": np.ones(n),
        "source_position": np.tile([0.3, 0.0, 0.0], (n, 1)),
        "target_position": np.tile([0.3, 0.0, 0.0], (n, 1)),
        "source_box": np.full((n, 2), 0.5),
        "target_box": np.full((n, 2), 0.5),
        "rejected_by": np.full(n, "", dtype="U16"),
    }
    return Explanation(**(values | columns))


def survivors(e: Explanation) -> dict[str, list[bool]]:
    return {name: filters.survivors(name, e, LabelConfig()).tolist() for name in FILTERS}


def test_all_filters_keep_perfect_candidates():
    assert survivors(explanation(3)) == dict.fromkeys(FILTERS, [True] * 3)


def test_every_filter_but_none_asks_for_the_cycle():
    expected = {name: [name == "none", True] for name in FILTERS}
    assert survivors(explanation(2, rejected_by=np.array([CYCLE, ""]))) == expected


def test_shape_filter():
    cosine = np.array([MIN_SHAPE_COSINE + 0.01, MIN_SHAPE_COSINE - 0.01, np.nan])
    assert survivors(explanation(3, shape_cosine=cosine))["3D-feature similarity"] == [True, False, False]


def test_box_filter():
    near, far = (MAX_BOX_DISTANCE * share / np.sqrt(2) for share in (0.99, 1.01))
    target = np.array([[0.5 + near, 0.5 - near], [0.5 - far, 0.5 - far]])
    assert survivors(explanation(2, target_box=target))["position in the 2D box"] == [True, False]


def test_position_and_direction_filters():
    near, far, angle = MAX_POSITION_DISTANCE * 0.99, MAX_POSITION_DISTANCE * 1.01, np.radians(MAX_DIRECTION_ANGLE + 1)
    target = np.array([[0.3 + near, 0, 0], [0.3 + far, 0, 0], [0.3 * np.cos(angle), 0.3 * np.sin(angle), 0], [np.nan] * 3])
    kept = survivors(explanation(4, target_position=target))
    assert kept["canonical position"] == [True, False, False, False]
    assert kept["canonical direction"] == [True, True, False, False]


def test_geodesic_filter():
    error = np.float32([0.05, 0.051, np.inf])
    kept = survivors(explanation(3, geodesic_error=error, rejected_by=np.array(["", GEODESIC, GEODESIC])))
    assert kept["cycle + geodesic"] == [True, False, False]
    assert kept["cycle"] == [True, True, True]


@pytest.mark.parametrize(
    ("answer", "given"),
    [
        ([True, False, True], "a list"),
        (None, "a NoneType"),
        (np.ones(2, bool), r"an array \(2,\) of bool"),
        (np.ones((3, 1), bool), r"an array \(3, 1\) of bool"),
        (np.arange(3), r"an array \(3,\) of int64"),
        (np.ones(3), r"an array \(3,\) of float64"),
    ],
)
def test_a_filter_that_does_not_answer_for_each_candidate_is_refused(monkeypatch, answer, given):
    monkeypatch.setitem(FILTERS, "mine", lambda explanation, config: answer)
    with pytest.raises(ConfigError, match=rf"filter 'mine' must return an array \(3,\) of bool, .*; it returned {given}"):
        filters.survivors("mine", explanation(3), LabelConfig())


def test_filters_by_name():
    assert filter_named("cycle") is FILTERS["cycle"]
    assert filter_named("sc3d.matching.filters:keep_cycle") is FILTERS["cycle"]
    for name, reason in (
        ("cycles", r"no filter named 'cycles' \(did you mean cycle"),
        ("sc3d.matching.filters:MIN_SHAPE_COSINE", "must be a function of an Explanation and a LabelConfig, not 0.8"),
    ):
        with pytest.raises(ConfigError, match=reason):
            filter_named(name)

"""Each filter tests what its name says."""

import numpy as np

from sc3d.config import LabelConfig
from sc3d.matching.explain import CYCLE, GEODESIC, Explanation
from sc3d.matching.filters import FILTERS, MAX_DIRECTION_ANGLE, MAX_POSITION_DISTANCE, MIN_SHAPE_COSINE


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
        "rejected_by": np.full(n, "", dtype="U16"),
    }
    return Explanation(**(values | columns))


def survivors(e: Explanation) -> dict[str, list[bool]]:
    return {name: keeps(e, LabelConfig()).tolist() for name, keeps in FILTERS.items()}


def test_all_filters_keep_perfect_candidates():
    assert survivors(explanation(3)) == dict.fromkeys(FILTERS, [True] * 3)


def test_every_filter_but_none_asks_for_the_cycle():
    expected = {name: [name == "none", True] for name in FILTERS}
    assert survivors(explanation(2, rejected_by=np.array([CYCLE, ""]))) == expected


def test_shape_filter():
    cosine = np.array([MIN_SHAPE_COSINE + 0.01, MIN_SHAPE_COSINE - 0.01, np.nan])
    assert survivors(explanation(3, shape_cosine=cosine))["3D-feature similarity"] == [True, False, False]


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

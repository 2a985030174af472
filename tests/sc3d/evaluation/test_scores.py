"""Records of scored pairs: storage, and the counts of what was not scored."""

import numpy as np
import pytest

from sc3d.errors import SchemaError
from sc3d.evaluation.filter_quality import FilterCounts
from sc3d.evaluation.pck import PckPair
from sc3d.evaluation.scores import FilterScore, PairScore, count_scores
from sc3d.schema import from_table, to_table


def predictions() -> list[PckPair]:
    return [
        PckPair(
            "a~b", "bus", f"m {readout}", np.array([3, 8]), np.array([0.1, k]), np.array([True, False]), np.array([False, True]),
            np.array([[1, 2], [k, 4]]),
        )
        for k, readout in ((5.0, "nearest"), (6.0, "window"))
    ]  # fmt: skip


def test_scores_survive_storage():
    score = PairScore.of("a~b", "bus", "test", predictions(), outside=1, flipped=True)
    [stored] = from_table(PairScore, to_table(PairScore, [score]))
    for before, after in zip(predictions(), stored.predictions(), strict=True):
        assert before.method == after.method
        for name in ("keypoint_ids", "distances", "nearest_own", "geo_aware", "predicted_xy"):
            np.testing.assert_array_equal(getattr(before, name), getattr(after, name))
    assert (stored.outside, stored.flipped) == (1, True)


def test_columns_must_fit():
    with pytest.raises(SchemaError, match="a~b: 4 distances do not fit"):
        PairScore.of("a~b", "bus", "test", predictions()).replace(methods=("one",))


def test_what_was_not_scored_is_counted():
    scores = [PairScore.of("a~b", "bus", "test", predictions(), 1, True), PairScore.of("b~a", "bus", "test", ())]
    count = count_scores("m", 4, scores)
    assert (count.pairs, count.rejected, count.without_common, count.keypoints, count.outside, count.flipped) == (4, 2, 1, 2, 1, 1)


def test_filter_counts_survive_storage():
    judged = [FilterCounts("none", "2D", 9, 3, 1), FilterCounts("cycle", "2D", 4, 2, 0)]
    [stored] = from_table(FilterScore, to_table(FilterScore, [FilterScore.of("a~b", "bus", "val", judged)]))
    assert stored.filter_counts() == judged

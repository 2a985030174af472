"""Filter quality: counted by hand on a scene whose candidates are known."""

import math

import numpy as np
import pytest

from sc3d.config import LabelConfig, MatchConfig
from sc3d.errors import InputError
from sc3d.evaluation.filter_quality import COPY, FilterCounts, filter_quality, judge, summarise
from sc3d.matching.described import Described
from sc3d.matching.explain import explain_pair
from sc3d.matching.filters import FILTERS
from sc3d.records import ImageRecord


def annotate(image_id: str, xy: np.ndarray, bbox: list[float] | None) -> ImageRecord:
    box = None if bbox is None else np.array(bbox)
    return ImageRecord(image_id, "x.jpg", "toy", "val", bbox=box, keypoint_ids=np.arange(len(xy)), keypoint_xy=xy)


@pytest.fixture
def pair(make_features):
    source, target = (Described(make_features(i, f"i{i}", n_foreground=80, n_vertices=200), MatchConfig()) for i in (1, 2))
    return source, target, explain_pair(source, target, LabelConfig())


def test_counts_equal_a_count_by_hand(pair):
    source, target, explanation = pair
    rows = np.arange(0, 80, 3)
    offsets = np.where(np.arange(len(rows)) % 2 == 0, 9.0, 11.0)  # alpha * box = 10 px: even ones right, odd ones wrong
    truth = explanation.target_xy[rows] + offsets[:, None] * [1.0, 0.0]
    background = source.letterbox.centres(np.setdiff1d(np.arange(144), source.cells)[:2])
    images = (
        annotate("i1", np.concatenate([explanation.source_xy[rows], background]), None),
        annotate("i2", np.concatenate([truth, background]), [0, 0, 100, 40]),
    )
    copied, *counts = filter_quality(source, target, images, LabelConfig(), "SD+DINO+3D")
    assert (copied.filter, copied.kept, copied.judged) == (COPY, 80, 27)
    assert [count.filter for count in counts] == list(FILTERS)
    for count in counts:
        keep = FILTERS[count.filter](explanation, LabelConfig())
        assert count.descriptors == "SD+DINO+3D"
        assert count.kept == sum(keep)
        assert count.judged == sum(keep[r] for r in rows)
        assert count.wrong == sum(keep[r] and offset == 11 for r, offset in zip(rows, offsets, strict=True))
    none = filter_quality(source, target, images, LabelConfig(), "x")[1]
    assert (none.filter, none.kept, none.judged, none.wrong) == ("none", 80, 27, 13)


def test_the_control_is_right_where_objects_lie_alike(pair):
    source, target, _ = pair
    assert set(source.cells) != set(target.cells)
    centres = source.letterbox.centres(source.cells), target.letterbox.centres(target.cells)
    boxes = [(xy.min(axis=0) - 7, xy.max(axis=0) + 7) for xy in centres]
    places = (centres[1] - boxes[1][0]) / (boxes[1][1] - boxes[1][0])
    # Where the target has a cell at the same place of the box, that is what the control takes.
    shown = [
        i
        for i, xy in enumerate(boxes[0][0] + places * (boxes[0][1] - boxes[0][0]))
        if source.letterbox.cells_of(xy[None])[0] in source.cells
    ]
    source_xy = source.letterbox.centres(source.letterbox.cells_of((boxes[0][0] + places * (boxes[0][1] - boxes[0][0]))[shown]))
    for shift, wrong in ((0.0, 0), (500.0, len(shown))):
        images = annotate("i1", source_xy, None), annotate("i2", centres[1][shown] + [shift, 0], [0, 0, 400, 400])
        control = filter_quality(source, target, images, LabelConfig(), "x")[0]
        assert (control.judged, control.wrong) == (len(shown), wrong)


def test_threshold_is_strict(pair):
    source, _, explanation = pair
    truth = np.float32(np.round(explanation.target_xy[:1] * 16) / 16)  # exact in float32, as the manifest stores it
    exact = np.hypot(*(explanation.target_xy[0] - truth[0]))
    assert exact < 0.1
    images = annotate("i1", explanation.source_xy[:1], None), annotate("i2", truth + np.float32([10 + 0.1, 0]), [0, 0, 100, 1])
    assert judge(explanation, source.letterbox, images)[1].tolist() == [False]


def test_target_box_is_needed(pair):
    source, target, _ = pair
    images = annotate("i1", np.zeros((1, 2)), None), annotate("i2", np.zeros((1, 2)), None)
    with pytest.raises(InputError, match="i2: the quality of filters needs the target's box"):
        filter_quality(source, target, images, LabelConfig(), "x")


def test_a_pair_without_candidates_counts_as_a_pair(make_features):
    source, target = (Described(make_features(i, f"i{i}", n_foreground=n), MatchConfig()) for i, n in ((1, 0), (2, 60)))
    images = annotate("i1", np.zeros((1, 2)), None), annotate("i2", np.zeros((1, 2)), [0, 0, 9, 9])
    counts = filter_quality(source, target, images, LabelConfig(), "x")
    assert {(c.kept, c.judged, c.wrong) for c in counts} == {(0, 0, 0)}


def test_summary_pools_keypoints_and_averages_kept():
    pairs = [
        [FilterCounts("none", "2D", 100, 10, 4), FilterCounts("cycle", "2D", 50, 0, 0)],
        [FilterCounts("none", "2D", 200, 30, 6), FilterCounts("cycle", "2D", 60, 0, 0)],
        [FilterCounts("none", "3D", 10, 1, 1)],
    ]
    none, cycle, other = summarise(pairs)
    assert (none.filter, none.descriptors, none.fpr, none.kept, none.pairs) == ("none", "2D", 10 / 40, 150.0, 2)
    assert math.isnan(cycle.fpr)
    assert cycle.kept == 55.0
    assert (other.descriptors, other.fpr, other.pairs) == ("3D", 1.0, 1)
    assert summarise([]) == []

"""The counts of a grid of weights and thresholds against judging each setting alone."""

from itertools import product

import numpy as np
import pytest

from sc3d.config import LabelConfig, MatchConfig
from sc3d.errors import SchemaError
from sc3d.evaluation.filter_quality import filter_quality
from sc3d.evaluation.setting_counts import SettingCounts, count_settings
from sc3d.matching.described import Described
from sc3d.matching.explain import explain_pair
from sc3d.matching.weight_grid import GroupedImage
from sc3d.records import ImageRecord

WEIGHTS = [MatchConfig(), MatchConfig(alpha=0.6, beta=0.4), MatchConfig(alpha=0.0, beta=0.5)]
TAU_CC, TAU_GEO = (0.3, 0.05, 0.1, 0.1), (0.02, 0.2, 0.1)


@pytest.mark.parametrize("covered", [None, 90])
def test_counts_equal_those_of_each_setting_alone(make_features, covered):
    features = [make_features(i, f"i{i}", n_foreground=100, n_covered=covered) for i in (3, 4)]
    explanation = explain_pair(*(Described(f, MatchConfig()) for f in features), LabelConfig())
    rows = np.arange(len(explanation))
    truth = explanation.target_xy + np.where(rows % 2 == 0, 1.0, 30.0)[:, None]
    annotations = tuple(
        ImageRecord(f"i{i}", "x.jpg", "toy", "val", bbox=np.array([0, 0, 100, 40]), keypoint_ids=rows, keypoint_xy=xy)
        for i, xy in enumerate((explanation.source_xy, truth), 3)
    )
    counts = count_settings(*(GroupedImage(f, MatchConfig()) for f in features), annotations, WEIGHTS, TAU_CC, TAU_GEO)
    assert counts.shape == (3, 4, 3, 3)
    assert counts[..., 2].max() > 0
    assert (counts[..., 1] - counts[..., 2]).max() > 0
    for (s, setting), (c, cc), (g, geo) in product(enumerate(WEIGHTS), enumerate(TAU_CC), enumerate(TAU_GEO)):
        images = [Described(f, setting) for f in features]
        alone = filter_quality(*images, annotations, LabelConfig(cc, geo), "x")[-1]
        assert alone.filter == "cycle + geodesic"
        assert counts[s, c, g].tolist() == [alone.kept, alone.judged, alone.wrong]


def test_an_image_without_cells_counts_nothing(make_features):
    empty, full = (
        GroupedImage(make_features(i, name, n_foreground=n), MatchConfig()) for i, (name, n) in enumerate([("e", 0), ("f", 60)])
    )
    point = np.ones((1, 2))
    images = tuple(
        ImageRecord(i, "x.jpg", "toy", "val", bbox=np.array([0, 0, 9, 9]), keypoint_ids=[0], keypoint_xy=point) for i in "ef"
    )
    assert not count_settings(empty, full, images, WEIGHTS, TAU_CC, TAU_GEO).any()


def test_impossible_counts_are_no_record():
    with pytest.raises(SchemaError, match="more wrong keypoints"):
        SettingCounts("a~b", "toy", np.array([[5, 1, 2]]))

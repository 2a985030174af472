"""The evaluation's pictures: bars by category, which pairs are the worst, and where a pair's keypoints are drawn."""

import math
import re

import numpy as np
import pytest

from sc3d.evaluation.pck import PckPair
from sc3d.grid import Letterbox
from sc3d.records import ImageRecord
from sc3d.report.charts import Series, bars
from sc3d.report.keypoints import keypoint_figure, worst_pairs
from sc3d.report.pairs import View


def prediction(pair_id: str, distances: list[float], category: str = "bus", xy: list[list[float]] | None = None) -> PckPair:
    n = len(distances)
    return PckPair(
        pair_id,
        category,
        "m",
        np.arange(n),
        np.array(distances),
        np.ones(n, bool),
        np.zeros(n, bool),
        np.array(xy or [[0, 0]] * n).reshape(n, 2),
    )


def test_bars_are_as_long_as_their_values():
    series = [
        Series("zero-shot", np.array([0.2, 0.4]), "series-a"),
        Series("<adapter>", np.array([0.5, math.nan]), "series-b"),
    ]
    chart = str(bars(series, ["bus", "cat & dog"], "PCK"))
    widths = {title: float(width) for width, title in re.findall(r'<rect[^>]* width="([\d.]+)"[^>]*><title>(.*?)</title>', chart)}
    assert set(widths) == {"bus, zero-shot: 20.0 %", "cat &amp; dog, zero-shot: 40.0 %", "bus, &lt;adapter&gt;: 50.0 %"}
    assert widths["cat &amp; dog, zero-shot: 40.0 %"] == pytest.approx(2 * widths["bus, zero-shot: 20.0 %"], abs=0.2)
    assert widths["bus, &lt;adapter&gt;: 50.0 %"] == pytest.approx(2.5 * widths["bus, zero-shot: 20.0 %"], abs=0.3)
    assert "<adapter>" not in chart


def test_the_worst_pairs_come_first_and_a_few_of_each_category():
    found = [
        prediction("good~b", [0.01, 0.02]),
        prediction("half~b", [0.01, 0.5]),
        prediction("far~b", [0.9, 0.9]),
        prediction("near~b", [0.2, 0.2]),
        prediction("cat~b", [0.3], "cat"),
        prediction("none~b", []),
    ]
    assert [p.pair_id for p in worst_pairs(found, 9, 9)] == ["far~b", "cat~b", "near~b", "half~b", "good~b"]
    assert [p.pair_id for p in worst_pairs(found, 3, 1)] == ["far~b", "cat~b"]
    assert [p.pair_id for p in worst_pairs(found, 2, 9)] == ["far~b", "cat~b"]
    both_ways = [prediction("a~b", [0.5]), prediction("b~a", [0.6]), prediction("a~c", [0.4])]
    assert [p.pair_id for p in worst_pairs(both_ways, 9, 9)] == ["b~a", "a~c"]


def test_keypoints_are_drawn_where_they_are():
    """Two photos of 100 x 50 pixels, whole: a figure unit is the same on both, and the target begins after the source and a gap."""
    box = Letterbox(100, 50)
    view = View(np.zeros((50, 100, 3), np.uint8), box, np.zeros((60, 60), bool))
    source = ImageRecord("s", "s.png", "bus", keypoint_ids=np.array([4, 7]), keypoint_xy=np.array([[10, 10], [90, 40]]))
    target = ImageRecord("t", "t.png", "bus", keypoint_ids=np.array([7, 4]), keypoint_xy=np.array([[20, 30], [50, 25]]))
    pair = prediction("s~t", [0.05, 0.5], xy=[[52, 25], [80, 5]])
    pair = pair.replace(keypoint_ids=np.array([4, 7]))
    figure = keypoint_figure(pair, (source, target), (view, view))
    assert (figure.right, figure.total) == (1, 2)
    first, second = figure.marks
    scale = figure.source.width / 100
    assert (first.keypoint, first.right, second.keypoint, second.right) == (4, True, 7, False)
    np.testing.assert_allclose(first.source, (figure.source.x + 10 * scale, 10 * scale), atol=0.1)
    np.testing.assert_allclose(first.truth, (figure.target.x + 50 * scale, 25 * scale), atol=0.1)
    np.testing.assert_allclose(first.predicted, (figure.target.x + 52 * scale, 25 * scale), atol=0.1)
    np.testing.assert_allclose(second.truth, (figure.target.x + 20 * scale, 30 * scale), atol=0.1)
    assert first.colour != second.colour

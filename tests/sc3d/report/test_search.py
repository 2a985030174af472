"""The page of a search: its charts say what the rows say, and what was not searched is said."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sc3d.report.page import Missing
from sc3d.report.search import AdapterPart, LabelPart, SearchPage, adapter_part, label_part, render
from sc3d.report.search_charts import SettingPoint, WeightsPoint, frontier_of, shade, shares, triangle
from sc3d.report.search_verdict import verdict

EVIL = "<script>alert(1)</script>"
POINTS = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=30)


@given(POINTS)
def test_the_frontier_is_what_no_setting_beats(values: list[tuple[int, int]]) -> None:
    points = [SettingPoint(kept, wrong, "") for kept, wrong in values]
    found = frontier_of(points)
    # The reference: compare all with all.
    unbeaten = {
        (p.kept, p.wrong)
        for p in points
        if not any(q.kept >= p.kept and q.wrong <= p.wrong and (q.kept, q.wrong) != (p.kept, p.wrong) for q in points)
    }
    assert {(p.kept, p.wrong) for p in found} == unbeaten
    assert [p.kept for p in found] == sorted((p.kept for p in found), reverse=True)


def test_shares_give_the_best_value_the_brightest_colour() -> None:
    assert shares([1.0, 3.0, None, 2.0], lower_is_better=True) == [1.0, 0.0, None, 0.5]
    assert shares([1.0, 3.0], lower_is_better=False) == [0.0, 1.0]
    assert shares([2.0, 2.0], lower_is_better=True) == [0.5, 0.5]
    assert shares([None], lower_is_better=True) == [None]
    assert shade(0.0) == "#4a3a80"
    assert shade(1.0) == shade(7.0) == "#e3b010"


def test_a_setting_is_where_its_weights_put_it() -> None:
    corners = [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1 / 3, 1 / 3, 1 / 3)]
    chart = triangle([WeightsPoint(*w, 1.0, "") for w in corners], 3, "wrong, %", lower_is_better=True)
    places = [tuple(float(v) for v in m) for m in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', chart)]
    alpha, beta, gamma, middle = places
    assert alpha[0] < gamma[0] < beta[0]
    assert alpha[1] == beta[1] > gamma[1]
    for k in (0, 1):
        assert middle[k] == pytest.approx(sum(p[k] for p in (alpha, beta, gamma)) / 3, abs=0.1)


def _setting(alpha: float, tau_geo: float, fpr: float | None, kept: float, **more: Any) -> dict[str, Any]:
    own = {"alpha": alpha, "beta": 0.5, "gamma": 0.5 - alpha, "tau_cc": 0.05, "tau_geo": tau_geo}
    return {**own, "fpr": fpr, "kept": kept, "judged": 10, "pck": None, "present": False, **more}


def _labels(objective: str = "fpr") -> LabelPart:
    rows = [
        _setting(0.5, 0.05, 0.02, 120.0, pck=0.6),
        _setting(0.25, 0.05, 0.03, 110.0, pck=0.5, present=True),
        _setting(0.25, 0.02, 0.0, 10.0, pck=0.5),
        _setting(0.0, 0.05, None, 0.0, pck=0.4),
    ]
    found = {"rows": rows, "wanted": 100.0, "objective": objective, "pairs": 7, "steps": 4}
    return label_part(found, "match:\n  alpha: 0.5\n", "sweeps/best.yaml", "sc3d label --config x")


def _adapter(**changes: Any) -> AdapterPart | None:
    curve = [[2, 0.25, 1.0], [4, 0.5, 0.9]]
    rows = [
        {"settings": {"train.noise": 0.5, "train.learning_rate": 0.01}, "pck": 0.5, "steps": 4, "curve": curve, "error": None},
        {
            "settings": {"train.noise": 0.0, "train.learning_rate": 0.001},
            "pck": 0.25,
            "steps": 2,
            "curve": curve[:1],
            "error": None,
        },
        {"settings": {"train.noise": 0.0, "train.learning_rate": 0.002}, "pck": None, "steps": 0, "curve": [], "error": EVIL},
    ]
    space = {"train.noise": [0.0, 0.5], "train.learning_rate": {"low": 0.001, "high": 0.01, "log": True}}
    return adapter_part({"rows": rows, "steps": 4, "space": space, **changes}, "train:\n", "sweeps/best-adapter.yaml", "sc3d train")


def _page(labels: LabelPart | None, adapter: AdapterPart | None) -> str:
    gaps = (Missing("Not searched yet.", "sc3d sweep"), Missing("No trial.", "sc3d sweep --level adapter"))
    return render(SearchPage("runs/x", (), labels, adapter, *gaps))


def test_the_page_shows_both_levels() -> None:
    page = _page(_labels(), _adapter())
    assert "4 settings" in page
    assert "at least 100" in page
    assert "never enough labels" in page
    assert "too few labels" in page
    assert "3 trials of up to 4 steps" in page
    assert "1 of them was stopped early, 1 failed" in page
    assert EVIL not in page
    assert "&lt;script&gt;alert(1)" in page
    assert page.count('class="trial best"') == 2
    assert 'class="weights best"' in page
    assert 'class="weights present"' in page


def test_the_interval_of_each_setting_is_beside_it_and_in_words() -> None:
    rows = [
        _setting(0.5, 0.05, 0.0, 120.0, judged=29),
        _setting(0.25, 0.05, 1 / 29, 110.0, judged=29, present=True),
        _setting(0.25, 0.1, 0.5, 110.0, judged=200),
    ]
    part = label_part({"rows": rows, "wanted": 100.0, "objective": "fpr", "pairs": 7, "steps": 4}, "", "", "")
    column = part.table.names.index("95 %")
    assert [row.cells[column] for row in part.table.rows] == ["0.0 to 11.7", "0.6 to 17.2", "43.1 to 56.9"]
    assert part.verdict == (
        "The best setting has 0 of 29 judged points wrong (95 %: 0.0 to 11.7 %). "
        "The present one has 1 of 29 judged points wrong (95 %: 0.6 to 17.2 %): "
        "that difference is within chance, so they are not told apart. "
        "Of the 2 others that keep enough labels, 1 is not told apart from the best."
    )
    assert part.verdict in _page(part, None)


def test_what_is_better_than_by_chance_is_called_so_and_what_was_not_judged_is_not() -> None:
    rows = [_setting(0.5, 0.05, 0.01, 120.0, judged=1000), _setting(0.25, 0.05, 0.2, 110.0, judged=1000, present=True)]
    assert "they differ by more than chance" in verdict(rows, 100.0)
    assert "not told apart" not in verdict(rows, 100.0)
    assert verdict([_setting(0.5, 0.05, None, 0.0, judged=0)], 1.0) == ""


def test_with_pck_as_the_objective_each_weights_has_one_row() -> None:
    part = _labels("pck")
    assert part.table.names[-1] == "PCK@0.10"
    assert [row.cells[0] for row in part.table.rows] == ["0.5", "0.25", "0"]


def test_a_level_that_was_not_searched_says_how() -> None:
    page = _page(None, None)
    assert "sc3d sweep --level adapter" in page
    assert "<svg" not in page


def test_a_search_whose_trials_all_failed_has_no_charts() -> None:
    assert _adapter(rows=[{"settings": {}, "pck": None, "steps": 0, "curve": [], "error": "bad"}]) is None

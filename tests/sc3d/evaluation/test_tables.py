"""Rows of metrics.json and the text table."""

import json
import math

import numpy as np
import pytest

from sc3d.evaluation.filter_quality import FilterQuality
from sc3d.evaluation.pck import PckPair
from sc3d.evaluation.published import published_filter_rows, published_pck_rows
from sc3d.evaluation.tables import filter_rows, pck_rows, text_table


def record(method: str, category: str, distances: list[float], geo: bool = False, own: bool = True) -> PckPair:
    n = len(distances)
    return PckPair("a~b", category, method, np.arange(n), np.array(distances), np.full(n, own), np.full(n, geo))


PAIRS = [
    record("x nearest", "cat", [0.02]),
    record("x nearest", "dog", [0.02, 0.2], geo=True, own=False),
    record("x window", "cat", [0.2]),
]


def test_pck_rows_cover_methods_subsets_alphas_and_averages():
    rows = pck_rows(PAIRS, "toys", (0.1, 0.05, 0.01))
    assert set(rows[0]) == {"method", "dataset", "subset", "alpha", "average", "value", "pairs"}
    by_key = {(r["method"], r["subset"], r["alpha"], r["average"]): (r["value"], r["pairs"]) for r in rows}
    assert len(by_key) == len(rows) == (4 + 2) * 3 * 2
    assert by_key["x nearest", "all", 0.1, "image"] == (0.75, 2)
    assert by_key["x nearest", "all", 0.1, "keypoint"] == (pytest.approx(2 / 3), 2)
    assert by_key["x nearest", "geo-aware", 0.05, "image"] == (0.5, 1)
    assert by_key["x nearest", "category:cat", 0.01, "image"] == (0.0, 1)
    assert by_key["x window", "all", 0.1, "image"] == (0.0, 1)
    assert ("x window", "geo-aware", 0.1, "image") not in by_key


def test_dagger_is_a_subset_of_its_own():
    rows = pck_rows(PAIRS, "toys", (0.1,), own=True)
    assert [r["value"] for r in rows if (r["method"], r["subset"], r["average"]) == ("x nearest", "all, nearest own", "image")] == [
        0.5
    ]


def test_filter_rows_are_json():
    rows = filter_rows([FilterQuality("none", "SD+DINO", 0.25, 1500.0, 4), FilterQuality("cycle", "SD+DINO", math.nan, 0.0, 4)])
    assert json.loads(json.dumps(rows, allow_nan=False)) == [
        {"filter": "none", "descriptors": "SD+DINO", "fpr": 0.25, "kept": 1500.0, "pairs": 4},
        {"filter": "cycle", "descriptors": "SD+DINO", "fpr": None, "kept": 0.0, "pairs": 4},
    ]


def test_published_rows_are_marked_and_as_printed():
    pck, filters = published_pck_rows(), published_filter_rows()
    assert all(r["published"] is True for r in pck + filters)
    json.dumps(pck + filters, allow_nan=False)
    value = {(r["method"], r["dataset"], r["subset"], r["alpha"]): r["value"] for r in pck}
    assert value["3D-SC", "SPair-71k", "all", 0.1] == 0.730
    assert value["DIY-SC with OrientAnything", "SPair-71k", "all", 0.01] == 0.095
    assert value["3D-SC", "SPair-71k", "geo-aware", 0.05] == 0.501
    assert value["3D-SC", "AP-10K cross-family", "all", 0.1] == 0.569
    rates = {(r["filter"], r["descriptors"]): (r["fpr"], r["kept"]) for r in filters}
    assert rates["bicyclic geodesic", "SD+DINO+3D"] == (0.0178, 1634)
    assert rates["spherical mapper", "SD+DINO"] == (0.1095, 1856)


def test_text_table_shows_percent_and_origin():
    text = text_table(pck_rows(PAIRS[:1], "toys", (0.1,)) + published_pck_rows()[:1], title="PCK", width=160)
    assert "100.0 %" in text
    assert "6.3 %" in text
    assert "measured" in text
    assert "published" in text
    assert text.count("\n") < 12
    assert "origin" not in text_table(filter_rows([FilterQuality("none", "SD", math.nan, 12.3456, 4)]))
    assert "12.3 " in text_table(filter_rows([FilterQuality("none", "SD", math.nan, 12.3456, 4)]))
    assert text_table([], title="nothing")

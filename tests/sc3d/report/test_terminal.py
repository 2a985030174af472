"""The tables of an evaluation in the terminal: what is measured, what is left out, and nothing of others taken for markup."""

from __future__ import annotations

import io
from typing import Any

from sc3d.console import PlainConsole
from sc3d.report.terminal import print_metrics

METRICS: dict[str, Any] = {
    "filters": [{"filter": "cycle + geodesic", "descriptors": "[red]2D[/]", "fpr": 0.02, "kept": 400.0, "pairs": 40}],
    "pck": [
        {"method": m, "dataset": "toys", "subset": s, "alpha": a, "average": "image", "value": v, "pairs": 40}
        for m, v in (("zero-shot", 0.512), ("adapter", 0.734))
        for s in ("all", "geo-aware", "category:cup")
        for a in (0.1, 0.05)
    ],
}
COUNT = {"method": "a", "pairs": 1234, "rejected": 0, "without_common": 0, "outside": 0, "keypoints": 5678}


def printed(metrics: dict[str, Any]) -> str:
    stream = io.StringIO()
    print_metrics(metrics, PlainConsole(file=stream, width=100))
    return stream.getvalue()


def test_filters_and_pck_are_shown() -> None:
    text = printed(METRICS)
    assert "2.0 %" in text
    line = next(line for line in text.splitlines() if line.strip().startswith("adapter"))
    assert line.split() == ["adapter", "73.4", "%", "73.4", "%"]
    assert "look-alikes" in text.partition("method")[0]
    assert text.count("geo-aware") == 1, "what files call them, once below the table"
    assert "cup" not in text
    assert "0.05" not in text
    assert "[red]2D[/]" in text
    assert "keypoints" not in text


def test_what_was_not_measured_is_a_dash() -> None:
    rows = [{**row, "value": None if row["method"] == "adapter" else row["value"]} for row in METRICS["pck"]]
    filters = [{**METRICS["filters"][0], "fpr": None}]
    text = printed({"filters": filters, "pck": rows})
    assert next(line for line in text.splitlines() if line.strip().startswith("adapter")).split() == ["adapter", "-", "-"]
    assert next(line for line in text.splitlines() if line.strip().startswith("cycle + geodesic")).split()[-2:] == ["-", "400"]


def test_what_the_tables_leave_out_is_said_once_for_all_methods() -> None:
    odd = {**COUNT, "rejected": 3, "without_common": 4, "outside": 5}
    text = " ".join(printed({**METRICS, "counts": [odd, {**odd, "method": "b"}]}).split())
    said = "1,234 pairs, 5,678 keypoints; 3 pairs could not be scored; 4 pairs show no keypoint in both images; "
    assert text.count(f"{said}5 keypoints lie outside of their image") == 1
    plain = printed({**METRICS, "counts": [COUNT]})
    assert "1,234 pairs, 5,678 keypoints" in plain
    assert "could not" not in plain


def test_pairs_without_the_prior_that_a_method_asks_for_are_said_of_that_method() -> None:
    counts = [{**COUNT, "without_prior": 0}, {**COUNT, "method": "light-template", "without_prior": 217}]
    text = " ".join(printed({**METRICS, "counts": counts}).split())
    assert text.count("light-template: 217 of 1,234 pairs were predicted without the template's prior") == 1
    assert text.count("prior") == 1
    # An evaluation of before knows nothing of it.
    assert "prior" not in printed({**METRICS, "counts": [COUNT]})


def test_nothing_evaluated_is_said() -> None:
    text = printed({"filters": [], "pck": []})
    assert "No annotated pair was evaluated" in text
    assert "PCK@" not in text

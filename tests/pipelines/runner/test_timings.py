"""What stages took is added up over the runs of a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.runner.stage import StageSummary
from pipelines.runner.timings import LEAST_COUNTED, Cost, cost_of_thousand, read_summaries, record_summary
from sc3d.store import RunFolder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def test_counters_and_seconds_of_all_runs_are_added_up(run: RunFolder) -> None:
    record_summary(run, StageSummary("match", 10, 6, 0, 1.0, {"reads": 5}, 2.0, 0.5))
    record_summary(run, StageSummary("match", 10, 0, 0, 9.0, {}, 9.0, 9.0))
    record_summary(run, StageSummary("match", 12, 4, 1, 1.5, {"reads": 2, "labels": 7}, 3.0, 0.5))
    record_summary(run, StageSummary("orient", 3, 3, 0, 1.0))
    match, orient = read_summaries(run, ("match", "orient"))
    assert match == {
        "stage": "match", "seconds": 2.5, "items": 12, "rejects": 1, "counters": {"reads": 7, "labels": 7}, "counted": 10
    }  # fmt: skip
    assert (orient["counters"], orient["counted"]) == ({}, 0)
    values = run.read_json("timings/match.json")
    assert (values["cpu_seconds"], values["gpu_seconds"], values["all_computed"], values["computed"]) == (5.0, 1.0, 10, 4)


def test_stages_come_in_the_order_that_was_asked_for_and_only_those_that_have_run(run: RunFolder) -> None:
    for name in ("label", "match"):
        record_summary(run, StageSummary(name, 1, 1, 0, 1.0))
    assert [row["stage"] for row in read_summaries(run, ("match", "describe", "label"))] == ["match", "label"]
    assert read_summaries(run, ("describe",)) == []


def test_a_thousand_costs_what_all_its_stages_took_of_each(run: RunFolder) -> None:
    record_summary(run, StageSummary("match", 100, 50, 0, 1.0, cpu_seconds=180.0, gpu_seconds=90.0))
    assert cost_of_thousand(run, ["match", "label"]) is None, "labels were not made yet"
    record_summary(run, StageSummary("label", 100, 0, 0, 1.0))
    assert cost_of_thousand(run, ["match", "label"]) is None, "what was there already tells nothing"
    record_summary(run, StageSummary("label", 100, 100, 0, 1.0, cpu_seconds=36.0))
    # A pair took 3.6 s of a CPU and 1.8 s of a GPU, and 0.36 s for its labels.
    assert cost_of_thousand(run, ["match"]) == Cost(1.0, 0.5, 50)
    found = cost_of_thousand(run, ["match", "label"])
    assert found is not None
    assert (found.cpu_hours, found.gpu_hours, found.counted) == (pytest.approx(1.1), 0.5, 50)


def test_a_few_items_say_nothing_of_a_thousand(run: RunFolder) -> None:
    for stage, computed in (("match", LEAST_COUNTED), ("label", LEAST_COUNTED - 1)):
        record_summary(run, StageSummary(stage, computed, computed, 0, 1.0, cpu_seconds=1.0))
    assert cost_of_thousand(run, ["match"]) is not None
    assert cost_of_thousand(run, ["match", "label"]) is None
    record_summary(run, StageSummary("label", 50, 1, 0, 1.0, cpu_seconds=1.0))
    assert cost_of_thousand(run, ["match", "label"]) is not None


@pytest.mark.parametrize("damaged", [{"stage": "match"}, {"stage": "match", "seconds": "x"}, {"seconds": []}, {"counters": [1]}])
def test_a_timing_that_cannot_be_read_is_not_known_and_begins_anew(
    tmp_path: Path, damaged: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    run = RunFolder(tmp_path)
    run.write_json("timings/match.json", damaged)
    assert read_summaries(run, ("match",)) == []
    assert cost_of_thousand(run, ["match"]) is None
    assert "timings/match.json" in caplog.text
    record_summary(run, StageSummary("match", 4, 4, 0, 2.0))
    assert read_summaries(run, ("match",))[0]["seconds"] == 2.0

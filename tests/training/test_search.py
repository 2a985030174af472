"""A search as a description: its trials as values, its pace, and what is left of its finished batches in the run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sc3d.store import RunFolder
from training.checkpoint import ValidationRecord
from training.job import TrainJob
from training.search import Search, Trial, finish_batch, finished_batches, finished_trials

FOLDER = "sweeps/adapter-abc"


def _no_job(settings: Any, folder: str) -> TrainJob:
    raise AssertionError("a description trains nothing")


def _search(run: Path, **changes: Any) -> Search:
    return Search(**{"make_job": _no_job, "space": {}, "run": RunFolder(run), "folder": FOLDER, "steps": 10, **changes})


def _trial(name: str, *records: ValidationRecord, error: str | None = None) -> Trial:
    return Trial(name, {"x": 1, "weights": [0.5, 0.5]}, records, error)


def test_trials_are_plain_values_and_back() -> None:
    trial = _trial("a", ValidationRecord(2, 0.5, 1.0))
    again = Trial.of_values(trial.to_values())
    assert again == trial
    assert isinstance(again.curve[0], ValidationRecord)
    assert Trial.of_values(_trial("a", error="broken").to_values()).error == "broken"


def test_the_result_of_a_trial_is_its_last_validation_unless_it_failed() -> None:
    trial = _trial("a", ValidationRecord(2, 0.75, 1.0), ValidationRecord(4, 0.5, 2.0))
    assert trial.pck == 0.5
    assert trial._replace(error="bad").pck is None
    assert _trial("a").pck is None


@pytest.mark.parametrize(("steps", "validations", "every"), [(10, 9, 2), (9, 9, 1), (3, 9, 1), (100, 1, 100), (90, 9, 10)])
def test_a_trial_reports_as_often_as_is_asked_for_and_never_more(tmp_path: Path, steps: int, validations: int, every: int) -> None:
    assert _search(tmp_path, steps=steps, validations=validations).validate_every == every


def test_finished_batches_are_found_in_their_order_and_the_state_of_a_running_one_is_not(tmp_path: Path) -> None:
    spec = _search(tmp_path)
    assert finished_trials(spec.run, FOLDER) == []
    first, second = _trial("a", ValidationRecord(2, 0.5, 1.0)), _trial("b", error="broken")
    finish_batch(spec, 0, [first])
    finish_batch(spec, 1, [second])
    spec.run.write_json(f"{spec.batch_folder(2)}/experiment_state-x.json", {})
    spec.run.write_json(f"{spec.trials_folder}/c/curve.json", {})
    spec.run.write_json("sweeps/adapter-abcd/batch-00.json", {})
    assert finished_batches(spec.run, FOLDER) == [f"{FOLDER}/batch-00.json", f"{FOLDER}/batch-01.json"]
    assert finished_trials(spec.run, FOLDER) == [first, second]

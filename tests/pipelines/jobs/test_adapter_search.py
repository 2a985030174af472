"""The adapter level of a search: its space, labels made from stored matches, and trials end to end."""

from __future__ import annotations

import dataclasses
import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from pipelines.jobs import adapter_search, sweep
from pipelines.jobs.search_space import matched_weights, search_space
from pipelines.report.search import FOUND_ADAPTER
from pipelines.stages.label import LabelStage
from pipelines.stages.match import MatchStage
from sc3d.config import RunConfig
from sc3d.config_file import load_config, to_values
from sc3d.console import PlainConsole
from sc3d.errors import ConfigError, InputError
from training.label_set import LabelSet
from training.search import Trial, rank_trials
from training.settings import best_options, present_settings, with_settings
from training.space import Choice, Range


def _with(config: RunConfig, run: str | Path | None = None, **options: Any) -> RunConfig:
    changed = dataclasses.replace(config.sweep, level="adapter", **options)
    return dataclasses.replace(config, sweep=changed, run=config.run if run is None else str(run))


def test_the_space_is_lists_and_ranges_written_in_one_line_or_nested(finished: RunConfig) -> None:
    given = {
        "train": {"learning_rate": {"low": 0.001, "high": 0.01, "log": True}, "labels_per_pair": {"low": 10, "high": 50}},
        "label.tau_geo": [0.03, 0.05],
    }
    space = search_space(_with(finished, space=given))
    assert space == {
        "train.learning_rate": Range(0.001, 0.01, log=True),
        "train.labels_per_pair": Range(10, 50),
        "label.tau_geo": Choice((0.03, 0.05)),
    }
    assert present_settings(finished, space) == {
        "train.learning_rate": 0.005,
        "train.labels_per_pair": 50,
        "label.tau_geo": 0.05,
    }
    assert present_settings(finished, {"label.tau_geo": Choice((0.02,))}) is None


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"train.momentum": [0.9]}, "train.momentum cannot be searched"),
        ({"train.workers": [1, 2]}, "train.workers cannot be searched"),
        ({"describe.dino": ["daisy"]}, "describe.dino cannot be searched"),
        ({"train.dropout": [0.1, 1.5]}, "train.dropout"),
        ({"train.dropout": []}, "must be a list"),
        ({"train.dropout": 0.2}, "must be a list"),
        ({"train.learning_rate": {"low": 0.1, "high": 0.01}}, "low below high"),
        ({"train.learning_rate": {"low": 0, "high": 0.01, "log": True}}, "low below high"),
        ({"train.learning_rate": {"low": -1.0, "high": 0.01}}, "train.learning_rate"),
        ({"label.tau_geo": [0.05, 0.9]}, "nothing beyond that is stored"),
        ({"match.weights": [0.5]}, "are .alpha, beta."),
        ({"match.weights": [[0.5, 0.9]]}, "alpha . beta must be at most 1"),
        ({"match.weights": [[0.25, 0.25]]}, "sc3d match --run .* --set match.alpha=0.25 --set match.beta=0.25"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused(finished: RunConfig, space: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        search_space(_with(finished, space=space))


def test_the_default_space_keeps_to_the_stored_evidence_and_the_matches_that_are_there(finished: RunConfig) -> None:
    narrow = dataclasses.replace(finished, match=dataclasses.replace(finished.match, tau_geo=0.05))
    space = search_space(narrow)
    assert space["label.tau_geo"] == Choice((0.02, 0.03, 0.05))
    assert "match.weights" not in space
    assert matched_weights(finished) == [(finished.match.alpha, finished.match.beta)]


def test_labels_of_a_trial_are_those_of_the_label_stage(finished: RunConfig, tmp_path: Path) -> None:
    config = with_settings(finished, {"label.tau_geo": 0.03, "train.cache": str(tmp_path / "scratch")})
    found = LabelSet.read(adapter_search.relabelled(config), tmp_path / "scratch")
    from sc3d.matching.thresholds import apply_thresholds

    expected = LabelSet.of([apply_thresholds(row, config.label) for row in MatchStage(config).catalogue().read_all()])
    assert found.pair_ids == expected.pair_ids
    for index in range(len(found)):
        for one, other in zip(found.coordinates(index), expected.coordinates(index), strict=True):
            np.testing.assert_array_equal(one, other)
    # The thresholds of the run itself give the labels in the run folder.
    own = LabelSet.read(adapter_search.relabelled(dataclasses.replace(config, label=finished.label)), tmp_path / "scratch")
    stored = LabelSet.read(LabelStage(finished).catalogue().tables(), tmp_path / "scratch")
    assert own.pair_ids == stored.pair_ids
    assert sum(len(own.coordinates(i)[0]) for i in range(len(own))) > sum(len(found.coordinates(i)[0]) for i in range(len(found)))
    assert not list((tmp_path / "scratch").iterdir()), "nothing is left behind"
    assert isinstance(found.pair_ids, pa.Array)


def test_a_trial_without_labels_says_so(finished: RunConfig, tmp_path: Path) -> None:
    config = with_settings(finished, {"dataset.categories": ("boat",), "train.cache": str(tmp_path)})
    with pytest.raises(InputError, match="no pair has a label"):
        adapter_search.trial_data(config)


def test_a_run_that_cannot_be_searched_says_so(finished: RunConfig, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no run"):
        sweep.run(_with(finished, run=tmp_path / "empty"))
    with pytest.raises(ConfigError, match=r"train\.labels"):
        sweep.run(_with(dataclasses.replace(finished, train=dataclasses.replace(finished.train, labels="abc"))))
    odd = dataclasses.replace(finished, train=dataclasses.replace(finished.train, workers=3, pairs_per_step=2))
    with pytest.raises(ConfigError, match="cannot be shared evenly"):
        sweep.run(_with(odd))


def test_the_best_come_first_and_failures_last() -> None:
    def trial(name: str, pck: float | None, error: str | None = None) -> Trial:
        return Trial(name, {"match.weights": (0.5, 0.25)}, () if pck is None else ((3, pck, 1.0),), error)  # type: ignore[arg-type]

    from training.checkpoint import ValidationRecord

    trials = [trial("a", None, "bad"), trial("b", None), trial("c", 0.25), trial("d", 0.5)]
    trials = [one._replace(curve=tuple(ValidationRecord(*record) for record in one.curve)) for one in trials]
    rows = rank_trials(trials)
    assert [row["trial"] for row in rows] == ["d", "c", "b", "a"]
    assert best_options(rows[0]["settings"]) == {"match": {"alpha": 0.5, "beta": 0.25}}
    both = {"train.dropout": 0.1, "train.noise": 0.0, "label.tau_cc": 0.05}
    assert best_options(both) == {"train": {"dropout": 0.1, "noise": 0.0}, "label": {"tau_cc": 0.05}}


@pytest.mark.slow
def test_a_search_end_to_end(finished: RunConfig, tmp_path: Path) -> None:
    shutil.copytree(finished.run, tmp_path / "run")
    # The second learning rate is one that no training survives.
    space = {"label.tau_geo": [0.05], "train.learning_rate": [0.005, 1e30], "train.dropout": [0.2]}
    options = {"space": space, "trials": 3, "trial_steps": 4, "validations": 2, "early_stopping": False}
    config = _with(finished, run=tmp_path / "run", **options)
    console = PlainConsole(file=io.StringIO(), width=200)
    run = sweep.run(config, console)
    rows = run.read_json(FOUND_ADAPTER)["rows"]
    assert len(rows) == 3
    good = [row for row in rows if row["error"] is None]
    assert [record[0] for record in good[0]["curve"]] == [2, 4]
    assert 0 < len(good) < 3
    assert all("training diverged at step" in row["error"] for row in rows[len(good) :])
    best = tmp_path / "best.yaml"
    best.write_bytes(run.read_bytes("sweeps/best-adapter.yaml"))
    assert yaml.safe_load(best.read_text())["label"] == {"tau_geo": 0.05}
    chosen = load_config(best, defaults=to_values(config))
    assert chosen.label.tau_geo == 0.05
    page = run.read_bytes("report/search.html").decode()
    assert "3 trials of up to 4 steps" in page
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "gamma stays at" in text
    assert "sc3d match --run" in text
    # What is there is not trained again.
    assert sweep.run(config, console).read_json(FOUND_ADAPTER)["rows"] == rows
    # Weights that are matched can be searched too.
    from pipelines.jobs import label

    other = with_settings(config, {"match.weights": (0.5, 0.0)})
    label.run(other, until="match")
    assert matched_weights(config) == [(0.5, 0.0), (config.match.alpha, config.match.beta)]
    weights = {"match.weights": [[0.5, 0.0]], "train.dropout": [0.2]}
    (row,) = sweep.run(_with(config, space=weights, trials=1), console).read_json(FOUND_ADAPTER)["rows"]
    assert row["settings"]["match.weights"] == [0.5, 0.0]
    assert row["pck"] is not None
    assert yaml.safe_load(run.read_bytes("sweeps/best-adapter.yaml"))["match"] == {"alpha": 0.5, "beta": 0.0}

"""Ray Tune over trainings: trials that fail are told apart, more can be added, and a killed search goes on with its trials."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sc3d.config import TrainConfig
from sc3d.errors import InputError, PreflightError, SchemaError
from sc3d.store import RunFolder
from training.data import LabelledPairs
from training.job import TrainingData, TrainJob
from training.search import Search, Trial, finished_trials
from training.space import Choice, Range
from training.tune import search
from training.tune_state import forget_tune_state, tune_state
from training.validation import Validation, ValidationPair

SPACE = {"train.learning_rate": Range(1e-3, 2e-2, log=True), "train.negatives": Choice(("labels", "map"))}
HELD_OUT = ("img0~img1", "img2~img1", "img3~img0")


@pytest.fixture
def make_search(toy_pairs: ModuleType, tmp_path: Path) -> Callable[..., Search]:
    features = toy_pairs.make_features()
    labels = toy_pairs.make_labels(features)

    def make(folder: Path | str = tmp_path, **changes: Any) -> Search:
        def make_job(settings: Mapping[str, Any], where: str) -> TrainJob:
            config = TrainConfig(
                steps=6,
                pairs_per_step=2,
                labels_per_pair=20,
                channels=16,
                window=0,
                learning_rate=settings["train.learning_rate"],
                negatives="map" if settings["train.negatives"] == "map" else "labels",
            )

            def data() -> TrainingData:
                if settings["train.negatives"] == "broken":
                    raise InputError("no pair has a label with these settings")
                pairs = LabelledPairs(labels, features.__getitem__, held_out=HELD_OUT)
                checked = [ValidationPair(r.pair_id, r.source_xy, r.target_xy) for r in labels if r.pair_id in HELD_OUT]
                return TrainingData(pairs, Validation(checked, pairs.features, config))

            return TrainJob(data, config, 0, RunFolder(folder), where)

        given = {"run": RunFolder(folder), "folder": "sweeps/adapter-abc", "steps": 6, "validations": 3, "trials": 2, **changes}
        return Search(**{"make_job": make_job, "space": SPACE, **given})

    return make


def _check(trial: Trial, steps: int = 6) -> None:
    assert trial.error is None
    assert trial.curve[-1].step == steps
    assert trial.pck == trial.curve[-1].pck
    assert 1e-3 <= trial.settings["train.learning_rate"] <= 2e-2


@pytest.mark.slow
def test_trials_are_trained_failures_are_listed_and_more_can_be_added(
    make_search: Callable[..., Search], tmp_path: Path, ray_session: None
) -> None:
    first = {"train.learning_rate": 5e-3, "train.negatives": "broken"}
    space = {**SPACE, "train.negatives": Choice(("labels", "broken"))}
    told: list[Trial] = []
    found = search(make_search(space=space, first=first, early_stopping=False), told.append)
    assert len(found) == 2
    assert sorted(trial.trial_id for trial in told) == sorted(trial.trial_id for trial in found)
    assert found[0].settings == first, "the present settings are tried first"
    assert found[0].error == "no pair has a label with these settings"
    assert found[0].pck is None
    assert finished_trials(RunFolder(tmp_path), "sweeps/adapter-abc") == found
    assert [p.name for p in (tmp_path / "sweeps/adapter-abc").iterdir()] == ["batch-00.json"], "only the outcome is kept"

    more = search(make_search(trials=3, early_stopping=False))
    assert more[:2] == found
    assert len(more) == 3
    _check(more[2])
    told.clear()
    assert search(make_search(trials=3), told.append) == more
    assert not told


class Hostile:
    """What leaves a file behind when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.file),)


@pytest.mark.slow
def test_nothing_of_the_run_folder_is_unpickled(make_search: Callable[..., Search], tmp_path: Path, ray_session: None) -> None:
    """What Ray Tune would restore a batch from, put there by somebody who can write the run folder."""
    batch, trap = tmp_path / "sweeps/adapter-abc/batch-00", tmp_path / "executed"
    batch.mkdir(parents=True)
    for name in ("tuner.pkl", "trainable.pkl", "searcher-state-1.pkl"):
        (batch / name).write_bytes(pickle.dumps(Hostile(trap)))
    (batch / "experiment_state-2026-01-01_00-00-00.json").write_text("{}")
    found = search(make_search(trials=1))
    assert len(found) == 1
    _check(found[0])
    assert not trap.exists()
    assert not batch.exists()


@pytest.mark.parametrize("name", ["../../../elsewhere", "", "A" * 32, "0" * 31, "0" * 32 + "\n"])
def test_the_note_of_a_batch_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    RunFolder(tmp_path).write_json("batch-00/begun.json", {"id": name})
    with pytest.raises(SchemaError, match=r"begun\.json"):
        tune_state(RunFolder(tmp_path), "batch-00")


def test_the_state_of_a_batch_is_private_and_the_same_when_it_is_asked_for_again(tmp_path: Path) -> None:
    state = tune_state(RunFolder(tmp_path), "batch-00")
    assert tune_state(RunFolder(tmp_path), "batch-00") == state
    assert not state.is_relative_to(tmp_path)
    assert state.stat().st_mode & 0o077 == 0
    forget_tune_state(RunFolder(tmp_path), "batch-00")
    assert not state.exists()


@pytest.mark.slow
def test_optuna_learns_from_the_trials_that_are_there(make_search: Callable[..., Search], ray_session: None) -> None:
    pytest.importorskip("optuna")
    found = search(make_search(method="optuna", trials=2))
    more = search(make_search(method="optuna", trials=3))
    assert more[:2] == found
    _check(more[2], more[2].curve[-1].step)


def test_optuna_that_is_not_installed_is_said_before_anything_runs(
    make_search: Callable[..., Search], monkeypatch: pytest.MonkeyPatch, ray_session: None
) -> None:
    monkeypatch.setattr("training.tune_batch.find_spec", lambda name: None)
    with pytest.raises(PreflightError, match=r"sc3d\[search\]"):
        search(make_search(method="optuna"))


@pytest.mark.slow
def test_time_that_is_up_ends_the_search_and_a_later_one_goes_on(make_search: Callable[..., Search], ray_session: None) -> None:
    assert search(make_search(seconds=0.0)) == []
    assert len(search(make_search())) == 2


@pytest.mark.slow
def test_a_trial_with_workers_of_its_own_has_the_numbers_of_one_process(
    make_search: Callable[..., Search], tmp_path: Path, ray_session: None
) -> None:
    from training.trial_resources import room

    first = {"train.learning_rate": 5e-3, "train.negatives": "labels"}
    (alone,) = search(make_search(tmp_path / "one", trials=1, first=first))
    concurrent, _ = room(2, None)
    (together,) = search(make_search(tmp_path / "two", trials=1, first=first, workers=2, concurrent=concurrent))
    assert together.error is None
    for one, two in zip(alone.curve, together.curve, strict=True):
        assert one == pytest.approx(two, rel=1e-3)


@pytest.mark.slow
def test_the_state_of_a_search_may_be_in_a_bucket(make_search: Callable[..., Search], bucket: str, ray_session: None) -> None:
    found = search(make_search(f"{bucket}/run", trials=1))
    _check(found[0])
    assert RunFolder(f"{bucket}/run").names("sweeps") == ["sweeps/adapter-abc/batch-00.json"]


KILLED = """
import sys, time
from pathlib import Path
sys.path[:0] = [sys.argv[2]]
import pairs as toy
from cluster.session import RaySession
from sc3d.config import RayConfig, TrainConfig
from sc3d.store import RunFolder
from training.data import LabelledPairs
from training.job import TrainingData, TrainJob
from training.search import Search
from training.space import Range
from training.tune import search
from training.validation import Validation, ValidationPair

features = toy.make_features()
labels = toy.make_labels(features)
where = Path(sys.argv[1])
config = TrainConfig(steps=6, pairs_per_step=2, labels_per_pair=20, channels=16, window=0)

def make_job(settings, folder):
    def data():
        pairs = LabelledPairs(labels, features.__getitem__)
        some = [ValidationPair(r.pair_id, r.source_xy, r.target_xy) for r in labels[:2]]
        sample = pairs.sample
        def slow(seed, step, *rest):
            with open(where / f"steps-{settings['x']}", "a") as log:
                log.write(f"{step}\\n")
            # The second trial waits in its fourth step until somebody has killed its driver.
            if settings["x"] == 1 and step == 4:
                while not (where / "go").exists():
                    time.sleep(0.1)
            return sample(seed, step, *rest)
        pairs.sample = slow
        return TrainingData(pairs, Validation(some, pairs.features, config))
    return TrainJob(data, config, 0, RunFolder(where), folder)

space = {"x": Range(0.0, 1.0)}
spec = Search(make_job, space, RunFolder(where), "sweeps/adapter-abc", steps=6, validations=6, trials=3, concurrent=1,
              early_stopping=False, first={"x": 1.0})
with RaySession(RayConfig(workers=1)) as session:
    session.start()
    for trial in search(spec):
        print(trial.settings["x"], [record.step for record in trial.curve], trial.error)
"""


@pytest.mark.slow
def test_a_killed_search_goes_on_with_its_trials_where_they_were(tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(textwrap.dedent(KILLED))
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, str(script), str(tmp_path), str(Path(__file__).parent)]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    # A session of its own, so that everything of it can be killed at once, as when a machine goes down.
    victim = subprocess.Popen(command, env=environment, cwd=root, start_new_session=True, stderr=subprocess.DEVNULL)
    log = tmp_path / "steps-1.0"
    deadline = time.monotonic() + 200
    while not (log.exists() and "4" in log.read_text().split()):
        assert victim.poll() is None, "the search ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.2)
    state = tune_state(RunFolder(tmp_path), "sweeps/adapter-abc/batch-00") / "batch-00"
    while not list(state.glob("experiment_state-*")):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    os.killpg(victim.pid, signal.SIGKILL)
    victim.wait()
    (tmp_path / "go").touch()
    log.write_text("")
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.strip().splitlines()
    assert len(lines) == 3
    assert lines[0] == "1.0 [1, 2, 3, 4, 5, 6] None"
    repeated = [int(step) for step in log.read_text().split()]
    assert min(repeated) >= 2, "the trial began anew instead of at its checkpoint"
    assert (tmp_path / "sweeps/adapter-abc/batch-00.json").exists()
    assert not state.parent.exists()

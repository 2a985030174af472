"""Ray Tune over trainings: each trial is a training with other settings, scored by its PCK on validation pairs as it goes.

A search is a sequence of *batches*, each an experiment of Ray Tune in the run folder: one that was cut short is restored, its trials going
on from their own checkpoints; when it is finished, its outcome is a small JSON file and everything else of it is deleted. So more trials
can be asked for later, and are added to those that are there.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sc3d.store import RunFolder
from training.checkpoint import ValidationRecord
from training.job import TrainJob


@dataclass(frozen=True)
class Choice:
    """One of some values of any kind."""

    values: tuple[Any, ...]


@dataclass(frozen=True)
class Range:
    """A number from ``low`` to ``high``, a whole one if both are; ``log``: magnitudes are equally likely."""

    low: float
    high: float
    log: bool = False


Space = Mapping[str, Choice | Range]


class Trial(NamedTuple):
    """What became of one trial: its validations so far, and the reason if it failed."""

    trial_id: str
    settings: Mapping[str, Any]
    curve: tuple[ValidationRecord, ...]
    error: str | None = None

    @property
    def pck(self) -> float | None:
        """PCK@0.10 in [0, 1] at its last validation; ``None`` if it failed or was never validated."""
        return self.curve[-1].pck if self.curve and self.error is None else None

    def to_values(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**self._asdict(), "settings": dict(self.settings), "curve": [list(record) for record in self.curve]}

    @classmethod
    def of_values(cls, values: Mapping[str, Any]) -> Trial:
        """Inverse of :meth:`to_values`."""
        curve = tuple(ValidationRecord(int(step), pck, loss) for step, pck, loss in values["curve"])
        return cls(values["trial_id"], values["settings"], curve, values["error"])


@dataclass(frozen=True)
class Search:
    """What is searched, how, and where its state goes.

    Attributes:
        make_job: settings and the folder of the trial -> its training, whose data must have a validation; called in the trial's process.
        space: setting -> what it may be.
        first: settings to try first, which lie in the space.
        run, folder: where the state is kept.
        steps: of a trial; ``validations`` of which it reports.
        trials: how many in all, with those that are there.
        concurrent: trials at once.
        seconds: after which no more is done; ``None``: no limit.
        method: random, or optuna.
        early_stopping: with ASHA, which lets the best third go on at each of its rungs.
        workers: Ray Train workers of a trial; 0: it trains in its own process.
        gpus: of a trial in one process.
    """

    make_job: Callable[[Mapping[str, Any], str], TrainJob]
    space: Space
    run: RunFolder
    folder: str
    steps: int
    first: Mapping[str, Any] | None = None
    seed: int = 0
    validations: int = 9
    trials: int = 30
    concurrent: int = 2
    seconds: float | None = None
    method: str = "random"
    early_stopping: bool = True
    workers: int = 0
    gpus: float = 0.0

    @property
    def validate_every(self) -> int:
        """Steps between validations."""
        return max(1, -(-self.steps // self.validations))

    def batch_file(self, number: int) -> str:
        """Name of the outcome of a finished batch."""
        return f"{self.folder}/{batch_name(number)}.json"

    def decoded(self, encoded: Mapping[str, Any]) -> dict[str, Any]:
        """Settings from what Tune chose, which for a :class:`Choice` is the place of a value."""
        return {name: _value(self.space[name], value) for name, value in encoded.items()}

    def encoded(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Inverse of :meth:`decoded`; raises ValueError if a value is not among the choices."""
        return {name: _place(self.space[name], value) for name, value in settings.items()}


def _value(domain: Choice | Range, found: Any) -> Any:
    if isinstance(domain, Choice):
        return domain.values[found]
    # More digits mean nothing, and somebody is going to read them.
    return min(max(float(f"{found:.3g}"), domain.low), domain.high) if isinstance(found, float) else found


def _place(domain: Choice | Range, value: Any) -> Any:
    return domain.values.index(value) if isinstance(domain, Choice) else value


def contains(domain: Choice | Range, value: Any) -> bool:
    """Whether a setting may have a value."""
    if isinstance(domain, Choice):
        return value in domain.values
    return isinstance(value, (int, float)) and domain.low <= value <= domain.high


def batch_name(number: int) -> str:
    """Name of a batch's experiment."""
    return f"batch-{number:02}"


def finished_trials(run: RunFolder, folder: str) -> list[Trial]:
    """The trials of all finished batches, in the order of their batches."""
    found = [run.read_json(name)["trials"] for name in run.names(folder, ".json") if name.rpartition("/")[0] == folder]
    return [Trial.of_values(values) for trials in found for values in trials]


def search(spec: Search, on_trial: Callable[[Trial], None] | None = None) -> list[Trial]:
    """Run the trials that are missing, or go on where an earlier call was cut short. Ray must be running.

    Args:
        spec: the search.
        on_trial: called in this process with each trial that has ended.

    Returns:
        All trials, of earlier calls too. Failed ones are among them.

    Raises:
        PreflightError: the cluster cannot give a trial what it needs, or optuna is not installed.
    """
    from training.tune_batch import run_batch

    started = time.monotonic()
    done = finished_trials(spec.run, spec.folder)
    while len(done) < spec.trials:
        left = math.inf if spec.seconds is None else spec.seconds - (time.monotonic() - started)
        number = sum(name.rpartition("/")[0] == spec.folder for name in spec.run.names(spec.folder, ".json"))
        found = run_batch(spec, number, spec.trials - len(done), done, left, on_trial) if left > 0 else []
        if found or left > 0:
            spec.run.write_json(spec.batch_file(number), {"trials": [trial.to_values() for trial in found]})
            _tidy(spec.run, f"{spec.folder}/{batch_name(number)}")
            _tidy(spec.run, f"{spec.folder}/trials")
        if not found:
            break
        done += found
    return done


def _tidy(run: RunFolder, folder: str) -> None:
    for name in run.names(folder):
        run.delete(name)
    if run.is_local:
        shutil.rmtree(run.path(folder), ignore_errors=True)

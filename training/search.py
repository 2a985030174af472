"""What a search is, whoever runs it: its trainings, its space, its trials, and their outcomes in the run folder. Knows no Ray.

A search is a sequence of *batches*. The outcome of a finished one is a small JSON file, so more trials can be asked for later, and are
added to those that are there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from typing_extensions import TypedDict

from sc3d.parsed import TABLE_BYTES, Share, Whole, read_parsed
from sc3d.store import RunFolder
from training.checkpoint import ValidationRecord
from training.job import TrainJob
from training.space import Space

Curve = list[tuple[Whole, Share, float]]
"""Step, PCK and loss of each validation."""


class TrialValues(TypedDict):
    """A trial in the outcome of its batch."""

    trial_id: str
    settings: dict[str, Any]
    curve: Curve
    error: str | None


class Batch(TypedDict):
    """The outcome of a batch."""

    trials: list[TrialValues]


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
    def of_values(cls, values: TrialValues) -> Trial:
        """Inverse of :meth:`to_values`."""
        curve = tuple(ValidationRecord(*record) for record in values["curve"])
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

    @property
    def trials_folder(self) -> str:
        """Name of the folder with a folder of each trial of the batch that runs."""
        return f"{self.folder}/trials"

    def batch_folder(self, number: int) -> str:
        """Name of the folder of a batch that runs, which says where its state is."""
        return f"{self.folder}/{batch_name(number)}"


def batch_name(number: int) -> str:
    """Name of a batch among those of its search."""
    return f"batch-{number:02}"


def finished_batches(run: RunFolder, folder: str) -> list[str]:
    """Names of the outcomes of a search's finished batches, in their order."""
    # The state of a batch that runs has JSON files too, deeper down.
    return [name for name in run.names(folder, ".json") if name.rpartition("/")[0] == folder]


def finished_trials(run: RunFolder, folder: str) -> list[Trial]:
    """The trials of all finished batches, in the order of their batches."""
    found = [read_parsed(run, name, Batch, TABLE_BYTES) for name in finished_batches(run, folder)]
    return [Trial.of_values(values) for batch in found for values in batch["trials"]]


def finish_batch(spec: Search, number: int, trials: Sequence[Trial]) -> None:
    """Write the outcome of a batch, which makes it a finished one."""
    spec.run.write_json(f"{spec.batch_folder(number)}.json", {"trials": [trial.to_values() for trial in trials]})


def rank_trials(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """A row a trial: the best PCK first, then those without a result, then failed ones."""

    def order(trial: Trial) -> tuple[bool, bool, float]:
        return trial.error is not None, trial.pck is None, -(trial.pck or 0.0)

    return [
        {
            "trial": trial.trial_id,
            "settings": {name: list(value) if isinstance(value, tuple) else value for name, value in trial.settings.items()},
            "pck": trial.pck,
            "steps": trial.curve[-1].step if trial.curve else 0,
            "curve": [list(record) for record in trial.curve],
            "error": trial.error,
        }
        for trial in sorted(trials, key=order)
    ]

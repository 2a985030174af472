"""Where the curves of a training go: TensorBoard by default, Weights & Biases and MLflow where they are installed and asked for."""

from __future__ import annotations

import importlib
import importlib.util
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sc3d.errors import PreflightError
from sc3d.store import RunFolder
from training.checkpoint import StepRecord, ValidationRecord
from training.job import TrainJob
from training.loop import Clock

PROJECT = "sc3d"
_POINTS = 2000
_PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb", "mlflow": "mlflow"}


class Tracker(ABC):
    """Something that keeps curves."""

    @abstractmethod
    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Values of some curves at a step."""

    @abstractmethod
    def flush(self) -> None:
        """Bring everything so far to where it stays."""

    @abstractmethod
    def close(self) -> None:
        """Flush, and end."""


class TensorBoard(Tracker):
    """Event files in the run folder; for one on s3 they are written in a scratch folder first and copied when flushed.

    ``first``: the step that training goes on from; what earlier files say of later steps is not shown.
    """

    def __init__(self, run: RunFolder, folder: str, first: int = 0) -> None:
        from tensorboardX import SummaryWriter

        self._run, self._folder = run, folder
        self._scratch = None if run.is_local else tempfile.TemporaryDirectory(prefix="sc3d-tensorboard-")
        self._path = Path(run.path(folder) if self._scratch is None else self._scratch.name)
        self._writer = SummaryWriter(str(self._path), purge_step=first + 1 if first else None)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def flush(self) -> None:
        self._writer.flush()
        if self._scratch is not None:
            for path in self._path.iterdir():
                self._run.write_bytes(f"{self._folder}/{path.name}", path.read_bytes())

    def close(self) -> None:
        self._writer.close()
        if self._scratch is not None:
            self.flush()
            self._scratch.cleanup()


class WeightsAndBiases(Tracker):
    """A run of Weights & Biases, named by the adapter's folder; a training that goes on goes on there."""

    def __init__(self, name: str, settings: Mapping[str, Any]) -> None:
        wandb = importlib.import_module("wandb")
        self._run = wandb.init(project=PROJECT, name=name, id=name, resume="allow", config=dict(settings))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def flush(self) -> None:
        """It sends as it goes."""

    def close(self) -> None:
        self._run.finish()


class Mlflow(Tracker):
    """A run of MLflow, named by the adapter's folder."""

    def __init__(self, name: str, settings: Mapping[str, Any]) -> None:
        self._mlflow = importlib.import_module("mlflow")
        self._mlflow.set_experiment(PROJECT)
        self._mlflow.start_run(run_name=name)
        self._mlflow.log_params(dict(settings))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._mlflow.log_metrics(dict(values), step=step)

    def flush(self) -> None:
        """It sends as it goes."""

    def close(self) -> None:
        self._mlflow.end_run()


def check_trackers(names: Sequence[str]) -> None:
    """Raise :class:`PreflightError` if one of ``train.trackers`` is not installed."""
    for name in names:
        package = _PACKAGES[name]
        if importlib.util.find_spec(package) is None:
            raise PreflightError(
                f"train.trackers asks for {name}, but {package} is not installed: pip install {package}, or leave it out"
            )


def open_trackers(job: TrainJob, first: int) -> list[Tracker]:
    """The trackers of a job that goes on from step ``first``.

    Raises:
        PreflightError: one of them is not installed.
    """
    check_trackers(job.config.trackers)
    name = job.folder.rpartition("/")[2]
    settings = {field: getattr(job.config, field) for field in job.config.__dataclass_fields__}
    trackers: list[Tracker] = []
    for kind in job.config.trackers:
        if kind == "tensorboard":
            trackers.append(TensorBoard(job.run, job.tensorboard_folder, first))
        elif kind == "wandb":
            trackers.append(WeightsAndBiases(name, settings))
        else:
            trackers.append(Mlflow(name, settings))
    return trackers


class Curves:
    """Sends a training's records to trackers: the means over so many steps that a curve has about 2,000 points."""

    def __init__(self, trackers: Sequence[Tracker], steps: int, clock: Clock) -> None:
        self._trackers = trackers
        self._every = max(1, steps // _POINTS)
        self._steps = steps
        self._clock, self._before = clock, Clock()
        self._pending: list[StepRecord] = []

    def add_step(self, record: StepRecord) -> None:
        """One more step."""
        self._pending.append(record)
        if record.step % self._every and record.step < self._steps:
            return
        count, self._pending, pending = len(self._pending), [], self._pending
        values = {f"train/{name}": sum(getattr(r, name) for r in pending) / count for name in ("loss", "sparse", "dense")}
        values["train/learning_rate"] = record.learning_rate
        # The clock counts a step after it was recorded.
        steps, seconds = self._clock.steps - self._before.steps, self._clock.seconds - self._before.seconds
        if steps and seconds:
            values["speed/steps_per_second"] = steps / seconds
            values["speed/share_waiting_for_features"] = (self._clock.waited - self._before.waited) / seconds
        self._before = Clock(self._clock.steps, self._clock.seconds, self._clock.waited)
        self._log(record.step, values)

    def add_validation(self, record: ValidationRecord) -> None:
        """A validation."""
        self._log(record.step, {"validation/pck_010": record.pck, "validation/loss": record.loss})

    def flush(self) -> None:
        """Bring everything so far to where it stays."""
        for tracker in self._trackers:
            tracker.flush()

    def close(self) -> None:
        """Flush, and end."""
        for tracker in self._trackers:
            tracker.close()

    def _log(self, step: int, values: Mapping[str, float]) -> None:
        for tracker in self._trackers:
            tracker.log(step, values)

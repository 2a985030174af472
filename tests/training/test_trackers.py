"""Curves reach TensorBoard, Weights & Biases and MLflow; what is not installed is said before training."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from sc3d.config import TrainConfig
from sc3d.errors import PreflightError
from sc3d.store import RunFolder
from training.checkpoint import StepRecord, ValidationRecord
from training.job import TrainingData, TrainJob
from training.loop import Clock
from training.trackers import Curves, check_trackers, open_trackers


def _no_data() -> TrainingData:
    raise AssertionError


def _job(folder: str | Path, *trackers: Any, steps: int = 4) -> TrainJob:
    return TrainJob(_no_data, TrainConfig(steps=steps, trackers=trackers), 0, RunFolder(folder), "adapters/abc")


def _curves(job: TrainJob, first: int = 0) -> Curves:
    curves = Curves(open_trackers(job, first), job.config.steps, Clock())
    for step in range(first + 1, job.config.steps + 1):
        curves.add_step(StepRecord(step, 3.0 * step, float(step), 2.0 * step, 0.1))
    curves.add_validation(ValidationRecord(job.config.steps, 0.25, 7.0))
    return curves


def _events(folder: Path) -> dict[str, dict[int, float]]:
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import struct

    found: dict[str, dict[int, float]] = {}
    for path in sorted(folder.iterdir()):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("Q", data, at)
            event = Event.FromString(data[at + 12 : at + 12 + length])
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = value.simple_value
            at += 16 + length
    return found


def test_tensorboard_files_are_in_the_run_folder(tmp_path: Path) -> None:
    _curves(_job(tmp_path, "tensorboard")).close()
    events = _events(tmp_path / "adapters/abc/tensorboard")
    assert events["train/loss"] == {1: 3.0, 2: 6.0, 3: 9.0, 4: 12.0}
    assert events["validation/pck_010"] == {4: 0.25}
    assert events["validation/loss"] == {4: 7.0}


def test_tensorboard_files_reach_s3_when_flushed(bucket: str) -> None:
    job = _job(f"{bucket}/run", "tensorboard")
    curves = _curves(job)
    curves.flush()
    (name,) = job.run.names(job.tensorboard_folder)
    before = len(job.run.read_bytes(name))
    curves.add_validation(ValidationRecord(5, 0.5, 6.0))
    curves.close()
    assert len(job.run.read_bytes(name)) > before > 0


def test_long_curves_are_means(tmp_path: Path) -> None:
    _curves(_job(tmp_path, "tensorboard", steps=10_001)).close()
    loss = _events(tmp_path / "adapters/abc/tensorboard")["train/loss"]
    assert len(loss) == 2001
    assert loss[5] == pytest.approx(3 * (1 + 2 + 3 + 4 + 5) / 5)
    assert loss[10_001] == pytest.approx(30_003)


def test_weights_and_biases_and_mlflow_get_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, Any]] = []

    def note(name: str) -> Any:
        def noted(*args: Any, **kwargs: Any) -> Any:
            calls.append((name, (*args, kwargs)))
            return SimpleNamespace(log=note("wandb.log"), finish=note("wandb.finish"))

        return noted

    for package, functions in {
        "wandb": ("init",),
        "mlflow": ("set_experiment", "start_run", "log_params", "log_metrics", "end_run"),
    }.items():
        module = ModuleType(package)
        module.__spec__ = SimpleNamespace(name=package)  # type: ignore[assignment]
        for function in functions:
            setattr(module, function, note(f"{package}.{function}"))
        monkeypatch.setitem(sys.modules, package, module)
    _curves(_job(tmp_path, "wandb", "mlflow")).close()
    names = [name for name, _ in calls]
    assert names[0] == "wandb.init"
    assert calls[0][1][-1]["id"] == "abc"
    assert calls[0][1][-1]["config"]["steps"] == 4
    logged = {name: [c[0] for n, c in calls if n == name] for name in ("wandb.log", "mlflow.log_metrics")}
    assert logged["wandb.log"] == logged["mlflow.log_metrics"]
    assert logged["wandb.log"][1]["train/loss"] == 6.0
    assert {"wandb.finish", "mlflow.end_run"} <= set(names)


def test_a_tracker_that_is_not_installed_is_said_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(PreflightError, match="pip install wandb"):
        check_trackers(("tensorboard", "wandb"))

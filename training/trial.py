"""One trial of a search: a training that reports each validation, and goes on from its own checkpoint when it is started again."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

import pyarrow.fs as pafs
import ray
import ray.train
import ray.train.torch
import torch
import torch.distributed
from ray.tune.integration.ray_train import TuneReportCallback
from torch import Tensor

from sc3d.errors import InputError, Sc3dError, concerns_the_run
from sc3d.store import RunFolder
from training.adapter import decode_adapter
from training.checkpoint import ValidationRecord, finished_result
from training.job import TrainJob
from training.loop import DivergenceError, Hooks, Replica, fit

Report = Callable[[dict[str, Any]], None]


def curve_file(folder: str) -> str:
    """Name of the validations of the trial in a folder."""
    return f"{folder}/curve.json"


def train_trial(job: TrainJob, workers: int, validate_every: int, report: Report) -> None:
    """Train, and report ``step``, ``pck`` and ``loss`` every so many steps.

    Args:
        job: its validation is what is reported.
        workers: Ray Train workers; 0: in this process.
        validate_every: steps between validations.
        report: may end the trial by not returning.

    Raises:
        Sc3dError: what :func:`training.loop.fit` raises, or the data cannot be used.
    """
    if workers:
        error = _on_workers(job, workers, validate_every)
    else:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        error = _part(job, Replica(), device, validate_every, report)
    if error is not None:
        raise error


def storage_of(run: RunFolder, folder: str) -> tuple[str, pafs.FileSystem | None]:
    """A folder of a run as Ray wants it: a path and the file system that it is in."""
    return run.path(folder), None if run.is_local else run.arrow()


def _part(job: TrainJob, replica: Replica, device: torch.device, validate_every: int, report: Report) -> Sc3dError | None:
    """This process's part; returns an error of the trial itself, so that it is not taken for the death of a process and tried again."""
    try:
        _fit(job, replica, device, validate_every, report)
    except DivergenceError as error:
        # Without the adapter that it holds, which nobody asks a failed trial for.
        return Sc3dError(str(error))
    except Sc3dError as error:
        if concerns_the_run(error):
            raise
        return error
    return None


def _fit(job: TrainJob, replica: Replica, device: torch.device, validate_every: int, report: Report) -> None:
    data = job.make_data()
    validation = data.validation
    if validation is None or not len(validation):
        raise InputError("a trial needs validation pairs to be judged by")
    checkpoint = job.run.read_bytes(job.checkpoint_file) if job.run.exists(job.checkpoint_file) else None
    curve = list(finished_result(checkpoint).validation) if checkpoint is not None else []

    def tell(record: ValidationRecord) -> None:
        curve.append(record)
        if replica.rank == 0:
            job.run.write_bytes(curve_file(job.folder), json.dumps(curve).encode())
        report({"step": record.step, "pck": record.pck, "loss": record.loss})

    if curve:
        # So that a trial which was killed between its last step and its end has a result.
        tell(curve.pop())
    hooks = Hooks(
        validate=lambda adapter: validation.score(adapter, replica.rank, replica.world, replica.total),
        validate_every=validate_every,
        on_validation=tell,
        on_checkpoint=(lambda state: job.run.write_bytes(job.checkpoint_file, state)) if replica.rank == 0 else None,
        checkpoint_every=validate_every,
        checkpoint_seconds=job.checkpoint_seconds,
    )
    initial = None if job.initial is None else decode_adapter(job.initial, "train.initial")
    fit(data.pairs, data.pairs.feature_dims, job.config, job.seed, None, checkpoint, hooks, device, replica, initial)


def _on_workers(job: TrainJob, workers: int, validate_every: int) -> Sc3dError | None:
    use_gpu = ray.cluster_resources().get("GPU", 0) >= workers
    scaling = ray.train.ScalingConfig(num_workers=workers, use_gpu=use_gpu, resources_per_worker={"CPU": 1})
    path, files = storage_of(job.run, f"{job.folder}/ray")
    told: Any = TuneReportCallback()
    settings = ray.train.RunConfig(
        name=uuid.uuid4().hex,
        storage_path=path,
        storage_filesystem=files,
        failure_config=ray.train.FailureConfig(max_failures=2),
        callbacks=[told],
    )
    train_one: Callable[[], Any] = partial(_work, job, validate_every)
    result: Any = ray.train.torch.TorchTrainer(train_one, scaling_config=scaling, run_config=settings).fit()
    outcome: Sc3dError | None = result.return_value
    return outcome


def _work(job: TrainJob, validate_every: int) -> Sc3dError | None:
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    replica = Replica(rank, world, _total) if world > 1 else Replica()
    return _part(job, replica, ray.train.torch.get_device(), validate_every, ray.train.report)


def _total(tensor: Tensor) -> Tensor:
    torch.distributed.all_reduce(tensor)
    return tensor

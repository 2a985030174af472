"""Adapter training on Ray Train: in the calling process, or data-parallel over workers, with checkpoints in the run folder.

The latest checkpoint is one file, replaced in one step. A run that finds one of its own configuration goes on from there, and a run that
finds a finished one only reads its result.
"""

from __future__ import annotations

import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import ray.train
import ray.train.torch
import torch
import torch.distributed
from torch import Tensor, nn

from sc3d.errors import ConfigError, PreflightError, Sc3dError
from training.adapter import encode_adapter
from training.checkpoint import FitResult, finished_result
from training.job import TrainJob
from training.loop import DivergenceError, Hooks, Replica, fit

_MAX_FAILURES = 2


def train(job: TrainJob) -> FitResult:
    """Train an adapter, or go on where an earlier call was cut short; the result is also in ``job.adapter_file``.

    With ``config.workers`` = 0 everything happens in this process. With more, that many Ray Train workers share the pairs of each step
    (gloo on CPUs, nccl on GPUs) and average their gradients; a worker that dies is replaced, and training goes on from the checkpoint.

    Raises:
        DivergenceError, ConfigError, FeatureError, SchemaError: as :func:`training.loop.fit`, also from a worker.
        PreflightError: the cluster has fewer CPUs than workers.
        ray.train.TrainingFailedError: a worker died more often than is retried.
    """
    workers = job.config.workers
    outcome = _fit_on_workers(job, workers) if workers else _outcome(_trainer(job, ray.train.ScalingConfig(num_workers=0)))
    if outcome is not None:
        raise outcome
    return finished_result(job.run.read_bytes(job.checkpoint_file))


def _fit_on_workers(job: TrainJob, workers: int) -> Sc3dError | None:
    resources = ray.cluster_resources()
    if resources.get("CPU", 0) < workers:
        raise PreflightError(
            f"train.workers = {workers}, but the cluster has {resources.get('CPU', 0):.0f} CPUs; use fewer workers"
        )
    storage = job.run.path(f"{job.folder}/ray") if job.run.is_local else f"{job.run.uri}/{job.folder}/ray"
    scaling = ray.train.ScalingConfig(
        num_workers=workers, use_gpu=resources.get("GPU", 0) >= workers, resources_per_worker={"CPU": 1}
    )
    # A name of its own, since Ray resumes silently where it finds one again; resuming is the checkpoint file's business.
    settings = ray.train.RunConfig(
        name=uuid.uuid4().hex, storage_path=storage, failure_config=ray.train.FailureConfig(max_failures=_MAX_FAILURES)
    )
    with _interrupts_kept():
        try:
            return _outcome(_trainer(job, scaling, settings))
        except ray.train.TrainingFailedError as error:
            raise _cause(error) from error


def _trainer(
    job: TrainJob, scaling: ray.train.ScalingConfig, settings: ray.train.RunConfig | None = None
) -> ray.train.torch.TorchTrainer:
    work: Callable[[], Any] = partial(_work, job)
    return ray.train.torch.TorchTrainer(work, scaling_config=scaling, run_config=settings)


def _outcome(trainer: ray.train.torch.TorchTrainer) -> Sc3dError | None:
    """What the first worker returned."""
    result: Any = trainer.fit()
    error: Sc3dError | None = result.return_value
    return error


def _cause(error: ray.train.TrainingFailedError) -> Exception:
    """The error of sc3d that ended a worker, if it was one."""
    failures = getattr(error, "worker_failures", {})
    return next((f for f in failures.values() if isinstance(f, Sc3dError)), error)


@contextmanager
def _interrupts_kept() -> Iterator[None]:
    """Ray Train replaces the handler of Ctrl-C and leaves its own there; put the caller's back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _work(job: TrainJob) -> Sc3dError | None:
    """One worker: fit its share, and in the first worker write the checkpoints and the adapter.

    An error that all workers meet at the same step is returned: raised, it would be retried like the death of a worker.
    """
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    pairs = job.make_pairs()
    checkpoint = job.run.read_bytes(job.checkpoint_file) if job.run.exists(job.checkpoint_file) else None
    first = rank == 0
    hooks = Hooks(
        validate=job.validate if first else None,
        validate_every=job.validate_every,
        on_checkpoint=(lambda data: job.run.write_bytes(job.checkpoint_file, data)) if first else None,
        checkpoint_every=job.checkpoint_every,
    )
    device = ray.train.torch.get_device() if world > 1 else torch.device("cuda" if torch.cuda.is_available() else "cpu")
    replica = Replica(rank, world, _data_parallel, _total) if world > 1 else Replica()
    on_step = job.on_step if first else None
    try:
        result = fit(pairs, pairs.feature_dims, job.config, job.seed, on_step, checkpoint, hooks, device, replica)
    except (DivergenceError, ConfigError) as error:
        return error
    if first:
        job.run.write_bytes(job.adapter_file, encode_adapter(result.adapter, pairs.source_names, job.recipe))
    return None


def _data_parallel(model: nn.Module) -> nn.Module:
    prepared: nn.Module = ray.train.torch.prepare_model(model)
    return prepared


def _total(tensor: Tensor) -> Tensor:
    torch.distributed.all_reduce(tensor)
    return tensor

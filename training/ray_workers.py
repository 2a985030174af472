"""Training over the workers of Ray Train: data parallel over CPUs (gloo) or GPUs (nccl); a worker that dies is replaced."""

from __future__ import annotations

import dataclasses
import shutil
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import ray.train
import ray.train.torch
import torch.distributed
from torch import Tensor

from sc3d.errors import PreflightError, RayDiedError, Sc3dError
from training.job import TrainJob
from training.loop import Replica
from training.process import work
from training.relay import sender, steps_of_workers

_MAX_FAILURES = 2
_RAY_FOLDER = "ray"


def fit_on_workers(job: TrainJob) -> Sc3dError | None:
    """Train with ``config.workers`` workers of the running Ray; returns an error that all of them met.

    Raises:
        PreflightError: the cluster has fewer CPUs than workers.
        RayDiedError: a worker died more often than is retried.
        Sc3dError: whatever ended a worker.
    """
    workers = job.config.workers
    resources = ray.cluster_resources()
    if resources.get("CPU", 0) < workers:
        raise PreflightError(
            f"train.workers = {workers}, but the cluster has {resources.get('CPU', 0):.0f} CPUs; use fewer workers"
        )
    scaling = ray.train.ScalingConfig(
        num_workers=workers, use_gpu=resources.get("GPU", 0) >= workers, resources_per_worker={"CPU": 1}
    )
    # A name of its own, since Ray resumes silently where it finds one again; resuming is the checkpoint file's business.
    settings = ray.train.RunConfig(
        name=uuid.uuid4().hex,
        # Where Ray Train keeps its own state while it runs.
        storage_path=job.run.path(f"{job.folder}/{_RAY_FOLDER}"),
        storage_filesystem=None if job.run.is_local else job.run.arrow(),
        failure_config=ray.train.FailureConfig(max_failures=_MAX_FAILURES),
    )
    with _interrupts_kept(), steps_of_workers(job.on_step) as mailbox:
        try:
            train_one: Callable[[], Any] = partial(_work, dataclasses.replace(job, on_step=None), mailbox)
            result: Any = ray.train.torch.TorchTrainer(train_one, scaling_config=scaling, run_config=settings).fit()
            outcome: Sc3dError | None = result.return_value
            return outcome
        except ray.train.TrainingFailedError as error:
            raise _cause(error) from error
        finally:
            _tidy(job)


def _tidy(job: TrainJob) -> None:
    for name in job.run.names(f"{job.folder}/{_RAY_FOLDER}"):
        job.run.delete(name)
    if job.run.is_local:
        shutil.rmtree(job.run.path(f"{job.folder}/{_RAY_FOLDER}"), ignore_errors=True)


def _cause(error: ray.train.TrainingFailedError) -> Exception:
    """The error of sc3d that ended a worker, if it was one; one line, if processes died; else what the code has raised."""
    failures = [*getattr(error, "worker_failures", {}).values(), getattr(error, "controller_failure", None) or error]
    ours = next((failure for failure in failures if isinstance(failure, Sc3dError)), None)
    if ours is not None or not all(type(failure).__module__.startswith("ray.") for failure in failures):
        return ours or error
    said = str(failures[0]).partition("\n")[0]
    return RayDiedError(
        f"the processes of the training died more often than they are replaced ({said}). Their logs are in "
        "the folder of Ray's session. What is finished is kept; the same command goes on where it was"
    )


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


def _work(job: TrainJob, mailbox: Any) -> Sc3dError | None:
    """One worker. An error that all of them meet is returned: raised, it would be retried like the death of a worker."""
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    replica = Replica(rank, world, _total) if world > 1 else Replica()
    with sender(mailbox) as send:
        return work(dataclasses.replace(job, on_step=send), replica, ray.train.torch.get_device())


def _total(tensor: Tensor) -> Tensor:
    torch.distributed.all_reduce(tensor)
    return tensor

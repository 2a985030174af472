"""Adapter training: in the calling process, or data-parallel over Ray Train workers, with checkpoints in the run folder.

The latest checkpoint is one file, replaced in one step. A run that finds one of its own configuration goes on from there, and a run that
finds a finished one only reads its result.
"""

from __future__ import annotations

import torch

from training.checkpoint import FitResult, finished_result
from training.job import TrainJob
from training.loop import Replica
from training.process import work
from training.trackers import check_trackers


def train(job: TrainJob) -> FitResult:
    """Train an adapter, or go on where an earlier call was cut short; the result is also in ``job.adapter_file``.

    With ``config.workers`` = 0 everything happens in this process. With more, that many Ray Train workers share the pairs of each step
    (gloo on CPUs, nccl on GPUs) and average their gradients; a worker that dies is replaced, and training goes on from the checkpoint.

    Raises:
        DivergenceError, ConfigError, FeatureError, SchemaError: as :func:`training.loop.fit`, also from a worker.
        PreflightError: a tracker is not installed, or the cluster has fewer CPUs than workers.
        RayDiedError: a worker died more often than is retried.
    """
    check_trackers(job.config.trackers)
    if job.config.workers:
        # Not before: Ray reads the settings of its session when it is imported.
        from training.ray_workers import fit_on_workers

        outcome = fit_on_workers(job)
    else:
        outcome = work(job, Replica(), torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    if outcome is not None:
        raise outcome
    return finished_result(job.run.read_bytes(job.checkpoint_file))

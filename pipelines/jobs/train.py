"""labels + features -> adapter -> ``adapters/<recipe>/``."""

from __future__ import annotations

import dataclasses

from pipelines.jobs.job import Job
from pipelines.runner.stage import StageSummary
from pipelines.runner.timings import record_summary
from pipelines.stages.adapter import check_labels, train_job
from sc3d.config import RunConfig
from sc3d.store import RunFolder
from training.checkpoint import StepRecord, finished_result
from training.job import TrainJob
from training.trackers import check_trackers
from training.train import train


def run(config: RunConfig, record: bool = True) -> RunFolder:
    """Train the adapter on the run's labels, unless the one of this configuration is there already; a run cut short goes on.

    Args:
        record: make the configuration that of the folder.

    Raises:
        InputError: no pair, or no pair of a category, has a label.
        FeatureError: labels of other features.
        PreflightError: a tracker is not installed, or the cluster has fewer CPUs than workers.
        DivergenceError: the loss is no longer finite; names the pair.
    """
    with Job(config, "train") as job:
        training, steps = train_job(job.config), config.train.steps
        done = job.folder.exists(training.adapter_file)
        check_labels(job.config)
        if not done:
            check_trackers(config.train.trackers)
        job.begin(record)
        there = steps if done else _steps_so_far(training)
        line = job.progress.start("train", steps, done=there)
        newest = there

        def advance(record: StepRecord) -> None:
            nonlocal newest
            job.lease.check()
            # Steps that are done again after a worker's death have been counted.
            if record.step > newest:
                line.advance(record.step - newest)
                newest = record.step

        if not done:
            if config.train.workers:
                job.ray.start()
            train(dataclasses.replace(training, on_step=advance))
        record_summary(job.folder, StageSummary("train", steps, steps - there, 0, line.finish()))
    return job.folder


def _steps_so_far(job: TrainJob) -> int:
    return len(finished_result(job.run.read_bytes(job.checkpoint_file)).history) if job.run.exists(job.checkpoint_file) else 0

"""labels + features -> adapter -> ``adapters/<recipe>/``."""

from __future__ import annotations

import dataclasses

from pipelines.jobs.job import Job
from pipelines.runner.pace import Pace
from pipelines.runner.stage import StageSummary
from pipelines.runner.timings import record_summary
from pipelines.stages.adapter import check_labels, train_job
from sc3d.artefacts import Catalogue
from sc3d.config import RunConfig, TrainConfig
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
        labels = check_labels(job.config)
        if not done:
            check_trackers(config.train.trackers)
        job.begin(record)
        there = steps if done else _steps_so_far(training)
        if not done:
            job.progress.say(_what_is_ahead(config.train, labels, there))
        pace = Pace(steps - there, job.progress.say)
        line = job.progress.start("train", steps, done=there)
        newest = there

        def advance(record: StepRecord) -> None:
            nonlocal newest
            job.lease.check()
            # Steps that are done again after a worker's death have been counted.
            if record.step > newest:
                line.advance(record.step - newest)
                pace.step()
                newest = record.step

        if not done:
            if config.train.workers:
                job.ray.start()
            train(dataclasses.replace(training, on_step=advance))
        record_summary(job.folder, StageSummary("train", steps, steps - there, 0, line.finish()))
    return job.folder


def _what_is_ahead(config: TrainConfig, labels: Catalogue, there: int) -> str:
    """How many steps there will be, of what, and why so many."""
    pairs = max(1, int((labels.columns(["n_kept"])["n_kept"].to_numpy() > 0).sum()))
    of_paper = config.steps == TrainConfig().steps
    why = "the paper's number, made for a GPU; fewer: --set train.steps=300, as the demo has" if of_paper else "as train.steps says"
    size = "1 pair" if config.pairs_per_step == 1 else f"{config.pairs_per_step:,} pairs"
    often = f"{config.steps * config.pairs_per_step / pairs:,.1f}".removesuffix(".0")
    goes_on = f"; {there:,} of them are done" if there else ""
    return (
        f"  train: {config.steps:,} steps of {size} ({why}), so each of {pairs:,} pairs with labels about {often} times{goes_on}. "
        "How long that takes is estimated from the first steps"
    )


def _steps_so_far(job: TrainJob) -> int:
    return len(finished_result(job.run.read_bytes(job.checkpoint_file)).history) if job.run.exists(job.checkpoint_file) else 0

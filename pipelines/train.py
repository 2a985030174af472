"""labels + features -> adapter -> ``adapters/<recipe>/``."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

from cluster.session import RaySession
from pipelines.describe import DescribeStage
from pipelines.match import LabelStage
from pipelines.progress import Progress
from pipelines.stage import StageSummary
from pipelines.timings import record_summary
from sc3d.config import RunConfig
from sc3d.shards import recipe_of
from sc3d.store import RunFolder
from training.data import LabelledPairs
from training.job import TrainJob


def training_pairs(config: RunConfig) -> LabelledPairs:
    """The labelled pairs of a run, with the features of their images.

    Raises:
        InputError: no pair has a label.
    """
    labels = LabelStage(config).artefacts.catalogue().read_all()
    return LabelledPairs(labels, DescribeStage(config).read_features, config.ray.cache_mb * 2**20)


def train_job(config: RunConfig) -> TrainJob:
    """What ``sc3d train`` trains: named by the configuration and by the label shards that are there."""
    labels = LabelStage(config)
    shards = hashlib.sha256("\n".join(labels.artefacts.files()).encode()).hexdigest()
    fingerprint: Mapping[str, Any] = {
        "labels": labels.recipe,
        "shards": shards,
        "seed": config.seed,
        "train": {k: v for k, v in dataclasses.asdict(config.train).items() if k != "workers"},
    }
    return TrainJob(
        make_pairs=lambda: training_pairs(config),
        config=config.train,
        seed=config.seed,
        run=RunFolder(config.run),
        folder=f"adapters/{recipe_of('train', fingerprint)}",
        recipe=DescribeStage(config).recipe,
    )


def run(config: RunConfig) -> RunFolder:
    """Train the adapter on the run's labels, unless the one of this configuration is there already; a run cut short goes on.

    Raises:
        InputError: no pair has a label.
        DivergenceError: the loss is no longer finite; names the pair.
    """
    job = train_job(config)
    steps = config.train.steps
    done = job.run.exists(job.adapter_file)
    with RaySession(config.ray) as ray, Progress() as progress:
        task = progress.start("train", steps, done=steps if done else 0)
        if not done:
            job = dataclasses.replace(job, on_step=lambda _: task.advance(1)) if config.train.workers == 0 else job
            ray.start()
            # Not before: Ray reads the settings of the session when it is imported.
            from training.train import train

            train(job)
            task.complete()
        seconds = task.finish()
    record_summary(job.run, StageSummary("train", steps, 0 if done else steps, 0, seconds))
    return job.run

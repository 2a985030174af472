"""features -> labels by another labelling -> ``labels/<recipe>/``, and an adapter trained on them: for comparisons."""

from __future__ import annotations

import dataclasses

from pipelines.folder.manifest import read_pairs
from pipelines.jobs import train
from pipelines.jobs.job import Job
from pipelines.jobs.represent import fit_shapes, images_of
from pipelines.stages.compare import CompareStage, labelled_by
from pipelines.stages.describe import DescribeStage
from sc3d.config import RunConfig
from sc3d.errors import InputError
from sc3d.store import RunFolder


def run(config: RunConfig, name: str, retry_rejects: bool = False) -> RunFolder:
    """Label the run's pairs by a labelling and train the adapter on these labels, as far as that is not done.

    :func:`~pipelines.stages.compare.labelled_by` is the configuration of both. The folder notes the labelling, and goes on to train on its
    own labels.

    Raises:
        ConfigError: there is no such labelling.
        InputError: the run has no pairs, or no pair has a label.
    """
    config = dataclasses.replace(config, compare=dataclasses.replace(config.compare, labelling=name))
    with Job(config, "compare", retry_rejects=retry_rejects) as job:
        stage = CompareStage(labelled_by(job.config, name))
        items = stage.items()
        if not items.num_rows or not len(stage.other(DescribeStage).known):
            raise InputError(f"{job.folder.uri} has no described pairs to label; run sc3d describe on it first")
        job.begin()
        if stage.asks_class_shapes:
            fit_shapes(job, stage.whole, images_of(read_pairs(job.folder, labelled=True)))
        job.run_stage(stage, items)
    return train.run(stage.whole, record=False)

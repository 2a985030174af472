"""annotated images -> the 3D shape of each category, fitted to the images of annotated pairs."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from pipelines.folder.manifest import read_pairs
from pipelines.jobs.job import Job
from pipelines.runner.stage import StageSummary
from pipelines.stages.depth import DepthStage
from pipelines.stages.fit import FitStage
from pipelines.stages.method_config import check_method
from pipelines.stages.observing import features_method
from pipelines.stages.represent import RepresentStage
from sc3d.config import RunConfig
from sc3d.errors import InputError
from sc3d.records import Pair
from sc3d.shards import item_table
from sc3d.store import RunFolder


def run(config: RunConfig, retry_rejects: bool = False) -> RunFolder:
    """Build the class shapes of a run and fit them to the images of its annotated pairs.

    Raises:
        InputError: no image of the training split has keypoints.
        ConfigError: the run lacks the features or the adapter.
    """
    with Job(config, "represent", retry_rejects=retry_rejects) as job:
        items = images_of(read_pairs(job.folder, labelled=False))
        check_method(features_method(job.config), job.config, items["id"].to_pylist())
        job.begin()
        fit_shapes(job, job.config, items)
    return job.folder


def images_of(pairs: Iterable[Pair]) -> pa.Table:
    """The images of some pairs (:data:`~sc3d.shards.ITEMS`)."""
    return item_table(sorted({(pair.category, image) for pair in pairs for image in (pair.source_id, pair.target_id)}))


def both(one: pa.Table, other: pa.Table) -> pa.Table:
    """The items of two tables (:data:`~sc3d.shards.ITEMS`), each once."""
    rows = {(row["category"], row["id"]) for table in (one, other) for row in table.to_pylist()}
    return item_table(sorted(rows))


def fit_shapes(job: Job, config: RunConfig, items: pa.Table) -> list[StageSummary]:
    """Make the depths that are missing, build what is missing of the class shapes, and fit them to some images.

    Raises:
        InputError: there is nothing to build them from.
    """
    shapes, fits = RepresentStage(config), FitStage(config)
    if not len(shapes.items()):
        raise InputError(
            f"{job.folder.uri}: no image of the split trn has annotated keypoints, on which class shapes are built; use a data set whose "
            "training images are annotated, or represent.landmarks=registered, which needs no annotation"
        )
    depths = [job.run_stage(depth, both(shapes.learned(), items)) for depth in DepthStage.instances(config)]
    return [*depths, job.run_stage(shapes), job.run_stage(fits, items)]

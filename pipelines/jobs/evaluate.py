"""annotated pairs -> predicted keypoints and the quality of filters, and their tables in ``report/``."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from pipelines.folder.manifest import read_pairs
from pipelines.jobs.job import Job
from pipelines.jobs.represent import fit_shapes, images_of
from pipelines.report.metrics import collect_metrics, write_metrics
from pipelines.runner.stage import StageSummary
from pipelines.runner.timings import record_summary
from pipelines.stages.evaluate import EvaluateStage, evaluate_stages
from pipelines.stages.judge import JudgeStage, judged_pairs
from pipelines.stages.method_config import check_method
from pipelines.stages.mirror import MirrorStage
from sc3d.config import RunConfig
from sc3d.evaluation.labellings import labelling_named
from sc3d.records import Pair
from sc3d.shards import item_table
from sc3d.store import RunFolder


def run(config: RunConfig, retry_rejects: bool = False) -> RunFolder:
    """Evaluate the annotated pairs of a run and write ``report/metrics.json``, ``pck.csv`` and ``pck.tex``.

    Raises:
        InputError: the data set's annotations cannot be used.
        ConfigError: a method or labelling is unknown, or the run lacks a method's features or its adapter.
    """
    with Job(config, "evaluate", retry_rejects=retry_rejects) as job:
        stages, pairs = evaluate_stages(job.config), read_pairs(job.folder, labelled=False)
        images = {image for pair in pairs for image in (pair.source_id, pair.target_id)}
        for stage in stages:
            check_method(stage.method, job.config, images)
        for name in job.config.evaluate.labellings:
            labelling_named(name)
        job.begin()
        done = []
        for stage in stages:
            job.progress.say(f"  method {stage.label}")
            if stage.method.carried:
                done += fit_shapes(job, stage.whole, images_of(pairs))
            if stage.flips:
                sources = item_table(sorted({(pair.category, pair.source_id) for pair in pairs}))
                done.append(job.run_stage(stage.other(MirrorStage), sources))
            done.append(job.run_stage(stage, _items(pairs)))
        judged = judged_pairs(pairs, config.evaluate.filter_pairs)
        if judged:
            judge = JudgeStage(job.config)
            if judge.asks_class_shapes:
                done += fit_shapes(job, judge.whole, images_of(judged))
            done.append(job.run_stage(judge, _items(judged)))
        record_summary(job.folder, _together(done, len(pairs)))
        write_metrics(job.folder, collect_metrics(job.config, stages, pairs, judged))
    return job.folder


def _items(pairs: Sequence[Pair]) -> pa.Table:
    return item_table((pair.category, pair.pair_id) for pair in pairs)


def _together(done: Sequence[StageSummary], pairs: int) -> StageSummary:
    """The stages of an evaluation as one: what it took, over all methods."""
    return StageSummary(
        stage=EvaluateStage.name,
        items=pairs,
        computed=max((one.computed for one in done), default=0),
        rejects=max((one.rejects for one in done), default=0),
        seconds=sum(one.seconds for one in done),
    )

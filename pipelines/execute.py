"""How a stage runs: plan shards, send them through actor pools on Ray Data, commit each shard in the worker that finished it.

Only shard descriptions and counts travel through Ray's object store; rows are read from and written to the run folder by the workers.
Adjacent actors that need no GPU and no environment of their own run together in tasks, whose processes stay warm from stage to stage:
loading Python's numeric libraries costs more than these actors do. Each other actor gets a pool of stateful Ray actors of its own, and
rows travel between pools as one safetensors blob a shard.
"""

from __future__ import annotations

import json
import uuid
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from math import ceil
from typing import Any

import pyarrow as pa

from actors.base import Resources, check_actors
from cluster.session import RaySession
from pipelines.progress import Progress
from pipelines.segment import SegmentWorker, needs_own_process, segments
from pipelines.stage import Stage, StageSummary
from pipelines.transport import encode_shard
from sc3d.config import RunConfig
from sc3d.errors import RejectBudgetError, UpstreamError
from sc3d.shards import Shard, item_table, remaining_shards

_LOCAL_SHARDS = 1000
_TASKS_PER_WORKER = 8


def run_stage(stage: Stage, items: pa.Table | Sequence[tuple[str, str]], progress: Progress, ray: RaySession) -> StageSummary:
    """Compute what is missing of ``items``, pairs of (category, id), and return what was done. Ray is started if there is something to do.

    ``items`` may also be a table of them (:data:`~sc3d.shards.ITEMS`), which is the form for a million.

    Raises:
        ConfigError: an actor requires what nobody provides.
        RejectBudgetError: more than ``max_reject_fraction`` of the items were rejected.
    """
    check_actors(stage.actors(), stage.given)
    table = items if isinstance(items, pa.Table) else item_table(items)
    shards = remaining_shards(stage.plan(table), stage.artefacts, stage.plan)
    todo = sum(len(s.ids) for s in shards)
    task = progress.start(stage.name, len(items), done=len(items) - todo)
    reasons: Counter[str] = Counter()
    counters: Counter[str] = Counter()
    if shards:
        for result in _execute(stage, shards, ray):
            reasons.update(filter(_counts_against_budget, result["reasons"].split("\n")))
            counters.update(json.loads(result["counters"]))
            task.advance(int(result["items"]), int(result["rejects"]))
            _check_budget(stage, reasons, len(items))
    seconds = task.finish()
    rejects = len(stage.artefacts.rejects())
    return StageSummary(stage.name, len(items), todo, rejects, seconds, dict(counters))


def _execute(stage: Stage, shards: Sequence[Shard], session: RaySession) -> Iterator[dict[str, Any]]:
    """The result of each shard, as it is finished."""
    if not stage.actors() and len(shards) <= _LOCAL_SHARDS:
        # Without a model to load, starting a process costs more than the work.
        worker = SegmentWorker(type(stage), stage.config, 0)
        for shard in shards:
            row = {**encode_shard(shard), "counters": "{}"}
            result = worker({key: [value] for key, value in row.items()})
            yield {key: value[0] for key, value in result.items()}
        return
    session.start()
    import ray.data

    rows = [{**encode_shard(shard), "counters": "{}"} for shard in shards]
    most = max(1, min(stage.config.ray.workers, len(shards)))
    together = max(1, min(stage.shards_per_task, len(rows) // (_TASKS_PER_WORKER * most)))
    dataset: ray.data.Dataset = ray.data.from_items(rows, override_num_blocks=ceil(len(rows) / together))
    run_id = uuid.uuid4().hex
    for index, group in enumerate(segments(stage.actors(), stage.config) or [[]]):
        needs = group[0].needs(stage.config) if group else Resources()
        where: dict[str, Any] = {"batch_size": 1, "num_cpus": needs.num_cpus}
        with warnings.catch_warnings():
            # Ray announces that retry limits move to other arguments in 2.64; until then there is no other way to set them.
            warnings.simplefilter("ignore", DeprecationWarning)
            if needs_own_process(needs):
                dataset = dataset.map_batches(
                    SegmentWorker,
                    fn_constructor_args=(type(stage), stage.config, index),
                    compute=ray.data.ActorPoolStrategy(min_size=1, max_size=most),
                    num_gpus=needs.num_gpus or None,
                    resources=dict(needs.custom) or None,
                    runtime_env={"conda": needs.environment} if needs.environment else None,
                    max_restarts=4,
                    max_task_retries=2,
                    **where,
                )
            else:
                dataset = dataset.map_batches(
                    partial(_map_shard, stage=type(stage), config=stage.config, segment=index, run_id=run_id),
                    compute=ray.data.TaskPoolStrategy(size=most),
                    max_retries=2,
                    **where,
                )
    yield from dataset.iter_rows()


def _map_shard(block: dict[str, Any], stage: type[Stage], config: RunConfig, segment: int, run_id: str) -> dict[str, Any]:
    # Tasks reuse warm processes from stage to stage, which saves importing the numeric libraries again; the models are kept for the run.
    return _worker_of(stage, config, segment, run_id)(block)


@lru_cache(maxsize=1)
def _worker_of(stage: type[Stage], config: RunConfig, segment: int, run_id: str) -> SegmentWorker:
    # What the run folder holds changes between runs of one configuration, so a worker that has looked is not kept for the next run.
    return SegmentWorker(stage, config, segment)


def _counts_against_budget(reason: str) -> bool:
    # A pair whose image was rejected is that reject's consequence, not another failure.
    return bool(reason) and not reason.startswith(UpstreamError.__name__)


def _check_budget(stage: Stage, reasons: Counter[str], items: int) -> None:
    rejected, allowed = sum(reasons.values()), stage.config.max_reject_fraction * items
    # One reject of a handful of images is no verdict on the run; more than the share, and at least two, is.
    if rejected <= max(allowed, 1):
        return
    commonest = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(3))
    raise RejectBudgetError(
        f"{stage.name}: {rejected} of {items} records were rejected, more than max_reject_fraction = "
        f"{stage.config.max_reject_fraction:g} allows. Commonest: {commonest}. "
        f"All of them are in {stage.run.uri}/rejects/{stage.name}/{stage.recipe}"
    )

"""How a stage runs: plan shards, send them through actor pools on Ray Data, commit each shard in the worker that finished it.

A :class:`Stage` says what goes in, which actors map it and what comes out. Only shard descriptions and counts travel through Ray's object
store; rows are read from and written to the run folder by the workers. Adjacent actors that need no GPU and no environment of their own
run together in tasks, whose processes stay warm from stage to stage: loading Python's numeric libraries costs more than these actors do.
Each other actor gets a pool of stateful Ray actors of its own, and rows travel between pools as one safetensors blob a shard.
"""

from __future__ import annotations

import logging
import uuid
import warnings
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from itertools import islice
from typing import Any, ClassVar

from actors.base import Actor, Outcome, Resources, Row, check_actors, run_actors
from cluster.session import RaySession
from pipelines.manifest import images_by_id
from pipelines.progress import Progress
from pipelines.transport import pack_outcomes, unpack_outcomes
from sc3d.config import RunConfig
from sc3d.errors import RejectBudgetError, UpstreamError
from sc3d.records import ImageRecord, Reject
from sc3d.schema import Record
from sc3d.shards import Artefacts, Catalogue, Shard, plan_shards, recipe_of, remaining_shards
from sc3d.store import RunFolder

logger = logging.getLogger(__name__)


_LOCAL_SHARDS = 1000


class Stage(ABC):
    """One stage of the pipeline for one configuration. Built anew in every worker from the configuration alone.

    Class attributes:
        name: name in rejects, progress and reports.
        folder: folder of its artefacts in the run folder.
        record: what its shards hold.
        key: the id column, ``image_id`` or ``pair_id``.
        by_category: shards lie in ``category=<c>`` folders.
        upstream: the stages whose artefacts it reads.
        given: row keys that :meth:`load` provides -> their meaning.
    """

    name: ClassVar[str]
    folder: ClassVar[str]
    record: ClassVar[type[Record]]
    key: ClassVar[str] = "image_id"
    by_category: ClassVar[bool] = False
    upstream: ClassVar[tuple[type[Stage], ...]] = ()
    given: ClassVar[Mapping[str, str]]

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.run = RunFolder(config.run)

    @abstractmethod
    def actors(self) -> Sequence[type[Actor]]:
        """The actors that map its rows, in order."""

    def settings(self) -> Mapping[str, Any]:
        """What its result depends on beside its actors' fingerprints and its upstream recipes, as plain JSON values."""
        return {}

    @abstractmethod
    def load(self, shard: Shard) -> Iterable[Row]:
        """The rows of a shard in the order of its ids, in the worker. A row that cannot be read may hold an ``error`` key instead: it
        becomes a reject. Rows are taken as they are needed, so a generator keeps only a batch of them in memory."""

    @abstractmethod
    def finish(self, row: Row, seconds: float) -> Record:
        """The record of a row that went through all actors; large arrays go to the store here."""

    @property
    def shard_size(self) -> int:
        """Ids a shard."""
        return self.config.ray.images_per_shard

    @cached_property
    def recipe(self) -> str:
        """Hash of everything that this stage's artefacts depend on."""
        fingerprint = {
            "record": [self.record.__name__, self.record.SCHEMA_VERSION],
            "actors": {a.__name__: dict(a.fingerprint(self.config)) for a in self.actors()},
            "settings": dict(self.settings()),
            "upstream": [stage(self.config).recipe for stage in self.upstream],
        }
        return recipe_of(self.name, fingerprint)

    @cached_property
    def inputs(self) -> dict[type[Stage], Catalogue]:
        """What each upstream stage has finished, looked up once a process."""
        return {stage: stage(self.config).artefacts.catalogue() for stage in self.upstream}

    @cached_property
    def images(self) -> dict[str, ImageRecord]:
        """The manifest's images by their id, read once a worker."""
        return images_by_id(self.config.run)

    @cached_property
    def artefacts(self) -> Artefacts:
        """Where its records are."""
        return Artefacts(self.run, self.name, self.folder, self.recipe, self.record, self.key, self.by_category)


@dataclass(frozen=True)
class StageSummary:
    """What a run of a stage did. ``items`` are all ids it answers for, ``computed`` those of this run."""

    stage: str
    items: int
    computed: int
    rejects: int
    seconds: float


def needs_own_process(actor: type[Actor]) -> bool:
    """Whether an actor asks for a GPU, a custom resource or an environment of its own."""
    return bool(actor.resources.num_gpus or actor.resources.custom or actor.resources.environment)


def segments(actors: Sequence[type[Actor]]) -> list[list[type[Actor]]]:
    """Split actors into groups that share a process: neighbours without GPU, custom resource or environment."""

    groups: list[list[type[Actor]]] = []
    shares = False
    for actor in actors:
        if shares and not needs_own_process(actor):
            groups[-1].append(actor)
        else:
            groups.append([actor])
        shares = not needs_own_process(actor)
    return groups


class SegmentWorker:
    """One process of one segment of a stage: maps a block that is one shard. Ray Data builds it once and calls it often."""

    def __init__(self, stage: type[Stage], config: RunConfig, segment: int) -> None:
        self.stage = stage(config)
        groups = segments(self.stage.actors()) or [[]]
        if groups[segment]:
            _single_threaded()
        self.actors = [actor(config) for actor in groups[segment]]
        self.first, self.last = segment == 0, segment == len(groups) - 1

    def __call__(self, block: dict[str, Any]) -> dict[str, Any]:
        shard = Shard(str(block["category"][0]), tuple(str(block["ids"][0]).split("\n")))
        outcomes = self._mapped(self._load(shard) if self.first else unpack_outcomes(block["rows"][0]))
        if not self.last:
            return {**block, "rows": [pack_outcomes(list(outcomes))]}
        rejects = self._commit(shard, outcomes)
        reasons = "\n".join(f"{r.error_type}: {r.message}" for r in rejects)
        return {"items": [len(shard.ids)], "rejects": [len(rejects)], "reasons": [reasons]}

    def _load(self, shard: Shard) -> Iterator[Outcome]:
        for row in self.stage.load(shard):
            error = row.pop("error", None)
            reject = Reject(row[self.stage.key], self.stage.name, type(error).__name__, str(error)) if error else None
            yield Outcome(row, reject)

    def _mapped(self, outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
        """The outcomes of this segment, a batch at a time: the rows of a whole shard may not fit in memory at once."""
        waiting = iter(outcomes)
        size = max((actor.batch_size for actor in self.actors), default=1)
        while batch := list(islice(waiting, size)):
            alive = [o for o in batch if o.reject is None]
            after = run_actors(self.actors, [o.row for o in alive], self.stage.key, self.stage.name)
            for outcome, mapped in zip(alive, after, strict=True):
                outcome.row, outcome.reject = mapped.row, mapped.reject
                outcome.seconds += mapped.seconds
            yield from batch

    def _commit(self, shard: Shard, outcomes: Iterable[Outcome]) -> list[Reject]:
        records, rejects = [], []
        for outcome in outcomes:
            if outcome.reject is None:
                try:
                    records.append(self.stage.finish(outcome.row, outcome.seconds))
                except Exception as error:  # one bad row never takes its shard along
                    key = outcome.row[self.stage.key]
                    outcome.reject = Reject(key, self.stage.name, type(error).__name__, str(error))
            if outcome.reject is not None:
                rejects.append(outcome.reject)
        self.stage.artefacts.commit(shard, records, rejects)
        return rejects


def _single_threaded() -> None:
    # Several actors share the machine's cores; each library's own thread pool would fight the others'.
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def run_stage(stage: Stage, items: Sequence[tuple[str, str]], progress: Progress, ray: RaySession) -> StageSummary:
    """Compute what is missing of ``items``, pairs of (category, id), and return what was done. Ray is started if there is something to do.

    Raises:
        ConfigError: an actor requires what nobody provides.
        RejectBudgetError: more than ``max_reject_fraction`` of the items were rejected.
    """
    check_actors(stage.actors(), stage.given)
    shards = remaining_shards(plan_shards(items, stage.shard_size), stage.artefacts)
    todo = sum(len(s.ids) for s in shards)
    task = progress.start(stage.name, len(items), done=len(items) - todo)
    reasons: Counter[str] = Counter()
    if shards:
        for result in _execute(stage, shards, ray):
            reasons.update(filter(_counts_against_budget, result["reasons"].split("\n")))
            task.advance(int(result["items"]), int(result["rejects"]))
            _check_budget(stage, reasons, len(items))
    seconds = task.finish()
    rejects = len(stage.artefacts.rejects())
    return StageSummary(stage.name, len(items), todo, rejects, seconds)


def _execute(stage: Stage, shards: Sequence[Shard], session: RaySession) -> Iterator[dict[str, Any]]:
    """The result of each shard, as it is finished."""
    if not stage.actors() and len(shards) <= _LOCAL_SHARDS:
        # Without a model to load, starting a process costs more than the work.
        worker = SegmentWorker(type(stage), stage.config, 0)
        blocks = ({"category": [s.category], "ids": ["\n".join(s.ids)]} for s in shards)
        yield from ({key: value[0] for key, value in worker(block).items()} for block in blocks)
        return
    session.start()
    import ray.data

    rows = [{"category": s.category, "ids": "\n".join(s.ids)} for s in shards]
    dataset: ray.data.Dataset = ray.data.from_items(rows, override_num_blocks=len(rows))
    most = max(1, min(stage.config.ray.workers, len(shards)))
    run_id = uuid.uuid4().hex
    for index, group in enumerate(segments(stage.actors()) or [[]]):
        needs = group[0].resources if group else Resources()
        where: dict[str, Any] = {"batch_size": 1, "num_cpus": needs.num_cpus}
        with warnings.catch_warnings():
            # Ray announces that retry limits move to other arguments in 2.64; until then there is no other way to set them.
            warnings.simplefilter("ignore", DeprecationWarning)
            if group and needs_own_process(group[0]):
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

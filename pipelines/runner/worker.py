"""A run of actors of a stage that share one process, and the worker that maps blocks through them."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice
from typing import Any

import pyarrow as pa

from actors.base import Actor, Outcome, Resources, Row, run_actors
from cluster.metrics import RunMetrics
from pipelines.runner.block import Block, decode_block, encode_block, pack_outcomes, unpack_outcomes
from pipelines.runner.stage import KEPT_LABELS, Stage
from pipelines.runner.tally import tell
from sc3d.artefacts import KEPT, REJECTED
from sc3d.config import RunConfig
from sc3d.errors import Sc3dError, SchemaError, concerns_the_run
from sc3d.records import Reject
from sc3d.shards import Shard

logger = logging.getLogger(__name__)


def needs_own_process(needs: Resources) -> bool:
    """Whether an actor asks for a GPU, a custom resource or an environment of its own."""
    return bool(needs.num_gpus or needs.custom or needs.environment)


def needs_of(group: Sequence[type[Actor]], config: RunConfig) -> Resources:
    """What one process of a group of actors needs, with the run's own share of a GPU."""
    needs = group[0].needs(config) if group else Resources()
    asked = config.ray.pools.get(group[0].__name__) if group else None
    return replace(needs, num_gpus=asked.num_gpus) if needs.num_gpus and asked and asked.num_gpus else needs


def segments(actors: Sequence[type[Actor]], config: RunConfig) -> list[list[type[Actor]]]:
    """Split actors into groups that share a process: neighbours without GPU, custom resource or environment."""
    groups: list[list[type[Actor]]] = []
    shares = False
    for actor in actors:
        alone = needs_own_process(actor.needs(config))
        if shares and not alone:
            groups[-1].append(actor)
        else:
            groups.append([actor])
        shares = not alone
    return groups


class SegmentWorker:
    """One process of one segment of the stage at a position of its graph: maps one block after the other.

    Its models are loaded with the first block that needs it. Whatever ends the run (a model that cannot be loaded, a store that stays
    away) travels on as the block's ``error``, since an exception would be retried like the death of a process.

    ``number``: as which run it writes the run folder (:mod:`sc3d.fence`); by default as the process that it is in.
    """

    def __init__(
        self, stage: type[Stage], config: RunConfig, position: int, segment: int, tally: str = "", number: int | None = None
    ) -> None:
        self.stage = stage(config)
        if number is not None:
            self.stage.run.write_as(number)
        self._position, self._segment, self._tally = position, segment, tally
        self._metrics = RunMetrics(config.run)

    @cached_property
    def _groups(self) -> list[list[type[Actor]]]:
        return segments(self.stage.actors(), self.stage.whole) or [[]]

    @cached_property
    def _needs(self) -> Resources:
        return needs_of(self._groups[self._segment], self.stage.whole)

    @cached_property
    def _actors(self) -> list[Actor]:
        group = self._groups[self._segment]
        if group:
            _single_threaded()
        return [actor(self.stage.whole) for actor in group]

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Map a Ray batch of one block."""
        block = decode_block({"block": row["block"][0]})
        rows = bytes(row["rows"][0])
        started = time.perf_counter()
        if not block.error and (shard := block.shard(self._position)) is not None:
            try:
                rows = self._map(block, self._with_inputs(shard), rows)
            except (Exception, SystemExit) as error:  # told by the driver; raised here it would be retried
                logger.exception("%s cannot go on", self.stage.name)
                block.error = f"{type(error).__name__}: {error}" if isinstance(error, Sc3dError) else f"{error!r}"
            result, seconds = block.results[self._position], time.perf_counter() - started
            result.cpu_seconds += seconds * self._needs.num_cpus
            result.gpu_seconds += seconds * self._needs.num_gpus
        return {key: [value] for key, value in encode_block(block, rows).items()}

    def _with_inputs(self, shard: Shard) -> Shard:
        return replace(shard, inputs=tuple(self.stage.inputs_of(pa.array(shard.ids, pa.string())).to_pylist()))

    def _map(self, block: Block, shard: Shard, rows: bytes) -> bytes:
        """Do this segment's part of a shard; returns the rows for the next segment, if there is one."""
        artefacts, first, last = self.stage.artefacts, self._segment == 0, self._segment == len(self._groups) - 1
        if first and (states := artefacts.finished(shard)) is not None:
            # A task is done again as a whole when its process dies, also the part of it that was committed.
            block.settle(self._position, self.stage.name, artefacts.file(shard), dict(zip(shard.ids, states, strict=True)))
            return b""
        before = Counter(self.stage.counters())
        outcomes = self._mapped(self._load(shard) if first else unpack_outcomes(rows))
        if not last:
            rows = pack_outcomes(list(outcomes))
        else:
            rows = b""
            rejects = self._commit(shard, outcomes)
            states_of = dict.fromkeys(shard.ids, KEPT) | {reject.id: REJECTED for reject in rejects}
            block.settle(self._position, self.stage.name, artefacts.file(shard), states_of)
            result = block.results[self._position]
            result.items, result.rejects = len(shard.ids), len(rejects)
            result.reasons = [f"{r.error_type}: {r.message}" for r in rejects]
            self._tell(len(shard.ids), rejects)
        counted = Counter(self.stage.counters())
        counted.subtract(before)
        self._metrics.labels_kept(counted[KEPT_LABELS])
        counted.update(block.results[self._position].counters)
        block.results[self._position].counters = dict(counted)
        return rows

    def _tell(self, items: int, rejects: Sequence[Reject]) -> None:
        """Let others know of a committed shard."""
        reasons = Counter(reject.error_type for reject in rejects)
        self._metrics.shard_committed(self.stage.name, self.stage.key, items - len(rejects), reasons)
        if self._tally:
            tell(self._tally, self._position, items)

    def _load(self, shard: Shard) -> Iterator[Outcome]:
        """The rows of a shard. Where a whole file cannot be used, all that it should have told becomes rejects."""
        missing = dict.fromkeys(shard.ids)
        try:
            for row in self.stage.load(shard):
                missing.pop(row[self.stage.key])
                yield self._outcome(row)
        except SchemaError as error:
            for id_ in missing:
                yield self._outcome({self.stage.key: id_, "error": error})

    def _outcome(self, row: Row) -> Outcome:
        error = row.pop("error", None)
        reject = Reject(row[self.stage.key], self.stage.name, type(error).__name__, str(error)) if error else None
        return Outcome(row, reject)

    def _mapped(self, outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
        """The outcomes of this segment, a batch at a time: the rows of a whole shard may not fit in memory at once."""
        waiting = iter(outcomes)
        actors = self._actors
        size = max((actor.batch_size for actor in actors), default=1)
        while batch := list(islice(waiting, size)):
            alive = [o for o in batch if o.reject is None]
            after = run_actors(actors, [o.row for o in alive], self.stage.key, self.stage.name, self._metrics.batch_mapped)
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
                    if concerns_the_run(error):
                        raise
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

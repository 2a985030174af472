"""A run of actors of a stage that share one process, and the worker that maps shards through them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from actors.base import Actor, Outcome, Resources, run_actors
from pipelines.stage import Stage
from pipelines.transport import SHARD_COLUMNS, decode_shard, pack_outcomes, unpack_outcomes
from sc3d.config import RunConfig
from sc3d.records import Reject
from sc3d.shards import Shard


def needs_own_process(needs: Resources) -> bool:
    """Whether an actor asks for a GPU, a custom resource or an environment of its own."""
    return bool(needs.num_gpus or needs.custom or needs.environment)


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
    """One process of one segment of a stage: maps a block that is one shard. Ray Data builds it once and calls it often."""

    def __init__(self, stage: type[Stage], config: RunConfig, segment: int) -> None:
        self.stage = stage(config)
        groups = segments(self.stage.actors(), config) or [[]]
        if groups[segment]:
            _single_threaded()
        self.actors = [actor(config) for actor in groups[segment]]
        self.first, self.last = segment == 0, segment == len(groups) - 1

    def __call__(self, block: dict[str, Any]) -> dict[str, Any]:
        shard = decode_shard({key: block[key][0] for key in SHARD_COLUMNS})
        before = Counter(self.stage.counters())
        outcomes = self._mapped(self._load(shard) if self.first else unpack_outcomes(block["rows"][0]))
        if not self.last:
            rows = pack_outcomes(list(outcomes))
            return {**block, "rows": [rows], "counters": [self._counted(block, before)]}
        rejects = self._commit(shard, outcomes)
        reasons = "\n".join(f"{r.error_type}: {r.message}" for r in rejects)
        counters = [self._counted(block, before)]
        return {"items": [len(shard.ids)], "rejects": [len(rejects)], "reasons": [reasons], "counters": counters}

    def _counted(self, block: Mapping[str, Any], before: Counter[str]) -> str:
        """What earlier segments and this one counted for a block, as JSON."""
        counted = Counter(self.stage.counters())
        counted.subtract(before)
        counted.update(json.loads(str(block["counters"][0])))
        return json.dumps(counted)

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

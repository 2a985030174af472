"""How graphs run: what is missing goes through the stages on Ray, each shard is committed by the worker that finished it.

Only descriptions of blocks and counts travel through Ray's object store; rows are read from and written to the run folder by the workers.
Adjacent actors that need no GPU and no environment of their own run together in tasks, whose processes stay warm from stage to stage:
loading Python's numeric libraries costs more than these actors do. Each other actor gets a pool of stateful Ray actors of its own, and
rows travel between the pools of a stage as one safetensors blob a block.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from actors.base import check_actors
from cluster.metrics import RunMetrics
from cluster.session import RaySession
from pipelines.runner.block import Block, StageResult, decode_block, encode_block
from pipelines.runner.graph import Graph, Pool, Work, fitting_parts, pools_of, run_blocks, work_of
from pipelines.runner.progress import Line, Progress
from pipelines.runner.stage import Stage, StageSummary
from pipelines.runner.tally import Tally
from pipelines.runner.worker import SegmentWorker
from sc3d.errors import RejectBudgetError, UpstreamError, WorkerError
from sc3d.records import Reject
from sc3d.shards import Shard

logger = logging.getLogger(__name__)

_LOCAL_BLOCKS = 1000


def run_graph(
    graph: Graph, items: pa.Table, progress: Progress, ray: RaySession, check: Callable[[], None] = lambda: None
) -> list[StageSummary]:
    """Compute what is missing of a table of items (:data:`~sc3d.shards.ITEMS`) in all stages of a graph, and return what each did.

    Ray is started if there is something to do.

    Raises:
        ConfigError, PreflightError, RejectBudgetError, WorkerError: see :meth:`GraphRun.compute`.
    """
    run = GraphRun(graph, progress, ray, check=check)
    run.compute(items)
    return run.finish()


def _singles(graph: Graph, items: pa.Table, ids: Sequence[str]) -> list[Block]:
    """A block of its own for each of some ids, as far as they have come."""
    if not ids:
        return []
    work = work_of(graph, items.filter(pc.is_in(items["id"], value_set=pa.array(ids))))
    return [
        Block.of(block.category, [id_], [[states[i]] for states in block.states], block.files)
        for block in work.blocks
        for i, id_ in enumerate(block.ids)
    ]


class GraphRun:
    """The work of a graph, in one go or category by category, and its books: progress, reject budget, what each stage did.

    Args:
        graph: the stages.
        progress: where each stage gets its line.
        ray: started when there is something to do.
        expected: how many items there are in all, for the reject budget; by default those of the calls so far.
        check: called for each block; raises what forbids to go on.

    When ``stopped`` is set, work ends after the present block.
    """

    def __init__(
        self,
        graph: Graph,
        progress: Progress,
        ray: RaySession,
        expected: int = 0,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        for stage in graph:
            check_actors(stage.actors(), stage.given)
        self._graph, self._progress, self._ray, self._expected, self._check = graph, progress, ray, expected, check
        self._metrics = RunMetrics(graph[0].whole.run)
        self.stopped = threading.Event()
        self._items, self._clock = 0, 0.0
        self._rejected = [0] * len(graph)
        self._totals = [StageResult() for _ in graph]
        self._reasons: list[Counter[str]] = [Counter() for _ in graph]
        self._lines: list[Line] = []

    def compute(self, items: pa.Table, on_category: Callable[[str], None] | None = None) -> None:
        """Compute what is missing of a table of items, which no earlier call was given.

        ``on_category`` is called with each category when all its items are through.

        Raises:
            PreflightError: Ray can never give a stage what it asks for.
            RejectBudgetError: more than ``max_reject_fraction`` of the items were rejected by a stage.
            WorkerError: a worker cannot go on, for a reason that has nothing to do with its rows.
        """
        started = time.perf_counter()
        work = work_of(self._graph, items)
        self._open(work)
        departures = Departures(items, work.blocks, on_category)
        lost = self._follow(work.blocks, departures.of)
        if lost:
            logger.warning("%s: processes died on %d ids; these are tried again one by one", self._graph[0].name, len(lost))
            # Their categories are through when all of this is.
            lost = self._follow(_singles(self._graph, items, lost), lambda block: None)
            self._reject(_singles(self._graph, items, lost))
        departures.all()
        self._clock += time.perf_counter() - started

    def _open(self, work: Work) -> None:
        total = work.items
        for position, (kept, rejected) in enumerate(zip(work.kept, work.rejected, strict=True)):
            if len(self._lines) <= position:
                self._lines.append(self._progress.start(self._graph[position].name, 0))
            self._lines[position].expect(total, kept + rejected)
            self._rejected[position] += rejected
            total -= rejected
        self._items += work.items

    def _follow(self, blocks: Sequence[Block], came_out: Callable[[Block], None]) -> list[str]:
        """Send blocks through the graph and account for them; returns the ids of those that did not come out."""
        waiting = {block.ids[0]: block.ids for block in blocks}
        for positions, part in self._parts(blocks):
            last = positions[-1] == len(self._graph) - 1
            blocks, entered = [], blocks
            for block in part(entered):
                self._go_on(block)
                for position in positions:
                    self._add(position, block.results[position])
                if last:
                    del waiting[block.ids[0]]
                    came_out(block)
                else:
                    blocks.append(block)
        return [id_ for ids in waiting.values() for id_ in ids]

    def _go_on(self, block: Block) -> None:
        self._check()
        if self.stopped.is_set():
            raise InterruptedError(f"{self._graph[0].name} was stopped")
        if block.error:
            where = f"{len(block.ids)} {block.category} ids from {block.ids[0]} on"
            raise WorkerError(f"{block.error} (while working on {where})")

    def _parts(self, blocks: Sequence[Block]) -> Iterator[tuple[range, Callable[[Sequence[Block]], Iterator[Block]]]]:
        """The stages that run side by side, and what runs them; one part if Ray can give all of them what they need at once."""
        if not blocks:
            return
        everything = range(len(self._graph))
        # Stages before the first that has something to do need no processes, and no models.
        first = next(p for p in everything if any(block.shard(p) is not None for block in blocks))
        working = self._graph[first:]
        if len(blocks) <= _LOCAL_BLOCKS and not any(stage.actors() for stage in working):
            # Without a model to load, starting a process costs more than the work.
            yield everything, partial(_in_this_process, working, first)
            return
        self._ray.start()
        pools = [pool for pool in pools_of(self._graph, self._ray.workers) if pool.position >= first]
        for part in fitting_parts(pools, self._ray.most_resources()):
            yield range(part[0].position, part[-1].position + 1), partial(self._on_ray, part)

    def _on_ray(self, pools: Sequence[Pool], blocks: Sequence[Block]) -> Iterator[Block]:
        run_id = f"sc3d-{uuid.uuid4().hex}"
        if pools[0].position == pools[-1].position:
            yield from run_blocks(pools, blocks, run_id)
            return
        before = [total.items for total in self._totals]

        def show(items: Sequence[int]) -> None:
            for line, count, total, first in zip(self._lines, items, self._totals, before, strict=True):
                line.ahead(count - (total.items - first))

        with Tally(run_id, len(self._graph), show):
            yield from run_blocks(pools, blocks, run_id)

    def _reject(self, blocks: Sequence[Block]) -> None:
        """Reject what killed its process each time, in the stage that it did not get through."""
        for block in blocks:
            position = next(p for p in range(len(self._graph)) if block.shard(p) is not None)
            stage = self._graph[position]
            message = "its process died whenever it was tried; is there enough memory? The logs of Ray say how it died"
            reject = Reject(block.ids[0], stage.name, "ProcessDied", message)
            inputs = stage.inputs_of(pa.array(block.ids, pa.string())).to_pylist()
            stage.artefacts.commit(Shard(block.category, block.ids, tuple(inputs)), [], [reject])
            self._add(position, StageResult(1, 1, [f"ProcessDied: {message}"]))

    def _add(self, position: int, result: StageResult) -> None:
        total = self._totals[position]
        total.items += result.items
        total.rejects += result.rejects
        total.cpu_seconds += result.cpu_seconds
        total.gpu_seconds += result.gpu_seconds
        for name, count in result.counters.items():
            total.counters[name] = total.counters.get(name, 0) + count
        self._lines[position].advance(result.items, result.rejects)
        for later in self._lines[position + 1 :]:
            later.expect(-result.rejects)
        for stage, line in zip(self._graph, self._lines, strict=True):
            self._metrics.items_left(stage.name, line.left)
        self._reasons[position].update(reason for reason in result.reasons if _counts_against_budget(reason))
        _check_budget(self._graph[position], self._reasons[position], max(self._items, self._expected))

    def finish(self) -> list[StageSummary]:
        """Close the progress lines and return what each stage did."""
        work = [total.cpu_seconds + total.gpu_seconds for total in self._totals]
        summaries, items = [], self._items
        for position, (stage, total) in enumerate(zip(self._graph, self._totals, strict=True)):
            # Stages that run side by side share the time on the clock by the work of their processes.
            seconds = self._clock * work[position] / sum(work) if sum(work) else self._clock / len(work)
            if position < len(self._lines):
                self._lines[position].finish(seconds)
            rejects = self._rejected[position] + total.rejects
            spent = (seconds, total.counters, total.cpu_seconds, total.gpu_seconds, stage.recipe, stage.upstream_recipes)
            summaries.append(StageSummary(stage.name, items, total.items, rejects, *spent))
            items -= rejects
        return summaries


class Departures:
    """Tells when all items of a category are through."""

    def __init__(self, items: pa.Table, blocks: Sequence[Block], on_category: Callable[[str], None] | None) -> None:
        self._tell = on_category or (lambda category: None)
        self._waiting = Counter(block.category for block in blocks)
        self._categories = sorted(pc.unique(items["category"]).to_pylist())
        for category in [c for c in self._categories if not self._waiting[c]]:
            self._leave(category)

    def of(self, block: Block) -> None:
        """A block has come out."""
        self._waiting[block.category] -= 1
        if not self._waiting[block.category]:
            self._leave(block.category)

    def all(self) -> None:
        """Nothing is left."""
        for category in list(self._categories):
            self._leave(category)

    def _leave(self, category: str) -> None:
        if category in self._categories:
            self._categories.remove(category)
            self._tell(category)


def _in_this_process(graph: Graph, first: int, blocks: Sequence[Block]) -> Iterator[Block]:
    workers = [SegmentWorker(type(stage), stage.whole, position, 0) for position, stage in enumerate(graph, first)]
    for block in blocks:
        row = encode_block(block)
        for worker in workers:
            row = {key: value[0] for key, value in worker({key: [value] for key, value in row.items()}).items()}
        yield decode_block(row)


def _counts_against_budget(reason: str) -> bool:
    # A pair whose image was rejected is that reject's consequence, not another failure.
    return not reason.startswith(UpstreamError.__name__)


def _check_budget(stage: Stage, reasons: Counter[str], items: int) -> None:
    rejected, allowed = sum(reasons.values()), stage.whole.max_reject_fraction * items
    # One reject of a handful of images is no verdict on the run; more than the share, and at least two, is.
    if rejected <= max(allowed, 1):
        return
    commonest = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(3))
    raise RejectBudgetError(
        f"{stage.name}: {rejected} of {items} records were rejected, more than max_reject_fraction = "
        f"{stage.whole.max_reject_fraction:g} allows. Commonest: {commonest}. "
        f"All of them are in {stage.run.uri}/{stage.artefacts.reject_prefix}, and sc3d rejects groups them"
    )

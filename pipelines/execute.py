"""How sections run: what is missing goes through the stages on Ray, each shard is committed by the worker that finished it.

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
from pipelines.block import Block, StageResult, decode_block, encode_block
from pipelines.progress import Progress, Task
from pipelines.section import Plan, Pool, Section, fitting_parts, plan_section, pools_of, run_blocks
from pipelines.segment import SegmentWorker
from pipelines.stage import Stage, StageSummary
from pipelines.tally import Tally
from sc3d.errors import RejectBudgetError, UpstreamError, WorkerError
from sc3d.records import Reject
from sc3d.shards import Shard, item_table

logger = logging.getLogger(__name__)

_LOCAL_BLOCKS = 1000


def run_stage(stage: Stage, items: pa.Table | Sequence[tuple[str, str]], progress: Progress, ray: RaySession) -> StageSummary:
    """Compute what is missing of ``items``, pairs of (category, id), and return what was done: a section of one stage."""
    return run_section([stage], items if isinstance(items, pa.Table) else item_table(items), progress, ray)[0]


def run_section(section: Section, items: pa.Table, progress: Progress, ray: RaySession) -> list[StageSummary]:
    """Compute what is missing of a table of items (:data:`~sc3d.shards.ITEMS`) in all stages of a section, and return what each did.

    Ray is started if there is something to do.

    Raises:
        ConfigError, PreflightError, RejectBudgetError, WorkerError: see :meth:`SectionRun.compute`.
    """
    run = SectionRun(section, progress, ray)
    run.compute(items)
    return run.finish()


def _singles(section: Section, items: pa.Table, ids: Sequence[str]) -> list[Block]:
    """A block of its own for each of some ids, as far as they have come."""
    if not ids:
        return []
    plan = plan_section(section, items.filter(pc.is_in(items["id"], value_set=pa.array(ids))))
    return [
        Block.of(block.category, [id_], [[states[i]] for states in block.states], block.files)
        for block in plan.blocks
        for i, id_ in enumerate(block.ids)
    ]


class SectionRun:
    """The work of a section, in one go or category by category, and its books: progress, reject budget, what each stage did.

    Args:
        section: the stages.
        progress: where each stage gets its line.
        ray: started when there is something to do.
        expected: how many items there are in all, for the reject budget; by default those of the calls so far.
        check: called for each block; raises what forbids to go on.

    When ``stopped`` is set, work ends after the present block.
    """

    def __init__(
        self,
        section: Section,
        progress: Progress,
        ray: RaySession,
        expected: int = 0,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        for stage in section:
            check_actors(stage.actors(), stage.given)
        self._section, self._progress, self._ray, self._expected, self._check = section, progress, ray, expected, check
        self._metrics = RunMetrics(section[0].config.run)
        self.stopped = threading.Event()
        self._items, self._clock = 0, 0.0
        self._rejected = [0] * len(section)
        self._totals = [StageResult() for _ in section]
        self._reasons: list[Counter[str]] = [Counter() for _ in section]
        self._tasks: list[Task] = []

    def compute(self, items: pa.Table, on_category: Callable[[str], None] | None = None) -> None:
        """Compute what is missing of a table of items, which no earlier call was given.

        ``on_category`` is called with each category when all its items are through.

        Raises:
            PreflightError: Ray can never give a stage what it asks for.
            RejectBudgetError: more than ``max_reject_fraction`` of the items were rejected by a stage.
            WorkerError: a worker cannot go on, for a reason that has nothing to do with its rows.
        """
        started = time.perf_counter()
        plan = plan_section(self._section, items)
        self._open(plan)
        departures = Departures(items, plan.blocks, on_category)
        lost = self._follow(plan.blocks, departures.of)
        if lost:
            logger.warning("%s: processes died on %d ids; these are tried again one by one", self._section[0].name, len(lost))
            # Their categories are through when all of this is.
            lost = self._follow(_singles(self._section, items, lost), lambda block: None)
            self._reject(_singles(self._section, items, lost))
        departures.all()
        self._clock += time.perf_counter() - started

    def _open(self, plan: Plan) -> None:
        total = plan.items
        for position, (kept, rejected) in enumerate(zip(plan.kept, plan.rejected, strict=True)):
            if len(self._tasks) <= position:
                self._tasks.append(self._progress.start(self._section[position].name, 0))
            self._tasks[position].expect(total, kept + rejected)
            self._rejected[position] += rejected
            total -= rejected
        self._items += plan.items

    def _follow(self, blocks: Sequence[Block], came_out: Callable[[Block], None]) -> list[str]:
        """Send blocks through the section and account for them; returns the ids of those that did not come out."""
        waiting = {block.ids[0]: block.ids for block in blocks}
        for positions, part in self._parts(blocks):
            last = positions[-1] == len(self._section) - 1
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
            raise InterruptedError(f"{self._section[0].name} was stopped")
        if block.error:
            where = f"{len(block.ids)} {block.category} ids from {block.ids[0]} on"
            raise WorkerError(f"{block.error} (while working on {where})")

    def _parts(self, blocks: Sequence[Block]) -> Iterator[tuple[range, Callable[[Sequence[Block]], Iterator[Block]]]]:
        """The stages that run side by side, and what runs them; one part if Ray can give all of them what they need at once."""
        if not blocks:
            return
        everything = range(len(self._section))
        # Stages before the first that has something to do need no processes, and no models.
        first = next(p for p in everything if any(block.shard(p) is not None for block in blocks))
        working = self._section[first:]
        if len(blocks) <= _LOCAL_BLOCKS and not any(stage.actors() for stage in working):
            # Without a model to load, starting a process costs more than the work.
            yield everything, partial(_in_this_process, working, first)
            return
        self._ray.start()
        pools = [pool for pool in pools_of(self._section, working[0].config.ray.workers) if pool.position >= first]
        for part in fitting_parts(pools, self._ray.most_resources()):
            yield range(part[0].position, part[-1].position + 1), partial(self._on_ray, part)

    def _on_ray(self, pools: Sequence[Pool], blocks: Sequence[Block]) -> Iterator[Block]:
        run_id = f"sc3d-{uuid.uuid4().hex}"
        if pools[0].position == pools[-1].position:
            yield from run_blocks(pools, blocks, run_id)
            return
        before = [total.items for total in self._totals]

        def show(items: Sequence[int]) -> None:
            for task, count, total, first in zip(self._tasks, items, self._totals, before, strict=True):
                task.ahead(count - (total.items - first))

        with Tally(run_id, len(self._section), show):
            yield from run_blocks(pools, blocks, run_id)

    def _reject(self, blocks: Sequence[Block]) -> None:
        """Reject what killed its process each time, in the stage that it did not get through."""
        for block in blocks:
            position = next(p for p in range(len(self._section)) if block.shard(p) is not None)
            stage = self._section[position]
            message = "its process died whenever it was tried; is there enough memory? The logs of Ray say how it died"
            reject = Reject(block.ids[0], stage.name, "ProcessDied", message)
            stage.artefacts.commit(Shard(block.category, block.ids), [], [reject])
            self._add(position, StageResult(1, 1, [f"ProcessDied: {message}"]))

    def _add(self, position: int, result: StageResult) -> None:
        total = self._totals[position]
        total.items += result.items
        total.rejects += result.rejects
        total.cpu_seconds += result.cpu_seconds
        total.gpu_seconds += result.gpu_seconds
        for name, count in result.counters.items():
            total.counters[name] = total.counters.get(name, 0) + count
        self._tasks[position].advance(result.items, result.rejects)
        for later in self._tasks[position + 1 :]:
            later.expect(-result.rejects)
        for stage, task in zip(self._section, self._tasks, strict=True):
            self._metrics.items_left(stage.name, task.left)
        self._reasons[position].update(reason for reason in result.reasons if _counts_against_budget(reason))
        _check_budget(self._section[position], self._reasons[position], max(self._items, self._expected))

    def finish(self) -> list[StageSummary]:
        """Close the progress lines and return what each stage did."""
        work = [total.cpu_seconds + total.gpu_seconds for total in self._totals]
        summaries, items = [], self._items
        for position, (stage, total) in enumerate(zip(self._section, self._totals, strict=True)):
            # Stages that run side by side share the time on the clock by the work of their processes.
            seconds = self._clock * work[position] / sum(work) if sum(work) else self._clock / len(work)
            if position < len(self._tasks):
                self._tasks[position].finish(seconds)
            rejects = self._rejected[position] + total.rejects
            spent = (seconds, total.counters, total.cpu_seconds, total.gpu_seconds)
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


def _in_this_process(section: Section, first: int, blocks: Sequence[Block]) -> Iterator[Block]:
    workers = [SegmentWorker(type(stage), stage.config, position, 0) for position, stage in enumerate(section, first)]
    for block in blocks:
        row = encode_block(block)
        for worker in workers:
            row = {key: value[0] for key, value in worker({key: [value] for key, value in row.items()}).items()}
        yield decode_block(row)


def _counts_against_budget(reason: str) -> bool:
    # A pair whose image was rejected is that reject's consequence, not another failure.
    return not reason.startswith(UpstreamError.__name__)


def _check_budget(stage: Stage, reasons: Counter[str], items: int) -> None:
    rejected, allowed = sum(reasons.values()), stage.config.max_reject_fraction * items
    # One reject of a handful of images is no verdict on the run; more than the share, and at least two, is.
    if rejected <= max(allowed, 1):
        return
    commonest = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(3))
    raise RejectBudgetError(
        f"{stage.name}: {rejected} of {items} records were rejected, more than max_reject_fraction = "
        f"{stage.config.max_reject_fraction:g} allows. Commonest: {commonest}. "
        f"All of them are in {stage.run.uri}/{stage.artefacts.reject_prefix}, and sc3d rejects groups them"
    )

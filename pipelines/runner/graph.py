"""A graph: stages that stream. Blocks of ids go from stage to stage as soon as they can, on one graph of Ray Data.

What the first stage has finished goes on file by file; what it lacks is cut into shards by that stage. So each stage finds its part of a
block: the ids that it lacks and that the stage before it has kept.
"""

from __future__ import annotations

import itertools
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from math import ceil
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from actors.base import Resources
from pipelines.runner.block import Block, decode_block, encode_block
from pipelines.runner.stage import Stage
from pipelines.runner.worker import SegmentWorker, needs_of, needs_own_process, segments
from sc3d.artefacts import KEPT, MISSING, REJECTED, Standing
from sc3d.errors import PreflightError
from sc3d.shards import missing_shards

ELSEWHERE = {"sc3d.image": "!sam3d"}
"""Label selector of what must not run on nodes with SAM 3D Objects' own image, which lacks the packages of all others."""

_TASKS_PER_WORKER = 8
_RETRIES = 2

Graph = Sequence[Stage]


@dataclass(frozen=True)
class Work:
    """What is to be done in a graph of ``items`` ids: ``blocks``; for each stage how many it has ``kept`` or ``rejected`` before."""

    blocks: list[Block]
    items: int
    kept: list[int]
    rejected: list[int]


def work_of(graph: Graph, items: pa.Table) -> Work:
    """Look up how far each stage has come with ``items`` (:data:`~sc3d.shards.ITEMS`), and cut what is left into blocks."""
    first = graph[0]
    items = items.combine_chunks()
    ids = items["id"].combine_chunks() if items.num_rows else pa.array([], pa.string())
    standings = [stage.artefacts.standing(stage.wanted(ids)) for stage in graph]
    states = np.stack([standing.state for standing in standings])
    grouped = _finished_groups(states, standings[0], items["category"])
    if (states[0] == MISSING).any():
        done = pa.chunked_array([ids.filter(pa.array(states[0] != MISSING))])
        left = missing_shards(first.cut(items), done, first.cut)
        rows = pc.index_in(pa.array([id_ for shard in left for id_ in shard.ids], pa.string()), value_set=ids).to_numpy()
        grouped = [*grouped, *np.split(rows, np.cumsum([len(shard.ids) for shard in left])[:-1])]
    known = {stage.name: standing for stage, standing in zip(graph, standings, strict=True)}
    for stage in graph:
        # What pairs are made from are images, whose files say nothing of pair ids.
        others = [kind for kind in stage.upstream if kind.key == stage.key and kind.name not in known]
        known |= {kind.name: (other := stage.other(kind)).artefacts.standing(other.wanted(ids)) for kind in others}
    blocks = [_block(rows, items, states, known) for rows in grouped]
    return Work(blocks, len(ids), *((states == state).sum(axis=1).tolist() for state in (KEPT, REJECTED)))


def _finished_groups(states: np.ndarray, first: Standing, categories: pa.ChunkedArray) -> list[np.ndarray]:
    """The rows that the first stage has finished and a later one lacks, one array for each file and category."""
    wanted = ((states[1:] == MISSING) & (states[:-1] == KEPT)).any(axis=0) & (states[0] == KEPT)
    rows = np.flatnonzero(wanted)
    category = pc.dictionary_encode(categories.combine_chunks()).indices.to_numpy() if len(rows) else np.zeros(0)
    rows = rows[np.lexsort((first.file[rows], category[rows]))] if len(rows) else rows
    keys = np.stack([first.file[rows], category[rows]])
    return np.split(rows, np.flatnonzero((np.diff(keys, axis=1) != 0).any(axis=0)) + 1) if len(rows) else []


def _block(rows: np.ndarray, items: pa.Table, states: np.ndarray, known: dict[str, Standing]) -> Block:
    chosen = items.take(pa.array(rows))
    files = {name: list(standing.files_of(rows)) for name, standing in known.items()}
    return Block.of(chosen["category"][0].as_py(), chosen["id"].to_pylist(), states[:, rows].tolist(), files)


@dataclass(frozen=True)
class Pool:
    """The processes of one segment: at least ``smallest``, at most ``largest``, each with ``needs``; of actors, or of plain tasks."""

    stage: Stage
    position: int
    segment: int
    needs: Resources
    smallest: int
    largest: int
    of_actors: bool


def pools_of(graph: Graph, workers: int) -> list[Pool]:
    """The pools of a graph in the order in which blocks go through them."""
    pools = []
    for position, stage in enumerate(graph):
        for index, group in enumerate(segments(stage.actors(), stage.whole) or [[]]):
            needs = needs_of(group, stage.whole)
            of_actors = needs_own_process(needs)
            asked = stage.whole.ray.pools.get(group[0].__name__) if of_actors else None
            smallest, largest = (asked.min, asked.max or workers) if asked else (1, workers)
            pools.append(Pool(stage, position, index, needs, smallest, max(smallest, largest), of_actors))
    return pools


def fitting_parts(pools: Sequence[Pool], most: Mapping[str, float]) -> list[list[Pool]]:
    """Cut a graph between stages into as few parts as can be, so that Ray can give all pools of a part their processes at once.

    ``most``: all resources that Ray can come to have, by name.

    Raises:
        PreflightError: the pools of one stage alone ask for more than there can be.
    """
    parts: list[list[Pool]] = []
    for _, group in itertools.groupby(pools, key=lambda pool: pool.position):
        stage = list(group)
        if parts and not _lacking([*parts[-1], *stage], most):
            parts[-1] += stage
            continue
        if lacking := _lacking(stage, most):
            missing = ", ".join(f"{need:g} {name} (there can be {most.get(name, 0):g})" for name, need in lacking.items())
            raise PreflightError(
                f"{stage[0].stage.name} needs {missing} at once; add such nodes, or lower ray.pools.<actor>.min or .num_gpus"
                + (
                    ". Where SAM 3D Objects has a conda environment on each node, name it: models.sam3d_environment"
                    if "sam3d" in lacking
                    else ""
                )
            )
        parts.append(stage)
    return parts


def _lacking(pools: Sequence[Pool], most: Mapping[str, float]) -> dict[str, float]:
    """What the smallest pools would ask for at once, as far as it is more than there can be."""
    wanted: Counter[str] = Counter()
    for pool in pools:
        one = {"CPU": pool.needs.num_cpus, "GPU": pool.needs.num_gpus, **pool.needs.custom}
        if pool.of_actors:
            wanted.update({name: need * pool.smallest for name, need in one.items()})
    if any(not pool.of_actors for pool in pools):
        # Tasks give their CPU back, so one for all of them is enough.
        wanted.update({"CPU": max(pool.needs.num_cpus for pool in pools if not pool.of_actors)})
    return {name: need for name, need in wanted.items() if need > most.get(name, 0) + 1e-9}


def run_blocks(pools: Sequence[Pool], blocks: Sequence[Block], run_id: str) -> Iterator[Block]:
    """Send blocks through pools on Ray; yields each as it comes out. Ray must have been started.

    A block does not come out if the process that had it died again and again. ``run_id``: another for each call; the workers tell their
    progress to the tally of that name, if there is one.
    """
    import ray.data

    most = min(pools[0].largest, len(blocks))
    together = max(1, min(max(pool.stage.shards_per_task for pool in pools), len(blocks) // (_TASKS_PER_WORKER * most)))
    dataset: ray.data.Dataset = ray.data.from_items(
        [encode_block(block) for block in blocks], override_num_blocks=ceil(len(blocks) / together)
    )
    for pool in pools:
        pool = replace(pool, smallest=min(pool.smallest, len(blocks)), largest=min(pool.largest, len(blocks)))
        with warnings.catch_warnings():
            # Ray announces that retry limits move to other arguments in 2.64; until then there is no other way to set them.
            warnings.simplefilter("ignore", DeprecationWarning)
            dataset = _through_actors(dataset, pool, run_id) if pool.of_actors else _through_tasks(dataset, pool, run_id)
    for row in dataset.iter_rows():
        yield decode_block(row)


def _through_actors(dataset: Any, pool: Pool, run_id: str) -> Any:
    import ray.data

    needs = pool.needs
    return dataset.map_batches(
        SegmentWorker,
        fn_constructor_args=(type(pool.stage), pool.stage.whole, pool.position, pool.segment, run_id, pool.stage.run.number),
        compute=ray.data.ActorPoolStrategy(min_size=pool.smallest, max_size=pool.largest),
        batch_size=1,
        num_cpus=needs.num_cpus,
        num_gpus=needs.num_gpus or None,
        label_selector=None if needs.custom else ELSEWHERE,
        resources=dict(needs.custom) or None,
        runtime_env={"conda": needs.environment} if needs.environment else None,
        # Processes may be replaced as often as they die, but each block is tried a few times only.
        max_restarts=-1,
        max_task_retries=_RETRIES,
    )


def _through_tasks(dataset: Any, pool: Pool, run_id: str) -> Any:
    import ray.data

    stage = pool.stage
    segment = partial(SegmentWorker, type(stage), stage.whole, pool.position, pool.segment, run_id, stage.run.number)
    work = partial(_map_block, make=segment, place=(pool.position, pool.segment), run_id=run_id)
    return dataset.map_batches(
        work,
        compute=ray.data.TaskPoolStrategy(size=pool.largest),
        batch_size=1,
        num_cpus=pool.needs.num_cpus,
        label_selector=ELSEWHERE,
        max_retries=_RETRIES,
    )


def _map_block(row: dict[str, Any], make: Callable[[], SegmentWorker], place: tuple[int, int], run_id: str) -> dict[str, Any]:
    # Tasks reuse warm processes from stage to stage, which saves importing the numeric libraries again; the models are kept for the run.
    workers = _workers_of(run_id)
    if place not in workers:
        workers[place] = make()
    return workers[place](row)


@lru_cache(maxsize=1)
def _workers_of(run_id: str) -> dict[tuple[int, int], SegmentWorker]:
    """The workers of this process for one run of a graph. Those of the run before go: what the run folder holds has changed since."""
    return {}

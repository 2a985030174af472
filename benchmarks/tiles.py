"""Tiles of pairs: how often the features of an image are read, beside shards in the order of the ids, and how long planning takes.

Run with ``python -m benchmarks tiles``. The cache is the one of the match stage (:class:`~sc3d.cache.ByteCache`), here with room for 32
images, as a gigabyte has for paper-sized ones.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks import row
from sc3d.cache import ByteCache
from sc3d.matching.tiles import cut_tiles
from sc3d.pair_ids import join_pair_ids, split_pair_id
from sc3d.shards import ITEMS, Shard, cut_shards

IMAGES, CACHED, SIZE, PROCESSES, TOGETHER = 1000, 32, 64, 8, 8


def pair_items(source: np.ndarray, target: np.ndarray) -> pa.Table:
    """A table of items of one category from numbers of images (E,)."""
    names = pa.array([f"car-{i:07}" for i in range(int(max(source.max(), target.max())) + 1)])
    ids = join_pair_ids(names.take(pa.array(source)), names.take(pa.array(target)))
    return pa.table([pa.repeat(pa.scalar("car"), len(ids)), ids], schema=ITEMS)


def dense(images: int) -> tuple[np.ndarray, np.ndarray]:
    """All ordered pairs."""
    source, target = np.divmod(np.arange(images**2), images)
    return source[source != target], target[source != target]


def random(images: int, targets: int) -> tuple[np.ndarray, np.ndarray]:
    """``targets`` different random targets for each source."""
    rng = np.random.default_rng(0)
    source = np.repeat(np.arange(images), targets)
    other = np.concatenate([rng.choice(images - 1, targets, replace=False) for _ in range(images)])
    return source, other + (other >= source)


def count_misses(shards: Iterable[Shard], cached: int) -> int:
    """Images that one process reads for ``shards``, with a cache of so many images."""
    cache: ByteCache[str, None] = ByteCache(lambda _: None, lambda _: 1, cached)
    for shard in shards:
        for pair in shard.ids:
            for image in split_pair_id(pair):
                cache.get(image)
    return cache.misses


def reads_a_pair(shards: Sequence[Shard], processes: int = 1) -> float:
    """Mean reads of a pair when processes with a cache each take turns, as many shards a turn as the match stage's tasks have."""
    turn = np.arange(len(shards)) // TOGETHER % processes
    reads = sum(count_misses([shards[k] for k in np.flatnonzero(turn == i).tolist()], CACHED) for i in range(processes))
    return reads / sum(len(s.ids) for s in shards)


def run() -> Iterator[dict[str, Any]]:
    """Measure, and yield one row a figure."""
    lists = {"all pairs": dense(IMAGES), "4 random targets": random(IMAGES, 4), "20 random targets": random(IMAGES, 20)}
    for name, (source, target) in lists.items():
        items = pair_items(source, target)
        tiles, ordered = cut_tiles(items, SIZE), cut_shards(items, SIZE)
        for processes in (1, PROCESSES):
            mine, theirs = reads_a_pair(tiles, processes), reads_a_pair(ordered, processes)
            who = "one process" if processes == 1 else f"{processes} processes"
            figure = f"reads a pair, {name} of {IMAGES} images, {who}"
            yield _row(figure, mine, "reads", f"order of the ids: {theirs:.3f}", theirs / mine, len(source))
        cold = sum(len({image for pair in s.ids for image in split_pair_id(pair)}) for s in tiles)
        yield _row(f"images a pair of a tile, {name}", cold / len(source), "images", n=len(source))
    for name, make in (
        ("all pairs of 1,001 images", partial(dense, 1001)),
        ("20 targets for 50,000 images", partial(random, 50_000, 20)),
    ):
        items = pair_items(*make())
        start = time.perf_counter()
        shards = cut_tiles(items, SIZE)
        seconds = time.perf_counter() - start
        yield _row(f"planning a million pairs, {name}", seconds, "s", n=sum(len(s.ids) for s in shards))
    yield _row("peak memory of the process", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, "GiB")


def _row(
    figure: str, value: float, unit: str, alternative: str | None = None, ratio: float | None = None, n: int = 1
) -> dict[str, Any]:
    return row(bench="tiles", figure=figure, value=value, unit=unit, better="lower", alternative=alternative, ratio=ratio, n=n)

"""Planning pairs: seconds and memory of each strategy for a million of them, beside plain Python objects in the same run.

Run with ``python -m benchmarks.pairs [images a category]``; one JSON line a figure.

Four categories of 2,500 images, 100 targets a source; global descriptors of 4,416 channels, as the paper's models have, are read from
disk. Each strategy and its plain reference runs in a process of its own, so that its memory is its own: the most it held beyond what the
process held after its imports and a small plan.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import random
import resource
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import row
from sc3d.config import PairsConfig
from sc3d.matching.azimuth_chains import azimuth_bins
from sc3d.matching.pairs import ImageCues, plan_pairs_table
from sc3d.records import ImageRecord, Pair

CATEGORIES = 4
CHANNELS = 4_416
# Images a category of the plan that is not counted.
WARM_UP = 120
STRATEGIES = ("all", "random", "nearest", "azimuth")


@dataclass(frozen=True)
class Task:
    """What to plan: the strategy, images a category, targets a source, and where the cues are."""

    strategy: str
    each: int
    targets: int
    folder: str


def make_images(each: int) -> list[ImageRecord]:
    """A manifest of ``each`` images a category."""
    return [ImageRecord(f"category-{c}-{i:05d}", "photo.jpg", f"category {c}") for c in range(CATEGORIES) for i in range(each)]


def write_cues(folder: Path, each: int) -> None:
    """For each category azimuths with a preferred side, and global descriptors in loose clusters around a mean that all share."""
    for number in range(CATEGORIES):
        rng = np.random.default_rng(number)
        np.save(folder / f"azimuth-{number}-{each}.npy", rng.normal(30, 110, each) % 360)
        values, clusters = (rng.standard_normal((n, CHANNELS), np.float32) for n in (each, 50))
        for start in range(0, each, 100):
            block = values[start : start + 100]
            block += clusters[rng.integers(0, 50, len(block))] + 1
            block /= np.linalg.norm(block, axis=1, keepdims=True)
        np.save(folder / f"nearest-{number}-{each}.npy", values)


def read_cues(task: Task, category: str) -> ImageCues:
    """The cues of a category, in the order of :func:`make_images`."""
    number = category.rpartition(" ")[2]
    ids = [f"category-{number}-{i:05d}" for i in range(task.each)]
    return ImageCues(ids, np.load(Path(task.folder) / f"{task.strategy}-{number}-{task.each}.npy"))


def plan(task: Task) -> int:
    """Plan with this project; returns how many pairs there are."""
    # "all" of so many images would be 25 million pairs: the cap takes as many of them as the others plan.
    cap = task.each * task.targets if task.strategy == "all" else None
    config = PairsConfig(strategy=task.strategy, targets=task.targets, max_per_category=cap)  # type: ignore[arg-type]
    return int(plan_pairs_table(make_images(task.each), config, 0, partial(read_cues, task)).num_rows)


def plan_plainly(task: Task) -> int:
    """The same with the standard library and a record a pair; "nearest" sorts all similarities."""
    rng = random.Random(0)
    by_category: dict[str, list[ImageRecord]] = defaultdict(list)
    for image in make_images(task.each):
        by_category[image.category].append(image)
    pairs: list[Pair] = []
    for category, members in by_category.items():
        if task.strategy == "all":
            chosen = rng.sample(list(itertools.permutations(members, 2)), task.each * task.targets)
            pairs += [Pair.of(source, target) for source, target in chosen]
        elif task.strategy == "random":
            for i, source in enumerate(members):
                pairs += [Pair.of(source, target) for target in rng.sample(members[:i] + members[i + 1 :], task.targets)]
        elif task.strategy == "nearest":
            values = read_cues(task, category).values
            similarities = values @ values.T
            for i, source in enumerate(members):
                order = np.argsort(-similarities[i], kind="stable")
                pairs += [Pair.of(source, members[j]) for j in order[order != i][: task.targets]]
        else:
            pairs += _plain_chains(members, read_cues(task, category).values, task.targets, rng)
    return len(pairs)


def _plain_chains(members: Sequence[ImageRecord], azimuths: np.ndarray, targets: int, rng: random.Random) -> list[Pair]:
    bins: dict[int, list[ImageRecord]] = defaultdict(list)
    for image, number in zip(members, azimuth_bins(azimuths, 8).tolist(), strict=True):
        bins[number].append(image)
    found: dict[tuple[str, str], Pair] = {}
    while len(found) < len(members) * targets:
        start = rng.randrange(8)
        chain = [rng.choice(bins[(start + i) % 8]) for i in range(4)]
        for one, other in itertools.pairwise(chain):
            for source, target in ((one, other), (other, one)):
                found[source.image_id, target.image_id] = Pair.of(source, target)
    return list(found.values())


def run(each: int = 2_500, targets: int = 100) -> Iterator[dict[str, Any]]:
    """Two figures a strategy: seconds, and memory."""
    with tempfile.TemporaryDirectory() as folder:
        for images in (WARM_UP, each):
            write_cues(Path(folder), images)
        for strategy in STRATEGIES:
            task = Task(strategy, each, targets, folder)
            seconds, memory, count = _measured(plan, task)
            plain_seconds, plain_memory, plain_count = _measured(plan_plainly, task)
            what = f"{strategy}: {count:,} pairs of {CATEGORIES * each:,} images"
            reference = f"plain objects ({plain_count:,} pairs): "
            yield row(
                bench="pairs", figure=f"{what}, time", value=seconds, unit="s", better="lower",
                alternative=f"{reference}{plain_seconds:.1f} s", ratio=plain_seconds / seconds,
            )  # fmt: skip
            yield row(
                bench="pairs", figure=f"{what}, memory", value=memory, unit="MiB", better="lower",
                alternative=f"{reference}{plain_memory:.0f} MiB", ratio=plain_memory / max(memory, 1),
            )  # fmt: skip


def _measured(plan: Callable[[Task], int], task: Task) -> tuple[float, float, int]:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(plan, task, sender))
    process.start()
    sender.close()
    try:
        seconds, memory, count = receiver.recv()
    except EOFError:
        raise RuntimeError(f"planning {task.strategy} ended without a result; was the memory enough?") from None
    finally:
        process.join()
    return seconds, memory, count


def _measure(plan: Callable[[Task], int], task: Task, sender: Connection) -> None:
    plan(replace(task, each=WARM_UP, targets=2))
    before, start = peak_memory(), time.perf_counter()
    count = plan(task)
    sender.send((time.perf_counter() - start, peak_memory() - before, count))


def peak_memory() -> float:
    """The most memory that this process has held, in MiB."""
    try:
        # Not getrusage: on Linux a new process inherits the peak of the one that started it.
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) / 2**10 for line in lines if line.startswith("VmHWM"))
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    for line in run(*(int(argument) for argument in sys.argv[1:])):
        print(json.dumps(line))

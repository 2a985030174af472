"""The sweep: a pair under 21 settings of the weights and 20 of the thresholds at once, beside running each setting alone.

Run with ``python -m benchmarks sweep``. The scene is that of the matching benchmark, at the paper's sizes. Both methods start from prepared
images, though running alone has to prepare them anew for each setting of the weights; that is a figure of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch

from benchmarks import row
from benchmarks.matching import make_scene
from sc3d.config import LabelConfig, MatchConfig
from sc3d.evaluation.filter_quality import judge
from sc3d.evaluation.setting_counts import count_settings
from sc3d.features import Features
from sc3d.matching.candidates import within_cycle
from sc3d.matching.described import Described
from sc3d.matching.explain import explain_pair
from sc3d.matching.thresholds import passes_geodesic
from sc3d.matching.weight_grid import GroupedImage
from sc3d.records import ImageRecord

TAU_CC, TAU_GEO = (0.03, 0.05, 0.07, 0.1), (0.01, 0.02, 0.05, 0.1, 0.2)
STEPS = 6
ALONE = (0, 4, 10)
"""Settings of the grid that are run alone: most of the weight on the 3D descriptors, little of it, and none."""
KEYPOINTS = 15

Annotations = tuple[ImageRecord, ImageRecord]


def weight_settings() -> list[MatchConfig]:
    """The 21 settings of the paper's grid in steps of 1/6 that give the SD slot some weight."""
    grid = ((a, b) for a in range(1, STEPS + 1) for b in range(STEPS + 1 - a))
    return [MatchConfig(alpha=a / STEPS, beta=b / STEPS) for a, b in grid]


def annotate(scenes: list[Features]) -> Annotations:
    """Keypoints at random foreground cells: how many are right does not matter here."""
    rng = np.random.default_rng(0)
    sides = []
    for scene in scenes:
        cells = rng.choice(np.flatnonzero(scene.foreground), KEYPOINTS, replace=False)
        centres = scene.letterbox.centres(cells)
        box = np.array([*centres.min(axis=0), *np.ptp(centres, axis=0)])
        sides.append(
            ImageRecord(
                scene.image_id, "x.jpg", "ellipsoid", "val", bbox=box, keypoint_ids=np.arange(KEYPOINTS), keypoint_xy=centres
            )
        )
    return sides[0], sides[1]


def evaluate_alone(source: Described, target: Described, annotations: Annotations) -> np.ndarray:
    """One setting of the weights under all thresholds, each by a mask of its own: (C, G, 3) counts."""
    explanation = explain_pair(source, target, LabelConfig(max(TAU_CC), max(TAU_GEO)))
    at, correct = judge(explanation, source.letterbox, annotations)
    counts = []
    for tau_cc, tau_geo in product(TAU_CC, TAU_GEO):
        keep = within_cycle(source, explanation.cycle_error, tau_cc) & passes_geodesic(explanation.geodesic_error, tau_geo)
        counts.append((keep.sum(), keep[at].sum(), (keep[at] & ~correct).sum()))
    return np.array(counts).reshape(len(TAU_CC), len(TAU_GEO), 3)


def medians(tasks: Sequence[Callable[[], object]], n: int) -> list[float]:
    """The median seconds of each task, from ``n`` rounds after one that is not counted. In rounds, so that what else the machine does
    slows all of them alike."""
    times = np.empty((n + 1, len(tasks)))
    for i, (k, task) in product(range(n + 1), enumerate(tasks)):
        start = time.perf_counter()
        task()
        times[i, k] = time.perf_counter() - start
    return np.median(times[1:], axis=0).tolist()


def timed(task: Callable[[], Any]) -> tuple[Any, float]:
    """What a task returns, and its seconds."""
    start = time.perf_counter()
    return task(), time.perf_counter() - start


def run(repeats: int = 7) -> Iterator[dict[str, Any]]:
    """Measure in one thread, as the workers of a sweep compute, and yield one row a figure."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield from _measure(repeats)
    finally:
        torch.set_num_threads(threads)


def _measure(repeats: int) -> Iterator[dict[str, Any]]:
    scenes = [make_scene(f"image-{i}", i) for i in range(2)]
    annotations, settings = annotate(scenes), weight_settings()
    (source, target), preparing = timed(lambda: [GroupedImage(scene, MatchConfig()) for scene in scenes])
    alone, again = timed(lambda: [[Described(scene, settings[index]) for scene in scenes] for index in ALONE])
    everything = partial(count_settings, source, target, annotations, settings, TAU_CC, TAU_GEO)
    tasks = [partial(evaluate_alone, one, other, annotations) for one, other in alone]
    together, *each = medians([everything, *tasks], repeats)
    counts = everything()
    differing = sum(int((task() != counts[index]).any(axis=-1).sum()) for index, task in zip(ALONE, tasks, strict=True))
    one, n, n_thresholds = float(np.mean(each)), len(settings), len(TAU_CC) * len(TAU_GEO)
    grid = f"{n} weights x {n_thresholds} thresholds"
    reference = f"each weight alone, from {len(ALONE)} of them: {one * n:.3g} s"
    yield _row(f"a pair under {grid}", together, "s", reference, one * n / together, repeats)
    yield _row(
        "the same in the time of one weight alone", together / one, "times", f"each weight alone: {n}", n * one / together, repeats
    )
    yield _row(f"a pair under one weight x {n_thresholds} thresholds, alone", one, "s", n=repeats * len(ALONE))
    anew = again / len(ALONE) * n / len(scenes)
    preparing /= len(scenes)
    yield _row(f"preparing an image for {n} weights", preparing, "s", f"anew for each: {anew:.3g} s", anew / preparing, len(scenes))
    yield _row("prepared image", source.n_bytes / 2**20, "MiB")
    checked = len(ALONE) * n_thresholds
    yield _row(f"settings of {checked} whose counts differ from running alone", differing, "settings", n=checked)


def _row(
    figure: str, value: float, unit: str, alternative: str | None = None, ratio: float | None = None, n: int = 1
) -> dict[str, Any]:
    return row(bench="sweep", figure=figure, value=value, unit=unit, better="lower", alternative=alternative, ratio=ratio, n=n)

"""Records a second of each model, memory, and the share of what the device can do."""

from __future__ import annotations

import gc
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from actors.foundation.pretrained import Size
from benchmarks import row
from benchmarks.models.count import count
from benchmarks.models.subjects import SUBJECTS, TOGETHER, Layout, Subject, set_layout

SECONDS = 3.0
"""About how long a figure is measured for."""

_MOST_BATCHES = 50
_HALVES = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Variant:
    """One way to run a subject. ``layout``: of its convolutions, ``None`` as it is built."""

    dtype: torch.dtype
    batch: int
    compiled: bool = False
    layout: Layout | None = None

    def __str__(self) -> str:
        words = [str(self.dtype).removeprefix("torch."), f"batch {self.batch}"]
        return ", ".join([*words, *(["compiled"] if self.compiled else []), *([self.layout] if self.layout else [])])


@dataclass(frozen=True)
class Measurement:
    """What one variant of a subject reached.

    ``rate``, ``whole``: records a second of the network alone, and of all that an actor does. ``gib``: most memory of the GPU that
    was in use, ``None`` on a CPU. ``repeats``, ``whole_repeats``: batches that were timed.
    """

    subject: Subject
    variant: Variant
    rate: float
    whole: float
    gib: float | None
    repeats: int
    whole_repeats: int


def choose_machine(size: Size | None = None) -> tuple[torch.device, Size]:
    """The GPU if there is one, and the size of the networks: if none is given full there and tiny on a CPU."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return device, size or ("full" if device.type == "cuda" else "tiny")


def variants(subject: Subject, size: Size, device: torch.device) -> list[Variant]:
    """On a GPU at full size: both half precisions at each batch size, and the largest compiled and in other layouts; else one record in
    single precision."""
    single = Variant(torch.float32, 1)
    if device.type != "cuda" or size == "tiny":
        return [single]
    largest = subject.batches[-1]
    plain = [Variant(dtype, batch) for dtype in _HALVES for batch in subject.batches]
    compiled = [Variant(dtype, largest, compiled=True) for dtype in _HALVES]
    return [single, *plain, *compiled, *(Variant(dtype, largest, layout=layout) for dtype in _HALVES for layout in subject.layouts)]


def measure(subject: Subject, size: Size, device: torch.device, seconds: float = SECONDS) -> Iterator[Measurement]:
    """Measure every variant of a subject; one that fails is named on stderr and left out."""
    for variant in variants(subject, size, device):
        try:
            yield _measure(subject, size, device, variant, seconds)
        except (RuntimeError, ImportError) as error:
            print(f"{subject.name}, {variant}: {type(error).__name__}: {str(error).splitlines()[0]}", file=sys.stderr)
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


def run(size: Size | None = None, subjects: Sequence[Subject] = SUBJECTS, seconds: float = SECONDS) -> Iterator[dict[str, Any]]:
    """Measure, and yield one row a figure.

    Args:
        size: of the networks; ``None``: full on a GPU, tiny elsewhere.
        subjects: which models.
        seconds: about how long each figure is measured for.
    """
    device, size = choose_machine(size)
    whole: dict[str, float] = {}
    for subject in subjects:
        best: Measurement | None = None
        for one in measure(subject, size, device, seconds):
            yield from _figures(one, size)
            best = one if best is None or one.rate > best.rate else best
            whole[subject.name] = max(one.whole, whole.get(subject.name, 0.0))
        if best is not None:
            yield from _share_of_peak(best, size, device)
    if all(name in whole for name in TOGETHER):
        rate = 1 / sum(1 / whole[name] for name in TOGETHER)
        yield _row(f"{' + '.join(TOGETHER)}, one after the other, from photos to features", size, rate, "images/s", "higher")
    if device.type == "cpu":
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        yield _row("peak memory of the process", size, peak, "GiB", "lower")


def share_of_peak(one: Measurement, size: Size, device: torch.device) -> float:
    """Operations a second that a measurement comes to, as a share of what one large matrix product reaches on the device."""
    return count(one.subject, size).operations * one.rate / peak_operations(device, one.variant.dtype)


@cache
def peak_operations(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of one large square matrix product on the device, as PyTorch runs it."""
    side = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    rate, _ = _rate(lambda _: a @ b, 1, 0.5, device)
    return 2 * side**3 * rate


def _measure(subject: Subject, size: Size, device: torch.device, variant: Variant, seconds: float) -> Measurement:
    work = subject.build(size, device, variant.dtype)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for module in work.modules:
        if variant.layout is not None:
            set_layout(module, variant.layout)
        if variant.compiled:
            module.compile()
    rate, repeats = _rate(work.step, variant.batch, seconds, device)
    gib = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else None
    whole, whole_repeats = _rate(work.whole, variant.batch, seconds, device)
    return Measurement(subject, variant, rate, whole, gib, repeats, whole_repeats)


def _rate(task: Callable[[int], object], batch: int, seconds: float, device: torch.device) -> tuple[float, int]:
    """Records a second from the median time of the batches that it takes to fill ``seconds``, 50 at most, and how many those were."""

    def timed() -> float:
        start = time.perf_counter()
        task(batch)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    timed()
    times = [timed()]
    while sum(times) < seconds and len(times) < _MOST_BATCHES:
        times.append(timed())
    return batch / float(np.median(times)), len(times)


def _figures(one: Measurement, size: Size) -> Iterator[dict[str, Any]]:
    what, unit = f"{one.subject.name}, {one.variant}", f"{one.subject.unit}/s"
    yield _row(what, size, one.rate, unit, "higher", one.repeats)
    if one.gib is not None:
        yield _row(what, size, one.gib, "GiB", "lower")
    yield _row(f"{what}, from input to features", size, one.whole, unit, "higher", one.whole_repeats)


def _share_of_peak(one: Measurement, size: Size, device: torch.device) -> Iterator[dict[str, Any]]:
    work, possible = count(one.subject, size).operations / 1e12, peak_operations(device, one.variant.dtype) / 1e12
    yield _row(f"{one.subject.name}, operations of one of its {one.subject.unit}", size, work, "TFLOP", "lower")
    what = f"{one.subject.name}, {one.variant}, of what one large matrix product reaches ({possible:.3g} TFLOP/s)"
    yield _row(what, size, 100 * share_of_peak(one, size, device), "%", "higher")


def _row(figure: str, size: Size, value: float, unit: str, better: str, n: int = 1) -> dict[str, Any]:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return row(bench="models", figure=f"{figure} ({size}, {device})", value=value, unit=unit, better=better, n=n)

"""Foundation models with random weights: images a second, memory, and the share of what the device can do.

Run with ``python -m benchmarks models``, or ``python -m benchmarks.models [tiny|full]``; one JSON line a figure. On a GPU the models
have their published sizes, half precision, several batch sizes, and are compiled as well; on a CPU they are tiny, which says only that
they run. Speed does not depend on the weights' values.

A further model is a further :class:`Subject` in ``SUBJECTS``.
"""

from __future__ import annotations

import gc
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from actors.foundation.dino import Dino, Kind, random_model
from actors.foundation.latent_diffusion import random_networks
from actors.foundation.stable_diffusion import FRAME, StableDiffusion, StableDiffusionOptions
from benchmarks import row

Size = Literal["tiny", "full"]

_SECONDS = 3.0
_HALVES = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Work:
    """A model that is ready to run.

    ``step``: runs a batch of that many records through the network, their input being on the device already. ``whole``: all that an
    actor does for so many records, from photos or meshes to float16 arrays on the CPU. ``modules``: what ``torch.compile`` is tried on.
    """

    step: Callable[[int], object]
    whole: Callable[[int], object]
    modules: Sequence[torch.nn.Module]


@dataclass(frozen=True)
class Subject:
    """One model: its name, what its records are, which batch sizes are tried on a GPU, and how it is built."""

    name: str
    unit: str
    batches: tuple[int, ...]
    build: Callable[[Size, torch.device, torch.dtype], Work]


@dataclass(frozen=True)
class Variant:
    """One way to run a subject."""

    dtype: torch.dtype
    batch: int
    compiled: bool = False

    def __str__(self) -> str:
        return f"{str(self.dtype).removeprefix('torch.')}, batch {self.batch}{', compiled' if self.compiled else ''}"


def build_dino(kind: Kind, size: Size, device: torch.device, dtype: torch.dtype) -> Work:
    """DINO at the working grid."""
    with torch.device(device):
        model = random_model(kind, size)
    dino = Dino(model, device, dtype)
    frame = _noise_frame(dino.frame, device)
    return Work(lambda n: dino.tokens(frame.expand(n, -1, -1, -1)), lambda n: dino.describe([_photo()] * n), [dino.model])


def build_stable_diffusion(options: StableDiffusionOptions, size: Size, device: torch.device, dtype: torch.dtype) -> Work:
    """Stable Diffusion in tiles or in one pass."""
    with torch.device(device):
        networks = random_networks("1.5", size)
    model = StableDiffusion(networks, device, dtype, options)
    frame = _noise_frame(FRAME, device)
    encoder: Any = model.vae
    return Work(
        lambda n: model.layers(frame.expand(n, -1, -1, -1), ["bus"] * n),
        lambda n: model.describe([_photo()] * n, ["bus"] * n),
        [model.unet, encoder.encoder],
    )


SUBJECTS: tuple[Subject, ...] = (
    Subject("DINOv2 ViT-B/14 at 840 px", "images", (1, 8, 32), partial(build_dino, "dinov2")),
    Subject("DINOv3 ViT-B/16 at 960 px", "images", (1, 8, 32), partial(build_dino, "dinov3")),
    Subject(
        "Stable Diffusion 1.5, four tiles of 512 px", "images", (1, 4, 8), partial(build_stable_diffusion, StableDiffusionOptions())
    ),
    Subject(
        "Stable Diffusion 1.5, one pass of 960 px",
        "images",
        (1, 4),
        partial(build_stable_diffusion, StableDiffusionOptions(tile=None)),
    ),
)

# What the describe stage runs on each image.
_TOGETHER = (0, 2)


def variants(subject: Subject, size: Size, device: torch.device) -> list[Variant]:
    """On a GPU at full size: both half precisions at each batch size, and the largest compiled; else one image in single precision."""
    if device.type != "cuda" or size == "tiny":
        return [Variant(torch.float32, 1)]
    plain = [Variant(dtype, batch) for dtype in _HALVES for batch in subject.batches]
    return [Variant(torch.float32, 1), *plain, *(Variant(dtype, subject.batches[-1], True) for dtype in _HALVES)]


def run(size: Size | None = None, subjects: Sequence[Subject] = SUBJECTS, seconds: float = _SECONDS) -> Iterator[dict[str, Any]]:
    """Measure, and yield one row a figure.

    Args:
        size: of the networks; ``None``: full on a GPU, tiny elsewhere.
        subjects: which models.
        seconds: about how long each figure is measured for.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    size = size or ("full" if device.type == "cuda" else "tiny")
    whole: dict[str, float] = {}
    for subject in subjects:
        rates: dict[Variant, float] = {}
        for variant in variants(subject, size, device):
            yield from _try_variant(subject, size, device, variant, seconds, rates, whole)
        if rates:
            yield from _share_of_peak(subject, size, device, max(rates, key=rates.__getitem__), rates)
    pair = [SUBJECTS[i].name for i in _TOGETHER]
    if all(name in whole for name in pair):
        rate = 1 / sum(1 / whole[name] for name in pair)
        yield _row(f"{pair[0]} + {pair[1]}, one after the other, from photos to features", size, rate, "images/s", "higher")
    if device.type == "cpu":
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        yield _row("peak memory of the process", size, peak, "GiB", "lower")


def _try_variant(
    subject: Subject,
    size: Size,
    device: torch.device,
    variant: Variant,
    seconds: float,
    rates: dict[Variant, float],
    whole: dict[str, float],
) -> Iterator[dict[str, Any]]:
    """The figures of one variant; one that fails is named on stderr and left out."""
    try:
        work = subject.build(size, device, variant.dtype)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        if variant.compiled:
            for module in work.modules:
                module.compile()
        rate, n = _rate(work.step, variant.batch, seconds, device)
        yield _row(f"{subject.name}, {variant}", size, rate, f"{subject.unit}/s", "higher", n)
        if device.type == "cuda":
            yield _row(f"{subject.name}, {variant}", size, torch.cuda.max_memory_allocated() / 2**30, "GiB", "lower")
        rates[variant] = rate
        entire, n = _rate(work.whole, variant.batch, seconds, device)
        whole[subject.name] = max(entire, whole.get(subject.name, 0.0))
        yield _row(f"{subject.name}, {variant}, from input to features", size, entire, f"{subject.unit}/s", "higher", n)
    except (RuntimeError, ImportError) as error:
        print(f"{subject.name}, {variant}: {type(error).__name__}: {str(error).splitlines()[0]}", file=sys.stderr)
    finally:
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _rate(task: Callable[[int], object], batch: int, seconds: float, device: torch.device) -> tuple[float, int]:
    """Records a second from the median time of the batches that fit into ``seconds`` (at least two), and how many those were."""

    def timed() -> float:
        start = time.perf_counter()
        task(batch)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    timed()
    times = [timed(), timed()]
    times += [timed() for _ in range(min(50, int(seconds / times[-1]) - 2))]
    return batch / float(np.median(times)), len(times)


def _share_of_peak(
    subject: Subject, size: Size, device: torch.device, variant: Variant, rates: dict[Variant, float]
) -> Iterator[dict[str, Any]]:
    work = count_operations(subject, size)
    reached, possible = work * rates[variant] / 1e12, peak_operations(device, variant.dtype) / 1e12
    yield _row(f"{subject.name}, operations of one of its {subject.unit}", size, work / 1e12, "TFLOP", "lower")
    yield _row(
        f"{subject.name}, {variant}, of what one large matrix product reaches ({possible:.3g} TFLOP/s)",
        size,
        100 * reached / possible,
        "%",
        "higher",
    )


def count_operations(subject: Subject, size: Size) -> int:
    """Floating-point operations (two a multiplication and addition) of one record, counted without computing any."""
    work = subject.build(size, torch.device("meta"), torch.float32)
    with FlopCounterMode(display=False) as counter:
        work.step(1)
    return int(counter.get_total_flops())


@cache
def peak_operations(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of one large square matrix product on the device, as PyTorch runs it."""
    side = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    rate, _ = _rate(lambda _: a @ b, 1, 0.5, device)
    return 2 * side**3 * rate


def _noise_frame(side: int, device: torch.device) -> torch.Tensor:
    if device.type == "meta":
        return torch.empty(1, side, side, 3, dtype=torch.uint8, device=device)
    return torch.randint(0, 256, (1, side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).to(device)


@cache
def _photo() -> np.ndarray:
    """A photo of the usual size of SPair-71k's."""
    return np.random.default_rng(0).integers(0, 256, (375, 500, 3), dtype=np.uint8)


def _row(figure: str, size: Size, value: float, unit: str, better: str, n: int = 1) -> dict[str, Any]:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return row(bench="models", figure=f"{figure} ({size}, {device})", value=value, unit=unit, better=better, n=n)


if __name__ == "__main__":
    sizes: dict[str, Size] = {"tiny": "tiny", "full": "full"}
    for line in run(sizes[sys.argv[1]] if len(sys.argv) > 1 else None):
        print(json.dumps(line))

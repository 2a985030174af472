"""Speed, memory and accuracy, side by side with the alternatives. ``python -m benchmarks [name ...]`` prints one JSON line a figure.

A benchmark is a module with ``run() -> Iterator[dict]`` that yields :func:`row` values.
"""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path
from typing import Any


@cache
def machine_name() -> str:
    """The processor and how many of its cores this process may use, for example ``AMD EPYC 9R14, 2 cores``."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{model}, {cores} core{'s' if cores > 1 else ''}"


def row(
    bench: str,
    figure: str,
    value: float,
    unit: str,
    better: str,
    alternative: str | None = None,
    ratio: float | None = None,
    n: int = 1,
) -> dict[str, Any]:
    """One figure.

    Args:
        bench: the module's name.
        figure: what was measured.
        value: the measurement, kept to four significant digits.
        unit: of the value, ``%`` for shares.
        better: which way is good, ``lower`` or ``higher``.
        alternative: what it is compared with, if anything.
        ratio: how many times better than the alternative, whichever way is good.
        n: measurements that the value sums up.
    """
    if better not in ("lower", "higher"):
        raise ValueError(f"better is 'lower' or 'higher', not '{better}'")
    return {
        "bench": bench,
        "figure": figure,
        "value": float(f"{value:.4g}"),
        "unit": unit,
        "better": better,
        "alternative": alternative,
        "ratio": None if ratio is None else float(f"{ratio:.3g}"),
        "n": n,
        "machine": machine_name(),
    }

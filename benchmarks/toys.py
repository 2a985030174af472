"""The toys benchmark: images a second, everything written, and processor time an image.

Run with ``python -m benchmarks.toys [images a category]``; one JSON line a figure. A process takes seconds to load the ray caster, so
the rate of the whole call grows with the number of images; the processor time an image in one warm process does not depend on it.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from benchmarks import row
from sc3d.datasets.toys import CATEGORIES, ToysConfig, generate_toys
from sc3d.datasets.toys.drawing import Drawing, draw

CORES = 2


def run(images: int = 24) -> Iterator[dict[str, Any]]:
    """Rates at the default size of 400 x 300, over all categories."""
    config = ToysConfig(images={"trn": images, "val": 0, "test": 0}, workers=min(CORES, os.cpu_count() or 1))
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        generate_toys(Path(folder) / "toys", config)
        seconds = time.perf_counter() - began
        count = images * len(CATEGORIES)
        yield row(
            bench="toys", figure=f"images a second, {config.workers} processes, start included", value=count / seconds, unit="1/s",
            better="higher", n=count,
        )  # fmt: skip
        began = time.perf_counter()
        generate_toys(Path(folder) / "toys", config)
        yield row(
            bench="toys", figure="second call", value=1e3 * (time.perf_counter() - began), unit="ms", better="lower", n=1
        )  # fmt: skip
    # As in the processes above: threads of a linear algebra library that wait for work would be counted too.
    with threadpool_limits(1):
        yield from _processor_time(config)


def _processor_time(config: ToysConfig, count: int = 6) -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        total = 0.0
        for category in CATEGORIES:
            for name in ("JPEGImages", "ImageAnnotation", "Segmentation", "truth"):
                (root / name / category).mkdir(parents=True)
            # The first image of a process loads and compiles things.
            draw(Drawing(root, config, "val", category, 0))
            began = time.process_time()
            for index in range(count):
                draw(Drawing(root, config, "trn", category, index))
            total += time.process_time() - began
        n = count * len(CATEGORIES)
        yield row(bench="toys", figure="processor time an image, warm", value=1e3 * total / n, unit="ms", better="lower", n=n)


if __name__ == "__main__":
    for line in run(*(int(argument) for argument in sys.argv[1:2])):
        print(json.dumps(line))

"""What the system itself costs: a run of actors that do nothing through the real graph, run folder, shards and all.

Run with ``python -m benchmarks.simulation [--images 100000] [--pairs 1000000] [--run URI]``; about ten minutes. It is left out of
``python -m benchmarks``. One JSON line a figure.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import row
from pipelines.jobs import label
from pipelines.stages.registry import chain_to
from sc3d.config import RunConfig
from sc3d.config_file import load_config
from sc3d.machine import processes_here
from sc3d.store import RunFolder

_CATEGORIES = 20


def run(images: int = 2000, pairs: int = 20_000, uri: str | None = None) -> Iterator[dict[str, Any]]:
    """Label so many images that are no images, and yield what that cost."""
    with tempfile.TemporaryDirectory(prefix="sc3d-simulation-") as scratch:
        config = _config(Path(scratch), images, pairs, uri or f"{scratch}/run")
        with _StorePeak() as store:
            label.run(config)
        yield from _figures(config, images, store.peak)


def _config(scratch: Path, images: int, pairs: int, uri: str) -> RunConfig:
    root = scratch / "photos"
    for category in range(_CATEGORIES):
        (root / f"category{category:02}").mkdir(parents=True)
    for n in range(images):
        (root / f"category{n % _CATEGORIES:02}" / f"{n}.jpg").touch()
    values = {
        "run": uri,
        "dataset": {"root": str(root)},
        "models": {"variant": "none"},
        "orient": {"estimator": "none"},
        "pairs": {"targets": max(1, pairs // images)},
        "ray": {"images_per_shard": 64, "pairs_per_shard": 512},
    }
    return load_config(None, [], values)


class _StorePeak:
    """The most bytes of Ray's object store that were in use while it ran."""

    def __init__(self) -> None:
        self.peak = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _StorePeak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.5):
            ray = sys.modules.get("ray")
            if ray is not None and hasattr(ray, "is_initialized") and ray.is_initialized():
                have, free = ray.cluster_resources(), ray.available_resources()
                self.peak = max(self.peak, have.get("object_store_memory", 0.0) - free.get("object_store_memory", 0.0))


def _figures(config: RunConfig, images: int, peak: float) -> Iterator[dict[str, Any]]:
    folder, workers = RunFolder(config.run), config.ray.workers or processes_here()
    stages = {kind.name: folder.read_json(f"timings/{kind.name}.json") for kind in chain_to(config, "label")}
    groups = {"image": ("reconstruct", "orient", "describe"), "pair": ("match", "label")}
    pairs = stages["label"]["items"]
    for unit, names in groups.items():
        count = images if unit == "image" else pairs
        clock = sum(stages[name]["seconds"] for name in names)
        busy = sum(stages[name]["cpu_seconds"] for name in names) / workers
        yield _row(f"{unit}s, of {count}: on the clock, all stages", 1000 * clock / count, f"ms/{unit}", count)
        yield _row(
            f"{unit}s: of which workers were reading, writing and waiting for disk", 1000 * busy / count, f"ms/{unit}", count
        )
        yield _row(f"{unit}s: what is left, Ray and the driver", 1000 * (clock - busy) / count, f"ms/{unit}", count)
    peak_memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    yield _row("peak memory of the driver", peak_memory, "GiB", 1)
    yield _row("peak of Ray's object store", peak / 2**20, "MiB", 1)
    for kind in chain_to(config, "label"):
        yield _row(f"objects in {kind.folder}", len(folder.names(kind.folder)), "objects", 1)


def _row(figure: str, value: float, unit: str, n: int) -> dict[str, Any]:
    return row(bench="simulation", figure=figure, value=value, unit=unit, better="lower", n=n)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulation", description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--run", help="run folder; none: a temporary one on this disk")
    options = parser.parse_args()
    for line in run(options.images, options.pairs, options.run):
        print(json.dumps(line), flush=True)

"""What a run counts while it works, as Prometheus metrics of Ray: every node exports them at its ``/metrics``, beside Ray's own.

The metrics and their tags are :data:`METRICS`; Ray puts ``ray_`` before each name. No tag names a category or an image, so that the
number of series follows from the stages and processes alone. ``run`` tells apart runs that share a cluster. Ray takes ASCII alone for the
value of a tag, so what else is in a name is percent-encoded. The dashboard is ``cluster/grafana/sc3d.json``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

if TYPE_CHECKING:
    from ray.util.metrics import Counter, Gauge, Histogram

SECONDS_BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
"""Upper bounds of the histogram's buckets: from a pair of small images to a reconstruction on a crowded GPU."""


@dataclass(frozen=True)
class MetricSpec:
    """One metric: its name without Ray's prefix, what it says, and its tags beside ``run``."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    description: str
    tags: tuple[str, ...] = ()

    @property
    def exported(self) -> tuple[str, ...]:
        """The names that Prometheus sees."""
        name = f"ray_{self.name}"
        if self.kind == "counter":
            return (f"{name}_total",)
        return (f"{name}_bucket", f"{name}_count", f"{name}_sum") if self.kind == "histogram" else (name,)


IMAGES = MetricSpec("sc3d_images", "counter", "images that a stage finished, without its rejects", ("stage",))
PAIRS = MetricSpec("sc3d_pairs", "counter", "pairs that a stage finished, without its rejects", ("stage",))
CATEGORIES = MetricSpec("sc3d_categories", "counter", "categories that a stage finished, without its rejects", ("stage",))
LABELS = MetricSpec("sc3d_labels", "counter", "labels that were kept")
REJECTS = MetricSpec("sc3d_rejects", "counter", "records that were rejected, by the error's type", ("stage", "reason"))
SHARDS = MetricSpec("sc3d_shards", "counter", "shards that were written", ("stage",))
ITEMS_LEFT = MetricSpec("sc3d_items_left", "gauge", "images or pairs that a stage still has to do", ("stage",))
RECORDS = MetricSpec("sc3d_records", "counter", "records that a model was given", ("stage", "actor"))
BUSY_SECONDS = MetricSpec("sc3d_busy_seconds", "counter", "seconds that a model worked", ("stage", "actor"))
RECORD_SECONDS = MetricSpec("sc3d_record_seconds", "histogram", "seconds that a model took for a record", ("stage", "actor"))
GPU_MEMORY = MetricSpec("sc3d_gpu_memory_bytes", "gauge", "most GPU memory that an actor's process has held", ("stage", "actor"))

METRICS = (IMAGES, PAIRS, CATEGORIES, LABELS, REJECTS, SHARDS, ITEMS_LEFT, RECORDS, BUSY_SECONDS, RECORD_SECONDS, GPU_MEMORY)
"""All of them. Seconds a record on average are the rate of ``BUSY_SECONDS`` over that of ``RECORDS``, exactly; the histogram is for
quantiles, since Ray makes up its ``_sum`` from the middles of the buckets."""

_ASCII = "".join(map(chr, range(0x20, 0x7F)))

_OF_ITEMS = {"image_id": IMAGES, "pair_id": PAIRS, "category": CATEGORIES}


class RunMetrics:
    """Counts for one run folder in this process. It costs microseconds a call, and nothing where this process has no Ray.

    It holds the run's name alone, so that it may be built in, or sent to, any process.
    """

    def __init__(self, run: str) -> None:
        self.run = run

    def shard_committed(self, stage: str, key: str, kept: int, rejected: Mapping[str, int]) -> None:
        """Count a shard that was written. ``key``: the stage's id column, ``image_id``, ``pair_id`` or ``category``; ``kept``: its records;
        ``rejected``: the type of an error -> how many of its ids it rejected. Call it after the commit, in the worker."""
        if not _has_ray():
            return
        tags = self._tags(stage=stage)
        _counter(SHARDS).inc(1, tags)
        if kept:
            _counter(_OF_ITEMS[key]).inc(kept, tags)
        for reason, count in rejected.items():
            _counter(REJECTS).inc(count, self._tags(stage=stage, reason=reason))

    def labels_kept(self, count: int) -> None:
        """Count labels that a written shard holds."""
        if count and _has_ray():
            _counter(LABELS).inc(count, self._tags())

    def batch_mapped(self, stage: str, actor: str, rows: int, seconds: float) -> None:
        """Note that ``actor``, the name of its class, took ``seconds`` for a batch of ``rows`` records, each of which counts for its
        share. GPU memory is noted where the process uses a GPU."""
        if not rows or not _has_ray():
            return
        tags = self._tags(stage=stage, actor=actor)
        _counter(RECORDS).inc(rows, tags)
        if seconds > 0:
            _counter(BUSY_SECONDS).inc(seconds, tags)
        histogram = _histogram(RECORD_SECONDS)
        for _ in range(rows):
            histogram.observe(seconds / rows, tags)
        held = _gpu_bytes()
        if held is not None:
            _gauge(GPU_MEMORY).set(held, tags)

    def items_left(self, stage: str, count: int) -> None:
        """Note how many images or pairs a stage still has to do. One process says it for the run: the driver."""
        if _has_ray():
            _gauge(ITEMS_LEFT).set(count, self._tags(stage=stage))

    def _tags(self, **more: str) -> dict[str, str]:
        tags = {"run": self.run, **more}
        return {name: quote(value, safe=_ASCII, errors="surrogatepass") for name, value in tags.items()}


def _has_ray() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def _gpu_bytes() -> int | None:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    return int(torch.cuda.max_memory_reserved())


# A metric of a name may be made once a process: its series are kept by the process, not by the object.
@cache
def _counter(spec: MetricSpec) -> Counter:
    from ray.util.metrics import Counter

    return Counter(spec.name, spec.description, ("run", *spec.tags))


@cache
def _gauge(spec: MetricSpec) -> Gauge:
    from ray.util.metrics import Gauge

    return Gauge(spec.name, spec.description, ("run", *spec.tags))


@cache
def _histogram(spec: MetricSpec) -> Histogram:
    from ray.util.metrics import Histogram

    return Histogram(spec.name, spec.description, list(SECONDS_BUCKETS), ("run", *spec.tags))

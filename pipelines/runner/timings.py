"""How long each stage took, kept over all runs of a run folder: ``timings/<stage>.json``."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.runner.stage import StageSummary
from sc3d.store import RunFolder

_SPENT = ("seconds", "cpu_seconds", "gpu_seconds")


def record_summary(run: RunFolder, summary: StageSummary) -> None:
    """Add a run of a stage to what is known of it. A run that computed nothing leaves the seconds as they are.

    Counters are added up too; ``counted`` is the number of items that they are about, and ``all_computed`` that of the seconds.
    """
    name = f"timings/{summary.stage}.json"
    before: dict[str, Any] = run.read_json(name) if run.exists(name) else {}
    spent = {key: before.get(key, 0.0) + (getattr(summary, key) if summary.computed else 0.0) for key in _SPENT}
    counters = Counter(before.get("counters", {})) + Counter(summary.counters)
    counted = before.get("counted", 0) + (summary.computed if summary.counters else 0)
    computed = before.get("all_computed", 0) + summary.computed
    so_far = {**spent, "counters": counters, "counted": counted, "all_computed": computed}
    run.write_json(name, {**dataclasses.asdict(summary), **so_far})


@dataclass(frozen=True)
class Cost:
    """What a thousand items took of CPUs and GPUs, in hours of one."""

    cpu_hours: float
    gpu_hours: float


def cost_of_thousand(run: RunFolder, stages: Sequence[str]) -> Cost | None:
    """What a thousand images, or pairs, took in the stages that they go through; None before all of these have run."""
    cpu, gpu = 0.0, 0.0
    for stage in stages:
        values = run.read_json(name) if run.exists(name := f"timings/{stage}.json") else {}
        if not values.get("all_computed"):
            return None
        cpu += values["cpu_seconds"] / values["all_computed"]
        gpu += values["gpu_seconds"] / values["all_computed"]
    return Cost(cpu * 1000 / 3600, gpu * 1000 / 3600)


def read_summaries(run: RunFolder, stages: tuple[str, ...]) -> list[dict[str, Any]]:
    """One row a stage that has run, in the given order: stage, seconds, items, rejects; counters, and counted, the items behind them."""
    rows = []
    for stage in stages:
        name = f"timings/{stage}.json"
        if run.exists(name):
            values = run.read_json(name)
            known = {key: values[key] for key in ("stage", "seconds", "items", "rejects")}
            rows.append({**known, "counters": values.get("counters", {}), "counted": values.get("counted", 0)})
    return rows

"""How long each stage took, kept over all runs of a run folder: ``timings/<stage>.json``."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

from pipelines.stage import StageSummary
from sc3d.store import RunFolder


def record_summary(run: RunFolder, summary: StageSummary) -> None:
    """Add a run of a stage to what is known of it. A run that computed nothing leaves the seconds as they are.

    Counters are added up too; ``counted`` is the number of items that they are about.
    """
    name = f"timings/{summary.stage}.json"
    before: dict[str, Any] = run.read_json(name) if run.exists(name) else {"seconds": 0.0}
    seconds = before["seconds"] + (summary.seconds if summary.computed else 0.0)
    counters = Counter(before.get("counters", {})) + Counter(summary.counters)
    counted = before.get("counted", 0) + (summary.computed if summary.counters else 0)
    run.write_json(name, {**dataclasses.asdict(summary), "seconds": seconds, "counters": counters, "counted": counted})


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

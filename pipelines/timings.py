"""How long each stage took, kept over all runs of a run folder: ``timings/<stage>.json``."""

from __future__ import annotations

import dataclasses
from typing import Any

from pipelines.stage import StageSummary
from sc3d.store import RunFolder


def record_summary(run: RunFolder, summary: StageSummary) -> None:
    """Add a run of a stage to what is known of it. A run that computed nothing leaves the seconds as they are."""
    name = f"timings/{summary.stage}.json"
    before = run.read_json(name) if run.exists(name) else {"seconds": 0.0}
    seconds = before["seconds"] + (summary.seconds if summary.computed else 0.0)
    run.write_json(name, {**dataclasses.asdict(summary), "seconds": seconds})


def read_summaries(run: RunFolder, stages: tuple[str, ...]) -> list[dict[str, Any]]:
    """One row a stage that has run, in the given order: stage, seconds, items, rejects."""
    rows = []
    for stage in stages:
        name = f"timings/{stage}.json"
        if run.exists(name):
            values = run.read_json(name)
            rows.append({key: values[key] for key in ("stage", "seconds", "items", "rejects")})
    return rows

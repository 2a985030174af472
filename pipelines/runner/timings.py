"""How long each stage took, kept over all runs of a run folder: ``timings/<stage>.json``."""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from typing_extensions import NotRequired, TypedDict

from pipelines.runner.stage import StageSummary
from sc3d.errors import SchemaError
from sc3d.parsed import Amount, Whole, read_parsed
from sc3d.store import RunFolder

_SPENT = ("seconds", "cpu_seconds", "gpu_seconds")

logger = logging.getLogger(__name__)


class Timing(TypedDict):
    """``timings/<stage>.json``: the latest run of a stage, and, in the seconds, counters and what they are about, all runs.

    Whoever reads labels or meshes without the stages at hand takes the recipes from it (:func:`sc3d.label_reader.labels`,
    :func:`sc3d.mesh_reader.meshes`)."""

    stage: str
    recipe: NotRequired[str]
    upstream: NotRequired[dict[str, str]]
    items: Whole
    computed: Whole
    rejects: Whole
    seconds: Amount
    cpu_seconds: NotRequired[Amount]
    gpu_seconds: NotRequired[Amount]
    counters: NotRequired[dict[str, Whole]]
    counted: NotRequired[Whole]
    all_computed: NotRequired[Whole]


def read_timing(run: RunFolder, stage: str) -> Timing | None:
    """What is known of a stage; None before it has run. What cannot be read is warned of, and counts as not known."""
    name = f"timings/{stage}.json"
    try:
        return read_parsed(run, name, Timing) if run.exists(name) else None
    except SchemaError as error:
        logger.warning("how long %s took is not known: %s", stage, error)
        return None


def record_summary(run: RunFolder, summary: StageSummary) -> None:
    """Add a run of a stage to what is known of it. A run that computed nothing leaves the seconds as they are.

    Counters are added up too; ``counted`` is the number of items that they are about, and ``all_computed`` that of the seconds.
    """
    before: Mapping[str, Any] = read_timing(run, summary.stage) or {}
    spent = {key: before.get(key, 0.0) + (getattr(summary, key) if summary.computed else 0.0) for key in _SPENT}
    counters = Counter(before.get("counters", {})) + Counter(summary.counters)
    counted = before.get("counted", 0) + (summary.computed if summary.counters else 0)
    computed = before.get("all_computed", 0) + summary.computed
    so_far = {**spent, "counters": counters, "counted": counted, "all_computed": computed}
    run.write_json(f"timings/{summary.stage}.json", {**dataclasses.asdict(summary), **so_far})


@dataclass(frozen=True)
class Cost:
    """What a thousand items take of CPUs and GPUs, in hours of one: an estimate from the ``counted`` ones that were computed."""

    cpu_hours: float
    gpu_hours: float
    counted: int


LEAST_COUNTED = 50
"""Items below which nothing is said of a thousand: starting processes and loading models is most of what they take."""


def cost_of_thousand(run: RunFolder, stages: Sequence[str]) -> Cost | None:
    """What a thousand images, or pairs, take in the stages that they go through; None before each has computed enough of them."""
    cpu, gpu, counted = 0.0, 0.0, []
    for stage in stages:
        values = read_timing(run, stage)
        if values is None or (computed := values.get("all_computed", 0)) < LEAST_COUNTED:
            return None
        counted.append(computed)
        cpu += values.get("cpu_seconds", 0.0) / computed
        gpu += values.get("gpu_seconds", 0.0) / computed
    return Cost(cpu * 1000 / 3600, gpu * 1000 / 3600, min(counted))


def read_summaries(run: RunFolder, stages: tuple[str, ...]) -> list[dict[str, Any]]:
    """One row a stage that has run, in the given order: stage, seconds, items, rejects; counters, and counted, the items behind them."""
    rows = []
    for stage in stages:
        if (values := read_timing(run, stage)) is not None:
            known = {key: value for key, value in values.items() if key in ("stage", "seconds", "items", "rejects")}
            rows.append({**known, "counters": values.get("counters", {}), "counted": values.get("counted", 0)})
    return rows

"""How well the share of wrong labels is estimated from cycles of three images, against the dense truth of mixed toys.

A part of ``python -m benchmarks.truth``: ``--parts cycles``. Estimates are compared with the truth for all categories of a seed together,
as ``sc3d sweep`` reports them, and for each category by itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks import row
from benchmarks.labelled_toys import LabelledToys
from pipelines.stages.cycles import estimates, read_cycles
from pipelines.stages.match import MatchStage
from sc3d.datasets.toys.judge import judge_labels
from sc3d.matching.cycle_precision import CyclePrecision, monotone
from sc3d.matching.thresholds import apply_thresholds

BENCH, ALL = "truth", "mixed toys"
TAUS = (0.02, 0.03, 0.05, 0.08, 0.12, 0.2)
MIN_JUDGED = 50


@dataclass(frozen=True)
class Compared:
    """The labels that a threshold keeps of a category, or of all (empty): the share that is wrong in truth, by cycles, and its interval."""

    category: str
    tau_geo: float
    judged: int
    true: float
    estimate: CyclePrecision | None

    @property
    def holds(self) -> bool:
        """Whether the truth lies in the interval."""
        return self.estimate is not None and self.estimate.low <= self.true <= self.estimate.high

    @property
    def is_below(self) -> bool:
        """Whether the truth is at most the interval's high end, by which thresholds are chosen."""
        return self.estimate is not None and self.true <= self.estimate.high


def compare(toys: LabelledToys) -> list[Compared]:
    """Estimates and truth of a run, where :data:`MIN_JUDGED` labels can be judged."""
    config = toys.config
    cycles = read_cycles(config, TAUS, config.sweep.triangles)
    judged = _judge(toys)
    found = []
    for category in ["", *sorted({name for name, _ in judged})]:
        groups = [counts for (name, _), counts in judged.items() if category in ("", name)]
        rows = monotone(estimates(cycles, len(groups), [category] if category else ()))
        for one, (wrong, known) in zip(rows, np.sum(groups, axis=0).tolist(), strict=True):
            estimate = one.estimate if isinstance(one.estimate, CyclePrecision) else None
            if known >= MIN_JUDGED:
                found.append(Compared(category, one.tau_geo, known, wrong / known, estimate))
    return found


def _judge(toys: LabelledToys) -> dict[tuple[str, str], np.ndarray]:
    """(category, pair id) -> wrong and judged labels (T, 2) under each of T thresholds."""
    judged = {}
    for matches in MatchStage(toys.config).catalogue().read_all():
        counts = []
        for tau in TAUS:
            kept = apply_thresholds(matches, dataclasses.replace(toys.config.label, tau_geo=tau))
            found = judge_labels(toys.toy(kept.source_id), toys.toy(kept.target_id), kept.source_xy, kept.target_xy)
            counts.append((found.wrong(0.10), int(found.known.sum())))
        judged[matches.category, matches.pair_id] = np.array(counts)
    return judged


def figures(compared: Sequence[Compared]) -> Iterator[dict[str, Any]]:
    """One row a figure, of the comparisons of all seeds."""
    together = [one for one in compared if not one.category]
    for tau in TAUS:
        mine = [one for one in together if one.tau_geo == tau]
        known = [(one.true, one.estimate.wrong) for one in mine if one.estimate is not None]
        if known:
            true, wrong = (100 * float(np.mean(values)) for values in zip(*known, strict=True))
            yield row(BENCH, f"wrong labels, {ALL}, tau {tau:g}", true, "%", "lower", n=len(known))
            yield row(BENCH, f"wrong labels by cycles, {ALL}, tau {tau:g}", wrong, "%", "lower", n=len(known))
    yield from _agreement("", together)
    yield from _agreement(" of a category", [one for one in compared if one.category])


def _agreement(of: str, compared: Sequence[Compared]) -> Iterator[dict[str, Any]]:
    known = [one for one in compared if one.estimate is not None]
    if not known:
        return
    away = np.mean([abs(one.true - one.estimate.wrong) for one in known if one.estimate is not None])
    yield row(BENCH, f"cycles, {ALL}: away from the truth{of}", 100 * float(away), "%", "lower", n=len(known))
    yield row(
        BENCH, f"cycles, {ALL}: interval holds the truth{of}", _per_cent([c.holds for c in known]), "%", "higher", n=len(known)
    )
    yield row(
        BENCH, f"cycles, {ALL}: truth below the high end{of}", _per_cent([c.is_below for c in known]), "%", "higher", n=len(known)
    )
    yield row(BENCH, f"cycles, {ALL}: estimated at all{of}", 100 * len(known) / len(compared), "%", "higher", n=len(compared))


def _per_cent(values: Sequence[bool]) -> float:
    return 100 * float(np.mean(values))

"""The machine-readable half of the report: filters, PCK, alignment, yaw and stages, as JSON, and the PCK tables as CSV and LaTeX."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipelines.runner.timings import read_summaries
from pipelines.stages.evaluate import EvaluateStage
from pipelines.stages.judge import JudgeStage
from pipelines.stages.orient import OrientStage
from pipelines.stages.reconstruct import ReconstructStage
from pipelines.stages.registry import TIMED
from sc3d.config import RunConfig
from sc3d.evaluation.export import pck_csv, pck_latex
from sc3d.evaluation.filter_quality import summarise
from sc3d.evaluation.protocols import protocol_of, table_name, unit_of
from sc3d.evaluation.scores import PairScore, count_scores
from sc3d.evaluation.tables import filter_rows, pck_rows
from sc3d.parsed import TABLE_BYTES, read_parsed
from sc3d.records import Orientation, Pair, Reconstruction
from sc3d.report.metrics import Metrics
from sc3d.store import RunFolder

METRICS_FILE = "report/metrics.json"
CSV, LATEX = "report/pck.csv", "report/pck.tex"

SCORED_SPLIT = "test"


def collect_metrics(
    config: RunConfig, stages: Sequence[EvaluateStage], pairs: Sequence[Pair], judged: Sequence[Pair]
) -> dict[str, Any]:
    """What ``metrics.json`` holds.

    Args:
        stages: one a method.
        pairs: the annotated pairs, of which those of the test split count.
        judged: those of them that filters were judged on.
    """
    wanted = {pair.pair_id for pair in pairs if pair.split == SCORED_SPLIT}
    protocol = protocol_of(config.dataset.kind)
    dataset = table_name(config.dataset.kind, config.dataset.subset)
    rows, counts = [], []
    for stage in stages:
        scores: list[PairScore] = list(stage.catalogue().read(wanted).values())
        scores.sort(key=lambda score: score.pair_id)
        predictions = [p for score in scores for p in score.predictions()]
        rows += pck_rows(predictions, dataset, config.evaluate.alphas or protocol.alphas, protocol.dagger)
        counts.append(dataclasses.asdict(count_scores(stage.label, len(wanted), scores)))
    on_test = sorted(pair.pair_id for pair in judged if pair.split == SCORED_SPLIT)
    filters = JudgeStage(config).catalogue().read(on_test)
    reconstructions = ReconstructStage(config).catalogue().read_all()
    orientations = OrientStage(config).catalogue().read_all()
    return {
        "methods": [stage.whole.evaluate.methods[0] for stage in stages],
        "unit": unit_of(config),
        "counts": counts,
        "filters": filter_rows(summarise(filters[pair_id].filter_counts() for pair_id in on_test if pair_id in filters)),
        "pck": rows,
        "alignment": alignment_metrics(reconstructions),
        "yaw": yaw_metrics(reconstructions, orientations),
        "stages": read_summaries(RunFolder(config.run), TIMED),
    }


def read_metrics(run: RunFolder) -> Metrics:
    """``metrics.json``, as far as it is shown.

    Raises:
        SchemaError: it is not what an evaluation writes.
        MissingFileError: there is none.
    """
    return read_parsed(run, METRICS_FILE, Metrics, TABLE_BYTES)


def write_metrics(run: RunFolder, metrics: dict[str, Any]) -> None:
    """Write ``metrics.json`` and its PCK tables, ``pck.csv`` and ``pck.tex``."""
    run.write_json(METRICS_FILE, metrics)
    run.write_bytes(CSV, pck_csv(metrics["pck"]).encode())
    run.write_bytes(LATEX, pck_latex(metrics["pck"]).encode())


def alignment_metrics(reconstructions: Sequence[Reconstruction]) -> dict[str, Any]:
    """Number of reconstructions and their mean silhouette IoU before and after alignment."""
    if not reconstructions:
        return {"n": 0, "iou_before": None, "iou_after": None}
    before, after = (float(np.mean([getattr(r, name) for r in reconstructions])) for name in ("iou_before", "iou_after"))
    return {"n": len(reconstructions), "iou_before": before, "iou_after": after}


def yaw_metrics(reconstructions: Sequence[Reconstruction], orientations: Sequence[Orientation]) -> dict[str, Any]:
    """Meshes that were turned; of the simulated misturns, how many there were and how many of them were undone; uncertain votes."""
    injected = {r.image_id: r.injected_turn for r in reconstructions}
    misturned = [o for o in orientations if injected.get(o.image_id, -1) > 0]
    return {
        "turned": sum(o.turn != 0 for o in orientations),
        "injected": len(misturned),
        "undone": sum((injected[o.image_id] + o.turn) % 360 == 0 for o in misturned),
        "wrongly_turned": sum(o.turn != 0 and injected.get(o.image_id, -1) == 0 for o in orientations),
        "uncertain": sum(o.uncertain for o in orientations),
    }

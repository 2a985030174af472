"""The evaluation's section of the report: tables, bars by category, the worst pairs, and what was not scored."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from pipelines.report.metrics import METRICS_FILE, SCORED_SPLIT, read_metrics
from pipelines.report.view import RunView
from pipelines.stages.describe import DescribeStage
from pipelines.stages.evaluate import EvaluateStage, evaluate_stages
from sc3d.config_file import load_config, to_values
from sc3d.errors import Sc3dError
from sc3d.evaluation.pck import WINDOW, PckPair
from sc3d.pair_ids import split_pair_id
from sc3d.report.charts import Series, bars
from sc3d.report.keypoints import ALPHA, KeypointFigure, keypoint_figure, worst_pairs
from sc3d.report.metrics import WITHOUT_PRIOR, CategoryTable, category_tables, filter_table, pck_tables, published_filter_table
from sc3d.report.page import Missing
from sc3d.report.pairs import View

MAX_WORST, MAX_WORST_EACH = 8, 2
_STYLES = ("series-a", "series-b", "series-c")


def evaluation(view: RunView) -> dict[str, Any] | Missing:
    """Filter quality and PCK from ``metrics.json``."""
    if not view.run.exists(METRICS_FILE):
        if not view.summary.annotated:
            return Missing("The data set has no annotated pairs, so there is nothing to evaluate against.")
        return Missing("The annotated pairs were not evaluated yet.", view.command("evaluate"))
    metrics = read_metrics(view.run)
    judged, pck = filter_table(metrics), pck_tables(metrics)
    if not judged.rows and not pck:
        return Missing("No annotated pair could be evaluated.", view.command("evaluate"))
    categories = category_tables(metrics)
    chart, charted = category_chart(categories) or (None, ())
    note_counts(view, metrics)
    return {
        "filters": judged,
        "published_filters": published_filter_table(),
        "pck": tuple(pck),
        "categories": tuple(categories),
        "category_chart": chart,
        "charted": charted,
        "worst_keypoints": worst_figures(view, metrics),
    }


def category_chart(tables: Sequence[CategoryTable]) -> tuple[Markup, tuple[str, ...]] | None:
    """Bars of the first table's categories, for its three best methods at most, and the names of these."""
    if not tables or len(tables[0].categories) < 2:
        return None
    table = tables[0]

    def mean(values: Sequence[float | None]) -> float:
        known = [v for v in values if v is not None]
        return sum(known) / len(known) if known else -1.0

    best = sorted(table.rows, key=lambda row: -mean(row.values))[: len(_STYLES)]
    shown = [row for row in table.rows if row in best]
    series = [
        Series(row.method, np.array([math.nan if v is None else v for v in row.values]), style)
        for row, style in zip(shown, _STYLES, strict=False)
    ]
    return bars(series, table.categories, f"PCK@{table.alpha:.2f}, mean over {table.average}s"), tuple(row.method for row in shown)


def note_counts(view: RunView, metrics: Mapping[str, Any]) -> None:
    """Say which pairs and points are not in the tables, or are in them though something is odd."""
    for count in metrics.get("counts", ()):
        parts = []
        if count["rejected"]:
            parts.append(f"{count['rejected']:,} could not be scored (see the rejects)")
        if count["without_common"]:
            parts.append(f"{count['without_common']:,} show no keypoint in both images and have no score")
        if count["outside"]:
            parts.append(
                f"{count['outside']:,} of {count['keypoints']:,} keypoints lie outside of their image and count all the same"
            )
        if count["flipped"]:
            parts.append(f"{count['flipped']:,} were predicted from the mirrored source")
        if count.get("without_prior"):
            parts.append(f"{count['without_prior']:,} were {WITHOUT_PRIOR}")
        if parts:
            view.note("evaluation", f"{count['method']}: of {count['pairs']:,} pairs, " + "; ".join(parts) + ".")


def worst_figures(view: RunView, metrics: Mapping[str, Any]) -> tuple[KeypointFigure, ...]:
    """The pairs that the best method finds fewest points of, as figures."""
    stage = _best_stage(view, metrics)
    if stage is None:
        return ()
    wanted = [pair.pair_id for pair in view.summary.annotated if pair.split == SCORED_SPLIT]
    scores = stage.known.read(wanted)
    predictions = [p for score in scores.values() for p in score.predictions() if p.method.endswith(WINDOW)]
    chosen = {pair.pair_id: pair for pair in worst_pairs(predictions, MAX_WORST, MAX_WORST_EACH)}
    if chosen:
        view.note(
            "evaluation",
            f"The pictures are of {stage.label}, read by {WINDOW}: its worst pairs, at most {MAX_WORST_EACH} a category.",
        )
    return view.each("evaluation", chosen, lambda pair_id: _figure(view, stage, chosen[pair_id]))


def evaluated_stages(view: RunView, metrics: Mapping[str, Any]) -> list[EvaluateStage]:
    """The stages of the methods that were evaluated last; none where the configuration no longer has one of them."""
    values = to_values(view.config)
    values["evaluate"]["methods"] = list(metrics.get("methods", ()))
    try:
        return evaluate_stages(load_config(None, [], values))
    except Sc3dError:
        return []


def _best_stage(view: RunView, metrics: Mapping[str, Any]) -> EvaluateStage | None:
    """The stage of the method with the highest PCK@0.10 of those that were evaluated last."""
    overall = {
        row["method"]: row["value"]
        for row in metrics.get("pck", ())
        if (row["subset"], row["average"], row["alpha"]) == ("all", "image", ALPHA) and row["value"] is not None
    }
    scored = [stage for stage in evaluated_stages(view, metrics) if f"{stage.label} {WINDOW}" in overall and len(stage.known)]
    return max(scored, key=lambda stage: overall[f"{stage.label} {WINDOW}"], default=None)


def _figure(view: RunView, stage: EvaluateStage, prediction: PckPair) -> KeypointFigure:
    source_id, target_id = split_pair_id(prediction.pair_id)
    described = DescribeStage(stage.whole)
    views = []
    for image_id in (source_id, target_id):
        box = described.read_features(image_id).letterbox
        # An empty foreground shows the whole photo.
        views.append(View(view.photo(image_id, box.width, box.height), box, np.zeros((box.side, box.side), bool)))
    annotations = stage.images[source_id], stage.images[target_id]
    return keypoint_figure(prediction, annotations, (views[0], views[1]))

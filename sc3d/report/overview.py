"""The numbers of a run as tiles, funnel and timing rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sc3d.config import RunConfig
from sc3d.durations import duration
from sc3d.report.metrics import pck_tables
from sc3d.report.page import FunnelStep, Tile, Timing


def image_tiles(n_images: int, n_categories: int, iou_before: np.ndarray, iou_after: np.ndarray) -> list[Tile]:
    """Images, and how well their meshes fit. The arrays (N,) are empty where nothing was reconstructed."""
    tiles = [Tile(f"{n_images:,}", "images", f"{n_categories} {'category' if n_categories == 1 else 'categories'}")]
    if len(iou_after):
        note = f"mean IoU with the mask; {iou_before.mean():.2f} before alignment"
        tiles.append(Tile(f"{iou_after.mean():.2f}", "mesh fit", note, "alignment"))
    return tiles


def label_tiles(n_pairs: int, n_candidates: np.ndarray, n_kept: np.ndarray | None) -> list[Tile]:
    """Pairs, candidates and labels. Arrays (P,): a number a matched pair; ``n_kept`` is ``None`` where no thresholds were applied yet."""
    matched = len(n_candidates)
    tiles = [Tile(f"{n_pairs:,}", "pairs", "all matched" if matched == n_pairs else f"{matched:,} matched", "pairs")]
    if matched:
        tiles.append(Tile(_big(int(n_candidates.sum())), "candidates", "most similar spots"))
    if n_kept is not None and matched:
        total, candidates = int(n_kept.sum()), max(int(n_candidates.sum()), 1)
        none = int((n_kept == 0).sum())
        tiles.append(Tile(_big(total), "labels", f"{100 * total / candidates:.0f} % of the candidates", "filters", total == 0))
        tiles.append(Tile(f"{n_kept.mean():,.0f}", "labels per pair", f"{none:,} {'pair has' if none == 1 else 'pairs have'} none"))
    return tiles


def reject_tile(images: int, pairs: int, consequences: int) -> Tile:
    """Rejected images and pairs; ``consequences`` are pairs lost only because an image was rejected."""
    note = f"{images:,} images, {pairs:,} pairs" + (f"; {consequences:,} pairs lost with them" if consequences else "")
    return Tile(f"{images + pairs:,}", "rejected", note if images + pairs else "nothing was", "rejects", images + pairs > 0)


def metric_tiles(metrics: Mapping[str, Any]) -> list[Tile]:
    """The best PCK@0.10 over all annotated pairs, with what it compares to; none where nothing was evaluated."""
    for table in pck_tables(metrics):
        if table.subset == "all" and 0.10 in table.alphas:
            at = table.alphas.index(0.10)
            measured = [(row.values[at], row.method) for row in table.rows if not row.published and row.values[at] is not None]
            if measured:
                value, method = max(measured, key=lambda m: m[0] or 0.0)
                return [Tile(f"{100 * (value or 0):.1f} %", "PCK@0.10", f"{method}, mean over {table.average}s", "evaluation")]
    return []


def funnel(config: RunConfig, n_candidates: int, n_cycle: int, n_kept: int | None) -> list[FunnelStep]:
    """Candidates, those that come back within the wide cycle threshold, and labels (``None``: no thresholds were applied yet)."""
    total = max(n_candidates, 1)
    wide, label = config.match.tau_cc, config.label
    steps = [
        FunnelStep("candidates", "each spot of the source object with its most similar spot in the target", n_candidates, 1.0),
        FunnelStep(
            "come back", f"matched back, within {100 * wide:g} % of the object's size of the start", n_cycle, n_cycle / total
        ),
    ]
    if n_kept is not None:
        meaning = (
            f"back within {100 * label.tau_cc:g} % (or one cell), and at most {label.tau_geo:g} mesh diagonals off on the surface"
        )
        if label.min_agreement:
            meaning += f", in pairs where that holds for at least {100 * label.min_agreement:g} % of the candidates"
        steps.append(FunnelStep("labels", meaning, n_kept, n_kept / total))
    return steps


def timing_rows(summaries: Sequence[Mapping[str, Any]]) -> list[Timing]:
    """Rows of ``stage, seconds, items, rejects`` with their rates and shares of the slowest.

    ``counters`` are shown for each of the ``counted`` items, where a row has them.
    """
    slowest = max([float(row["seconds"]) for row in summaries] + [1e-9])
    rows = []
    for row in summaries:
        seconds, items = float(row["seconds"]), int(row["items"])
        rate = (
            ""
            if not items or not seconds
            else f"{items / seconds:,.1f}/s"
            if items >= seconds
            else f"{duration(seconds / items)} each"
        )
        counted = max(int(row.get("counted", 0)), 1)
        counts = [f"{n / counted:.2f} {name.replace('_', ' ')} each" for name, n in sorted(row.get("counters", {}).items())]
        note = ", ".join([rate, *counts] if rate else counts)
        rows.append(Timing(str(row["stage"]), seconds, items, int(row["rejects"]), note, seconds / slowest))
    return rows


def _big(value: int) -> str:
    if value < 1_000_000:
        return f"{value:,}"
    return f"{value / 1e6:.1f} M" if value < 100_000_000 else f"{value / 1e6:,.0f} M"

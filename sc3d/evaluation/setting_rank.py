"""Which setting of the fusion weights and thresholds is best, from the counts of many pairs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from sc3d.config import MatchConfig, RunConfig
from sc3d.errors import InputError
from sc3d.evaluation.setting_counts import SettingCounts
from sc3d.matching.fusion import reweighted


def weight_grid(steps: int, present: MatchConfig) -> list[MatchConfig]:
    """All (alpha, beta) in multiples of 1 / steps with at least one 2D source, and the present one."""
    grid = [(a / steps, b / steps) for a in range(steps + 1) for b in range(steps + 1 - a) if a + b > 0]
    if not any(math.isclose(alpha, present.alpha) and math.isclose(beta, present.beta) for alpha, beta in grid):
        grid.append((present.alpha, present.beta))
    return [reweighted(present, alpha, beta) for alpha, beta in grid]


def collect_rows(config: RunConfig, pairs: Sequence[SettingCounts]) -> list[dict[str, Any]]:
    """Add up the pairs' counts: one row a setting, in the order of the grid.

    Raises:
        InputError: there are no pairs.
    """
    if not pairs:
        raise InputError(f"none of the annotated validation pairs of {config.run} could be evaluated; see rejects/sweep")
    totals = np.sum([pair.counts for pair in pairs], axis=0)
    weights = weight_grid(config.sweep.steps, config.match)
    pck = pck_of_weights(pairs, len(weights))
    thresholds = len(config.sweep.tau_cc) * len(config.sweep.tau_geo)
    rows = []
    for number, ((match, tau_cc, tau_geo), (kept, judged, wrong)) in enumerate(
        zip(product(weights, config.sweep.tau_cc, config.sweep.tau_geo), totals.tolist(), strict=True)
    ):
        # What is left of 1 after thirds and sixths is 0, and not 1e-16.
        gamma = round(match.gamma, 12)
        setting = {"alpha": match.alpha, "beta": match.beta, "gamma": gamma, "tau_cc": tau_cc, "tau_geo": tau_geo}
        score = {"fpr": wrong / judged if judged else None, "kept": kept / len(pairs), "judged": judged}
        rows.append({**setting, **score, "pck": pck[number // thresholds], "present": is_present(setting, config)})
    return rows


def pck_of_weights(pairs: Sequence[SettingCounts], weights: int) -> list[float | None]:
    """PCK@0.10 under each weights: the mean over pairs of the share of right keypoints; ``None`` where nothing was counted."""
    counted = [pair.points for pair in pairs if pair.points is not None and pair.points[:, 1].all()]
    if not counted:
        return [None] * weights
    shares = np.mean([points[:, 0] / points[:, 1] for points in counted], axis=0)
    found: list[float | None] = shares.tolist()
    return found


def is_present(row: Mapping[str, Any], config: RunConfig) -> bool:
    """Whether a row is of the setting that the run has now."""
    match, label = config.match, config.label
    own = {"alpha": match.alpha, "beta": match.beta, "tau_cc": label.tau_cc, "tau_geo": label.tau_geo}
    return all(math.isclose(row[k], v) for k, v in own.items())


def wanted_labels(rows: Sequence[Mapping[str, Any]], config: RunConfig) -> float:
    """Labels a pair that the best setting must keep."""
    if config.sweep.labels is not None:
        return config.sweep.labels
    present = [row["kept"] for row in rows if is_present(row, config)]
    wanted: float = config.sweep.min_kept * (present[0] if present else max(row["kept"] for row in rows) / 2)
    return wanted


def rank(rows: list[dict[str, Any]], config: RunConfig) -> list[dict[str, Any]]:
    """Best first: settings that keep enough labels by the objective, then the others by the labels that they keep.

    PCK depends on the weights alone: among the thresholds of equal weights FPR decides.
    """
    enough, by_pck = wanted_labels(rows, config), config.sweep.objective == "pck"

    def order(row: Mapping[str, Any]) -> tuple[bool, float, float, float]:
        wanted = row["kept"] >= enough and row["fpr"] is not None and (not by_pck or row["pck"] is not None)
        if not wanted:
            return True, 0.0, 0.0, -row["kept"]
        return False, -row["pck"] if by_pck else 0.0, row["fpr"], -row["kept"]

    return sorted(rows, key=order)

"""How good many settings of weights and thresholds are on one annotated pair: counts that add up to FPR and kept labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sc3d.config import LabelConfig, MatchConfig
from sc3d.errors import SchemaError
from sc3d.evaluation.filter_quality import judge
from sc3d.matching.candidates import within_cycle
from sc3d.matching.described import Described
from sc3d.matching.thresholds import passes_geodesic
from sc3d.matching.weight_grid import GroupedImage, SettingCandidates, match_settings
from sc3d.records import ImageRecord
from sc3d.schema import Record, array, column


@dataclass(frozen=True, eq=False)
class SettingCounts(Record, name="SettingCounts"):
    """One annotated pair under S weights, C cycle and G geodesic thresholds."""

    SCHEMA_VERSION = 2

    pair_id: str = column("source id ~ target id")
    category: str = column("object category")
    counts: np.ndarray = array("int64", -1, 3, doc="kept labels, judged keypoints, wrong ones, weights first (S * C * G, 3)")
    points: np.ndarray | None = array(
        "int64",
        -1,
        2,
        doc="right keypoints at PCK@0.10 and all of them, of each weights (S, 2); none: not asked for",
        optional=True,
    )

    def validate(self) -> None:
        if self.points is not None and ((self.points < 0).any() or (self.points[:, 0] > self.points[:, 1]).any()):
            raise SchemaError(f"setting counts of {self.pair_id}: negative, or more right keypoints than there are")
        if (self.counts < 0).any() or (self.counts[:, 2] > self.counts[:, 1]).any():
            raise SchemaError(f"setting counts of {self.pair_id}: negative, or more wrong keypoints than judged ones")


def count_settings(
    source: GroupedImage,
    target: GroupedImage,
    annotations: tuple[ImageRecord, ImageRecord],
    weights: Sequence[MatchConfig],
    tau_cc: Sequence[float],
    tau_geo: Sequence[float],
) -> np.ndarray:
    """Kept labels, judged keypoints and wrong ones of a pair under every combination: (S, C, G, 3) int64.

    Args:
        annotations: manifest rows of the source and the target, with keypoints and the target's box.
        weights: S settings, of which only the weights matter.
        tau_cc, tau_geo: C cycle and G geodesic thresholds, in any order, at least one of each.

    Raises:
        InputError: the target has no box.
        FeatureError: see :func:`~sc3d.matching.weight_grid.match_settings`.
    """
    candidates = match_settings(source, target, weights, LabelConfig(max(tau_cc), max(tau_geo)))
    return np.stack([_counts(one, source, annotations, np.asarray(tau_cc), np.asarray(tau_geo)) for one in candidates])


def _counts(
    candidates: SettingCandidates,
    source: Described,
    annotations: tuple[ImageRecord, ImageRecord],
    tau_cc: np.ndarray,
    tau_geo: np.ndarray,
) -> np.ndarray:
    at, correct = judge(candidates, source.letterbox, annotations)
    by_cycle, by_geodesic = np.argsort(tau_cc), np.argsort(tau_geo)
    cycle = sum(~within_cycle(source, candidates.cycle_error, float(tau)) for tau in tau_cc[by_cycle])
    geodesic = sum(~passes_geodesic(candidates.geodesic_error, float(tau)) for tau in tau_geo[by_geodesic])
    # A candidate passes its first threshold and all wider ones: one histogram, summed up along both axes, counts for all of them.
    shape = (len(tau_cc) + 1, len(tau_geo) + 1)
    first = np.asarray(cycle) * shape[1] + np.asarray(geodesic)
    histograms = [np.bincount(rows, minlength=shape[0] * shape[1]) for rows in (first, first[at], first[at[~correct]])]
    sums = np.stack(histograms, axis=-1).reshape(*shape, 3).cumsum(axis=0).cumsum(axis=1)
    return sums[np.ix_(np.argsort(by_cycle), np.argsort(by_geodesic))]

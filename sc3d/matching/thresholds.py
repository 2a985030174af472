"""Thresholds applied to stored evidence: labels are made again without matching again."""

from __future__ import annotations

import dataclasses

import numpy as np

from sc3d.config import LabelConfig
from sc3d.matching.candidates import cycle_tolerance, passes_cycle
from sc3d.records import Labels, Matches


def passes_geodesic(errors: np.ndarray, tau: float) -> np.ndarray:
    """Whether each stored geodesic error (N,) is at most ``tau``, both in mesh diagonals, compared in the stored precision."""
    return errors <= np.float32(tau)


AGREED = 0.05
"""Cycle and geodesic error up to which a match counts as agreed, at most; the label thresholds of the paper."""


def agreement(
    candidates: int, cycle_error: np.ndarray, geodesic_error: np.ndarray, unit: tuple[float, float], config: LabelConfig
) -> float:
    """How far a pair's features and meshes agree: the share of the source's cells whose match passes both thresholds, each at most
    :data:`AGREED`. It plays the part of the ratio of inliers in two-view geometry: with one of the poses wrong, few matches pass by chance.

    Args:
        candidates: cells that were matched at all.
        cycle_error: (N,) in source pixels, of some of the candidates.
        geodesic_error: (N,) in mesh diagonals, of the same.
        unit: the source's extent and cell, in pixels.
    """
    tolerance = cycle_tolerance(min(config.tau_cc, AGREED), *unit)
    agreed = passes_cycle(cycle_error, tolerance) & passes_geodesic(geodesic_error, min(config.tau_geo, AGREED))
    return float(agreed.sum()) / max(candidates, 1)


def apply_thresholds(matches: Matches, config: LabelConfig) -> Labels:
    """The labels of a pair: the matches whose cycle and geodesic errors are within the thresholds; none where a mask has
    too many signs of a bad one, or the meshes agree on too few matches.

    The result is the same as matching with these thresholds at once, as long as they are not wider than those the matches were stored
    with (:class:`~sc3d.config.RunConfig` checks that). Labels can be tightened further in the same way.
    """
    unit = matches.source_extent, matches.source_cell
    tolerance = cycle_tolerance(config.tau_cc, *unit)
    agreed = agreement(matches.n_candidates, matches.cycle_error, matches.geodesic_error, unit, config)
    usable = matches.mask_signs <= config.max_mask_signs and agreed >= config.min_agreement
    keep = passes_cycle(matches.cycle_error, tolerance) & passes_geodesic(matches.geodesic_error, config.tau_geo) & usable
    values = {field.name: getattr(matches, field.name) for field in dataclasses.fields(Matches)}
    for name in ("source_xy", "target_xy", "cosine", "cycle_error", "geodesic_error"):
        values[name] = values[name][keep]
    return Labels(**values, n_kept=int(keep.sum()), tau_cc=config.tau_cc, tau_geo=config.tau_geo)

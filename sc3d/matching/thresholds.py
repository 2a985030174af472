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


def apply_thresholds(matches: Matches, config: LabelConfig) -> Labels:
    """The labels of a pair: the matches whose cycle and geodesic errors are within the thresholds; none where a mask has
    too many signs of a bad one.

    The result is the same as matching with these thresholds at once, as long as they are not wider than those the matches were stored
    with (:class:`~sc3d.config.RunConfig` checks that). Labels can be tightened further in the same way.
    """
    tolerance = cycle_tolerance(config.tau_cc, matches.source_extent, matches.source_cell)
    usable = matches.mask_signs <= config.max_mask_signs
    keep = passes_cycle(matches.cycle_error, tolerance) & passes_geodesic(matches.geodesic_error, config.tau_geo) & usable
    values = {field.name: getattr(matches, field.name) for field in dataclasses.fields(Matches)}
    for name in ("source_xy", "target_xy", "cosine", "cycle_error", "geodesic_error"):
        values[name] = values[name][keep]
    return Labels(**values, n_kept=int(keep.sum()), tau_cc=config.tau_cc, tau_geo=config.tau_geo)

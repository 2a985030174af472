"""The two losses of render and compare as functions of a silhouette's weighted areas (3D-SC, arXiv 2605.30093, stage 1).

A loss holds ``weights`` (3, H, W) on the canvas and maps the areas (3,) under them, with their slopes (3, 4) by log scale and t, to its
value and gradient (4,). Both are of order one.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from sc3d.geometry.target import MaskTarget

# Price of the whole silhouette being outside the image.
_OUTSIDE_PENALTY = 10.0


class SilhouetteLoss(Protocol):
    """What the descent minimises."""

    weights: np.ndarray

    def __call__(self, areas: np.ndarray, slopes: np.ndarray) -> tuple[float, np.ndarray]:
        """Value and gradient (4,)."""


class _Inside:
    """The canvas maps that both losses share, and the penalty for silhouette outside the image."""

    def __init__(self, target: MaskTarget, first: np.ndarray, max_outside: float) -> None:
        inside = target.on_canvas(np.ones_like(target.mask))
        self.weights = np.stack([target.on_canvas(first), inside, np.ones_like(inside)])
        self.max_outside = max_outside

    def penalty(self, areas: np.ndarray, slopes: np.ndarray) -> tuple[float, np.ndarray]:
        """Linear in the share outside beyond the free one."""
        total = max(areas[2], 1e-9)
        share = 1.0 - areas[1] / total
        if share <= self.max_outside:
            return 0.0, np.zeros(4)
        slope = (areas[1] / total * slopes[2] - slopes[1]) / total
        return _OUTSIDE_PENALTY * (share - self.max_outside), _OUTSIDE_PENALTY * slope


class DistanceLoss(_Inside):
    """Distance-transform loss: ``1/(HW) sum_p alpha_p D_out(p) + D_in(p) (1 - lambda alpha_p)``, up to a constant and a factor.

    Divided by its value if ``D_out + lambda D_in`` were paid everywhere.
    """

    def __init__(self, target: MaskTarget, dilation: int, interior_weight: float, max_outside: float) -> None:
        weights, unit = target.distance_weights(dilation, interior_weight)
        super().__init__(target, weights / max(unit, 1e-30), max_outside)

    def __call__(self, areas: np.ndarray, slopes: np.ndarray) -> tuple[float, np.ndarray]:
        penalty, penalty_slope = self.penalty(areas, slopes)
        return float(areas[0]) + penalty, slopes[0] + penalty_slope


class SoftIoULoss(_Inside):
    """Soft IoU: ``1 - sum(alpha M) / sum(alpha + M - alpha M)`` over the image."""

    def __init__(self, target: MaskTarget, max_outside: float) -> None:
        super().__init__(target, target.mask, max_outside)
        self.area = float(target.area)

    def __call__(self, areas: np.ndarray, slopes: np.ndarray) -> tuple[float, np.ndarray]:
        penalty, penalty_slope = self.penalty(areas, slopes)
        union = self.area + areas[1] - areas[0]
        slope = (areas[0] * (slopes[1] - slopes[0]) - slopes[0] * union) / union**2
        return 1.0 - float(areas[0] / union) + penalty, slope + penalty_slope

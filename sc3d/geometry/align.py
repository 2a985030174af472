"""Render and compare: fit scale and translation of a posed mesh to an object mask (3D-SC, arXiv 2605.30093, stage 1).

The rotation is kept. Adam minimises a distance-transform loss and then the soft IoU, with the paper's numbers
(:class:`~sc3d.config.AlignConfig`). Choices of this implementation, where the paper leaves them open:

- The translation's learning rate is in units of the object's size at the start (scale times the longest side of the mesh's box), so
  that it means the same for a unit-sized mesh and for one in millimetres. For unit-sized objects it is the paper's.
- The silhouette is rendered on a canvas of twice the image, so that the share outside the image can be measured; the losses look at the
  image alone.
- Besides the given pose, poses that bring the projected box to the mask's box are considered as starts, and taken if their IoU is higher.
- Of all poses visited, the one with the best hard IoU is returned, the given one included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from sc3d.config import AlignConfig
from sc3d.errors import GeometryError, Sc3dError
from sc3d.geometry.camera import Camera, Pose
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.silhouette import OutlineRenderer, SilhouetteRenderer
from sc3d.geometry.target import MaskTarget

# The canvas has this many image sizes of margin on each side.
_MARGIN = 0.5
# Price of the whole silhouette being outside the image, in units of the loss's own scale.
_OUTSIDE_PENALTY = 10.0
# A phase ends early when its loss has not improved by this share of the loss's scale in so many steps.
_TOLERANCE, _PATIENCE = 1e-3, 20
# Least depth that a step may leave a vertex at, in depths of the start.
_LEAST_DEPTH = 0.05

Loss = Callable[[np.ndarray, np.ndarray], tuple[float, np.ndarray]]
RendererFactory = Callable[[Mesh, np.ndarray, Camera, int], SilhouetteRenderer]


@dataclass(frozen=True)
class Alignment:
    """The result of :func:`align`.

    ``pose`` has the start's rotation. ``iou_before`` and ``iou_after`` compare hard silhouettes with the mask at the working resolution,
    inside the image. ``flags``: ``not_improved`` (no visited pose beat the start), ``mostly_outside`` (most of the silhouette is outside the
    image), ``low_iou`` (below ``config.low_iou``). ``steps`` counts the Adam steps taken.
    """

    pose: Pose
    iou_before: float
    iou_after: float
    flags: tuple[str, ...]
    steps: int


class _Fit:
    """One optimisation: renders poses, remembers the best one, and keeps the mesh in front of the camera."""

    def __init__(self, renderer: SilhouetteRenderer, target: MaskTarget, depths: np.ndarray, pose: Pose) -> None:
        self.renderer, self.target, self.depths = renderer, target, depths
        self.least_depth = _LEAST_DEPTH * float((pose.scale * depths + pose.t[2]).mean())
        self.best_iou = -1.0
        self.best = (float(np.log(pose.scale)), pose.t)
        self.steps = 0

    def visit(self, log_scale: float, t: np.ndarray):
        """Render a pose and remember it if it is the best so far."""
        silhouette = self.renderer.render(log_scale, t)
        iou = self.target.iou(silhouette.coverage)
        if iou > self.best_iou:
            self.best_iou, self.best = iou, (log_scale, t.copy())
        return silhouette, iou

    def in_front(self, log_scale: float, t: np.ndarray) -> np.ndarray:
        """``t``, pushed away from the camera if a vertex would come nearer than the least depth."""
        nearest = np.exp(log_scale) * self.depths.min() + t[2]
        return t + np.array([0.0, 0.0, max(0.0, self.least_depth - nearest)])

    def descend(self, weights: np.ndarray, loss: Loss, steps: int, rates: np.ndarray, log_scale: float, t: np.ndarray):
        """Adam on ``loss`` from one pose; returns where it ended. ``rates`` (4,) are the learning rates of log scale and t."""
        theta, first, second = np.r_[log_scale, t], np.zeros(4), np.zeros(4)
        # Adam sees the parameters in units of their rates' reference, so the gradient is scaled by the same.
        unit = rates / rates[0]
        lowest, patience = np.inf, _PATIENCE
        for step in range(1, steps + 1):
            value, gradient = loss(*self.visit(theta[0], theta[1:])[0].areas(weights))
            if value < lowest - _TOLERANCE:
                lowest, patience = value, _PATIENCE
            else:
                patience -= 1
            if patience == 0 or not gradient.any():
                break
            self.steps += 1
            first = 0.9 * first + 0.1 * gradient * unit
            second = 0.999 * second + 0.001 * (gradient * unit) ** 2
            theta = theta - rates * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-12)
            theta[1:] = self.in_front(theta[0], theta[1:])
        self.visit(theta[0], theta[1:])
        return theta[0], theta[1:]

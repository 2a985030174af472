"""The search of render and compare (3D-SC, arXiv 2605.30093, stage 1) for one object, without the rendering.

:meth:`PoseSearch.steps` is a generator: it yields the pose that it wants to see next and is sent a :class:`View` of it. One object's
search can so be driven by a renderer of its own, and many objects' searches in step by one that renders them all at once, while what is
optimised is written once.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sc3d.config import AlignConfig
from sc3d.errors import GeometryError
from sc3d.geometry.camera import Camera, Pose
from sc3d.geometry.image_motion import Similarity
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.occlusion import complete
from sc3d.geometry.silhouette import OutlineRenderer, Parameters, SilhouetteRenderer
from sc3d.geometry.silhouette_loss import DistanceLoss, SilhouetteLoss, SoftIoULoss
from sc3d.geometry.target import MaskTarget

# The canvas has this many image sizes of margin on each side.
_MARGIN = 0.5
# A phase ends early when its loss, which is of order one, has not improved by this much in so many steps.
_TOLERANCE, _PATIENCE = 1e-3, 20
# A mask that a silhouette fills so well is not searched for occlusion.
_COMPLETE_IOU = 0.97
# Least depth that a step may leave a vertex at, in depths of the start.
_LEAST_DEPTH = 0.05


@dataclass(frozen=True)
class Alignment:
    """What :func:`sc3d.geometry.align.align` found.

    ``pose`` has the start's rotation. ``iou_before`` and ``iou_after`` compare hard silhouettes with the mask at the working
    resolution, inside the image; after is never less than before. ``steps`` counts the Adam steps taken. ``flags``:

    - ``not_improved``: the IoU is the start's;
    - ``mostly_outside``: most of the silhouette is outside the image;
    - ``low_iou``: below ``config.low_iou``;
    - ``occluded``: the mask is explained as part of a larger silhouette, so that the IoU is the visible share of the object and says
      little about the pose.
    """

    pose: Pose
    iou_before: float
    iou_after: float
    flags: tuple[str, ...]
    steps: int


class View(Protocol):
    """What a search is told about a pose."""

    @property
    def iou(self) -> float:
        """IoU of the hard silhouette with the mask, inside the image."""

    @property
    def outside_share(self) -> float:
        """Share of the hard silhouette on the canvas that lies outside the image; 1 if there is none."""

    def areas(self, loss: SilhouetteLoss) -> tuple[np.ndarray, np.ndarray]:
        """Areas (3,) of the soft silhouette under the loss's weights, and their derivatives (3, 4) by log scale and t."""


Steps = Generator[Parameters, View, Alignment]


def judge(mesh: Mesh, mask: np.ndarray, pose: Pose, camera: Camera, config: AlignConfig) -> tuple[float, tuple[str, ...]]:
    """How well a pose that is kept fits a mask: the IoU of :class:`Alignment`, and those of its flags that are about one pose.

    Raises:
        InputError: the mask is empty, or is not a boolean image of the camera's size.
        GeometryError: part of the mesh is at or behind the camera.
    """
    target = MaskTarget.at_resolution(mask, camera, config.resolution, _MARGIN)
    seen = OutlineRenderer(mesh, pose.R, target.camera, target.margin).render(float(np.log(pose.scale)), pose.t).coverage
    iou = target.iou(seen)
    return iou, tuple(name for name, raised in _doubts(iou, target.outside_share(seen), config).items() if raised)


def _doubts(iou: float, outside_share: float, config: AlignConfig) -> dict[str, bool]:
    return {"mostly_outside": outside_share > 0.5, "low_iou": iou < config.low_iou}


class PoseSearch:
    """The search for one object's scale and translation.

    Args:
        mesh: in its canonical frame.
        mask: (H, W) bool.
        pose: the start.
        camera: of the mask's size.
        config: steps, rates and thresholds.

    Raises:
        InputError: the mask is empty, or is not a boolean image of the camera's size.
        GeometryError: the mesh has no extent.
    """

    def __init__(self, mesh: Mesh, mask: np.ndarray, pose: Pose, camera: Camera, config: AlignConfig) -> None:
        self.size = float(np.ptp(mesh.vertices, axis=0).max())
        if self.size <= 0:
            raise GeometryError("all vertices of the mesh are one point; reconstruct it again")
        self.mesh, self.pose, self.config = mesh, pose, config
        self.target = MaskTarget.at_resolution(mask, camera, config.resolution, _MARGIN)
        self.rotated = mesh.vertices @ pose.R.T
        self.distance = DistanceLoss(self.target, config.dilation, config.interior_weight, config.max_outside)
        self.soft_iou = SoftIoULoss(self.target, config.max_outside)
        self.best: Parameters = (float(np.log(pose.scale)), pose.t)
        self.best_iou = 0.0
        self.least_depth = _LEAST_DEPTH * float((np.exp(self.best[0]) * self.rotated[:, 2] + pose.t[2]).mean())
        self.nearest = float(self.rotated[:, 2].min())
        self._adam_steps = 0

    def steps(self, renderer: Callable[[], SilhouetteRenderer]) -> Steps:
        """Yields poses to be viewed, the start first, and returns the alignment.

        ``renderer`` gives a renderer onto the target's canvas, if need be: the search for occlusion looks at whole silhouettes.
        """
        iou_before = self.best_iou = (yield self.best).iou
        for candidate in _box_starts(self.target, self.rotated, self.best, self.least_depth):
            yield from self._try_pose(candidate)
        yield from self._two_phases()
        hidden = yield from self._occluded(renderer, iou_before)
        log_scale, t = hidden or self.best
        after = yield log_scale, t
        flags = {
            "not_improved": after.iou <= iou_before,
            **_doubts(after.iou, after.outside_share, self.config),
            "occluded": hidden is not None,
        }
        same = after.iou <= iou_before and not hidden
        result = self.pose if same else self.pose.replace(scale=float(np.exp(log_scale)), t=t)
        return Alignment(result, iou_before, after.iou, tuple(name for name, raised in flags.items() if raised), self._adam_steps)

    def _visit(self, log_scale: float, t: np.ndarray) -> Generator[Parameters, View, View]:
        """View a pose and remember it if it is the best so far."""
        view = yield log_scale, t
        if view.iou > self.best_iou:
            self.best_iou, self.best = view.iou, (log_scale, t.copy())
        return view

    def _try_pose(self, parameters: Parameters) -> Generator[Parameters, View, None]:
        """Visit a proposed pose, pushed to where all of it can be seen."""
        yield from self._visit(parameters[0], self._in_front(*parameters))

    def _in_front(self, log_scale: float, t: np.ndarray) -> np.ndarray:
        """``t``, pushed away from the camera if a vertex would come nearer than the least depth."""
        nearest = np.exp(log_scale) * self.nearest + t[2]
        return t + np.array([0.0, 0.0, max(0.0, self.least_depth - nearest)])

    def _two_phases(self) -> Generator[Parameters, View, None]:
        """The distance-transform phase from the best start, then the soft IoU from where it ended."""
        config = self.config
        rates = np.array([config.lr_log_scale, *[config.lr_translation * self.pose.scale * self.size] * 3])
        reached = yield from self._descend(self.distance, config.steps_distance, rates, self.best)
        yield from self._descend(self.soft_iou, config.steps_iou, rates, reached)

    def _descend(
        self, loss: SilhouetteLoss, steps: int, rates: np.ndarray, start: Parameters
    ) -> Generator[Parameters, View, Parameters]:
        """Adam on ``loss`` from one pose; returns where it ended. ``rates`` (4,) are the learning rates of log scale and t."""
        log_scale, t = start
        first, second = np.zeros(4), np.zeros(4)
        lowest, patience = np.inf, _PATIENCE
        for step in range(1, steps + 1):
            view = yield from self._visit(log_scale, t)
            value, gradient = loss(*view.areas(loss))
            if value < lowest - _TOLERANCE:
                lowest, patience = value, _PATIENCE
            else:
                patience -= 1
            if patience == 0 or not gradient.any():
                break
            self._adam_steps += 1
            first = 0.9 * first + 0.1 * gradient
            second = 0.999 * second + 0.001 * gradient**2
            move = rates * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-30)
            log_scale = log_scale - float(move[0])
            t = self._in_front(log_scale, t - move[1:])
        yield from self._visit(log_scale, t)
        return log_scale, t

    def _occluded(
        self, renderer: Callable[[], SilhouetteRenderer], iou_before: float
    ) -> Generator[Parameters, View, Parameters | None]:
        """A pose that explains the mask as part of a larger silhouette, if there is clear evidence of one."""
        cut = not self.target.free_sides()[1].all()
        if not self.config.occlusion or (self.best_iou >= _COMPLETE_IOU and not cut):
            return None
        candidates = []
        for parameters, evidence in complete(renderer(), self.target, self.best, self.rotated.mean(axis=0)):
            yield from self._try_pose(parameters)
            candidates.append((parameters, evidence))
        if not candidates:
            return None
        best, evidence = max(candidates, key=lambda candidate: candidate[1].score)
        if not evidence.beats(candidates[0][1]) or (yield best).iou < iou_before:
            return None
        return best


def _box_starts(target: MaskTarget, rotated: np.ndarray, start: Parameters, least_depth: float) -> Iterator[Parameters]:
    """Poses that bring the projected box to the mask's box: shifted only, and scaled and shifted. Cut sides of the mask do not count."""
    box, free = target.free_sides()
    low, high = free[:2], free[2:]
    # A direction in which both sides are cut knows no place: there the middles are brought together.
    use = np.where(low | high, [low, high], True)
    for rescale in (False, True):
        parameters = start
        # Perspective makes the box change a little with each move.
        for _ in range(3):
            X = np.exp(parameters[0]) * rotated + parameters[1]
            if X[:, 2].min() < least_depth:
                break
            uv = (X @ target.camera.K.T)[:, :2] / X[:, 2:]
            seen = np.stack([uv.min(axis=0), uv.max(axis=0)])
            extent = np.maximum(np.ptp(seen, axis=0), 1e-6)
            ratio = ((box[2:] - box[:2]) / extent)[low & high]
            size = float(np.exp(np.log(ratio).mean())) if rescale and len(ratio) else 1.0
            centre = seen.mean(axis=0)
            gap = box.reshape(2, 2) - (centre + size * (seen - centre))
            shift = (gap * use).sum(axis=0) / use.sum(axis=0)
            parameters = Similarity(size, centre, shift).move(parameters, rotated.mean(axis=0), target.camera)
        else:
            yield parameters

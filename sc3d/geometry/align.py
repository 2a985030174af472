"""Render and compare: fit scale and translation of a posed mesh to an object mask (3D-SC, arXiv 2605.30093, stage 1).

The rotation is kept. Adam minimises a distance-transform loss and then the soft IoU, with the paper's numbers
(:class:`~sc3d.config.AlignConfig`). Choices of this implementation, where the paper leaves them open:

- The translation's learning rate is in units of the object's size at the start (scale times the longest side of the mesh's box), so
  that it means the same for a unit-sized mesh and for one in millimetres. For unit-sized objects it is the paper's.
- The silhouette is rendered on a canvas of twice the image, so that the share outside the image can be measured; the losses look at the
  image alone.
- Besides the given pose, poses that bring the projected box to the mask's box are considered as starts, and taken if their IoU is higher.
- Of all poses visited, the one with the best hard IoU is returned, the given one included.
- With ``config.occlusion``, a mask that no complete silhouette fills is compared with parts of the silhouette
  (:mod:`sc3d.geometry.occlusion`). Only where the outlines give clear evidence, a pose with a lower IoU than the best one, though never a
  lower one than the given pose, is returned and flagged. Otherwise the paper's two phases stand alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from sc3d.config import AlignConfig
from sc3d.errors import GeometryError, Sc3dError
from sc3d.geometry.camera import Camera, Pose
from sc3d.geometry.image_motion import Similarity
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.occlusion import complete
from sc3d.geometry.silhouette import OutlineRenderer, Parameters, Silhouette, SilhouetteRenderer
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

RendererFactory = Callable[[Mesh, np.ndarray, Camera, int], SilhouetteRenderer]


@dataclass(frozen=True)
class Alignment:
    """The result of :func:`align`.

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


class _Fit:
    """One optimisation: renders poses, remembers the best one, and keeps the mesh in front of the camera."""

    def __init__(self, renderer: SilhouetteRenderer, target: MaskTarget, rotated: np.ndarray, start: Parameters) -> None:
        self.renderer, self.target, self.rotated = renderer, target, rotated
        self.least_depth = _LEAST_DEPTH * float((np.exp(start[0]) * rotated[:, 2] + start[1][2]).mean())
        self.best = start
        self.best_iou = target.iou(renderer.render(*start).coverage)
        self.steps = 0

    def visit(self, log_scale: float, t: np.ndarray) -> Silhouette:
        """Render a pose and remember it if it is the best so far."""
        silhouette = self.renderer.render(log_scale, t)
        iou = self.target.iou(silhouette.coverage)
        if iou > self.best_iou:
            self.best_iou, self.best = iou, (log_scale, t.copy())
        return silhouette

    def try_pose(self, parameters: Parameters) -> None:
        """Visit a proposed pose, pushed to where all of it can be seen."""
        self.visit(parameters[0], self.in_front(*parameters))

    def in_front(self, log_scale: float, t: np.ndarray) -> np.ndarray:
        """``t``, pushed away from the camera if a vertex would come nearer than the least depth."""
        nearest = np.exp(log_scale) * self.rotated[:, 2].min() + t[2]
        return t + np.array([0.0, 0.0, max(0.0, self.least_depth - nearest)])

    def descend(self, loss: SilhouetteLoss, steps: int, rates: np.ndarray, start: Parameters) -> Parameters:
        """Adam on ``loss`` from one pose; returns where it ended. ``rates`` (4,) are the learning rates of log scale and t."""
        log_scale, t = start
        first, second = np.zeros(4), np.zeros(4)
        lowest, patience = np.inf, _PATIENCE
        for step in range(1, steps + 1):
            value, gradient = loss(*self.visit(log_scale, t).areas(loss.weights))
            if value < lowest - _TOLERANCE:
                lowest, patience = value, _PATIENCE
            else:
                patience -= 1
            if patience == 0 or not gradient.any():
                break
            self.steps += 1
            first = 0.9 * first + 0.1 * gradient
            second = 0.999 * second + 0.001 * gradient**2
            move = rates * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-30)
            log_scale = log_scale - float(move[0])
            t = self.in_front(log_scale, t - move[1:])
        self.visit(log_scale, t)
        return log_scale, t


class Aligner:
    """Aligns one mesh to masks: ``Aligner(mesh, config).align(mask, pose, camera)``.

    Args:
        mesh: the reconstruction, in its canonical frame.
        config: steps, rates and thresholds.
        renderer: makes the silhouette renderer from (mesh, rotation, camera, margin in pixels); default :class:`OutlineRenderer`.
    """

    def __init__(self, mesh: Mesh, config: AlignConfig | None = None, renderer: RendererFactory = OutlineRenderer) -> None:
        self.mesh, self.config, self.renderer = mesh, config or AlignConfig(), renderer
        self.size = float(np.ptp(mesh.vertices, axis=0).max())

    def align(self, mask: np.ndarray, pose: Pose, camera: Camera) -> Alignment:
        """Fit scale and translation of ``pose`` to ``mask`` (H, W) bool of the camera's size.

        Raises:
            InputError: the mask is empty, or is not a boolean image of the camera's size.
            GeometryError: part of the mesh is at or behind the camera at the start, or the mesh has no extent.
        """
        if self.size <= 0:
            raise GeometryError("all vertices of the mesh are one point; reconstruct it again")
        target = MaskTarget.at_resolution(mask, camera, self.config.resolution, _MARGIN)
        rotated = self.mesh.vertices @ pose.R.T
        start = (float(np.log(pose.scale)), pose.t)
        fit = _Fit(self.renderer(self.mesh, pose.R, target.camera, target.margin), target, rotated, start)
        iou_before = fit.best_iou
        for candidate in _box_starts(target, rotated, start, fit.least_depth):
            fit.try_pose(candidate)
        self._two_phases(fit, target, pose.scale)
        hidden = self._occluded(fit, target, iou_before)
        log_scale, t = hidden or fit.best
        after = fit.renderer.render(log_scale, t).coverage
        iou_after = target.iou(after)
        flags = {
            "not_improved": iou_after <= iou_before,
            "mostly_outside": target.outside_share(after) > 0.5,
            "low_iou": iou_after < self.config.low_iou,
            "occluded": hidden is not None,
        }
        result = pose if iou_after <= iou_before and not hidden else pose.replace(scale=float(np.exp(log_scale)), t=t)
        return Alignment(result, iou_before, iou_after, tuple(name for name, raised in flags.items() if raised), fit.steps)

    def _occluded(self, fit: _Fit, target: MaskTarget, iou_before: float) -> Parameters | None:
        """A pose that explains the mask as part of a larger silhouette, if there is clear evidence of one."""
        cut = not target.free_sides()[1].all()
        if not self.config.occlusion or (fit.best_iou >= _COMPLETE_IOU and not cut):
            return None
        candidates = []
        for parameters, evidence in complete(fit.renderer, target, fit.best, fit.rotated.mean(axis=0)):
            fit.try_pose(parameters)
            candidates.append((parameters, evidence))
        if not candidates:
            return None
        best, evidence = max(candidates, key=lambda candidate: candidate[1].score)
        if not evidence.beats(candidates[0][1]) or target.iou(fit.renderer.render(*best).coverage) < iou_before:
            return None
        return best

    def _two_phases(self, fit: _Fit, target: MaskTarget, scale: float) -> None:
        """The distance-transform phase from the best start, then the soft IoU from where it ended."""
        config = self.config
        rates = np.array([config.lr_log_scale, *[config.lr_translation * scale * self.size] * 3])
        distance = DistanceLoss(target, config.dilation, config.interior_weight, config.max_outside)
        reached = fit.descend(distance, config.steps_distance, rates, fit.best)
        fit.descend(SoftIoULoss(target, config.max_outside), config.steps_iou, rates, reached)


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


def align(mesh: Mesh, mask: np.ndarray, pose: Pose, camera: Camera, config: AlignConfig | None = None) -> Alignment:
    """One-off :class:`Aligner`: fit scale and translation of ``pose`` to ``mask`` (H, W) bool. Raises as :meth:`Aligner.align` does."""
    return Aligner(mesh, config).align(mask, pose, camera)


def align_batch(
    items: Iterable[tuple[Mesh, np.ndarray, Pose, Camera]], config: AlignConfig | None = None
) -> list[Alignment | Sc3dError]:
    """Align (mesh, mask, pose, camera) items one after the other; an item that cannot be aligned yields its error, and the others go on."""

    def attempt(mesh: Mesh, mask: np.ndarray, pose: Pose, camera: Camera) -> Alignment | Sc3dError:
        try:
            return align(mesh, mask, pose, camera, config)
        except Sc3dError as error:
            return error

    return [attempt(*item) for item in items]

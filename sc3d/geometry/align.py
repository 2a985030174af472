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

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from sc3d.config import AlignConfig
from sc3d.errors import Sc3dError
from sc3d.geometry.camera import Camera, Pose
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.pose_search import Alignment, PoseSearch
from sc3d.geometry.silhouette import OutlineRenderer, Silhouette, SilhouetteRenderer
from sc3d.geometry.silhouette_loss import SilhouetteLoss
from sc3d.geometry.target import MaskTarget

RendererFactory = Callable[[Mesh, np.ndarray, Camera, int], SilhouetteRenderer]
Item = tuple[Mesh, np.ndarray, Pose, Camera]


@dataclass(frozen=True, eq=False)
class _RenderedView:
    """What a search asks of a rendered silhouette."""

    silhouette: Silhouette
    target: MaskTarget

    @property
    def iou(self) -> float:
        return self.target.iou(self.silhouette.coverage)

    @property
    def outside_share(self) -> float:
        return self.target.outside_share(self.silhouette.coverage)

    def areas(self, loss: SilhouetteLoss) -> tuple[np.ndarray, np.ndarray]:
        return self.silhouette.areas(loss.weights)


class Aligner:
    """Aligns one mesh to masks: ``Aligner(mesh, config).align(mask, pose, camera)``.

    Args:
        mesh: the reconstruction, in its canonical frame.
        config: steps, rates and thresholds.
        renderer: makes the silhouette renderer from (mesh, rotation, camera, margin in pixels); default :class:`OutlineRenderer`.
    """

    def __init__(self, mesh: Mesh, config: AlignConfig | None = None, renderer: RendererFactory = OutlineRenderer) -> None:
        self.mesh, self.config, self.renderer = mesh, config or AlignConfig(), renderer

    def align(self, mask: np.ndarray, pose: Pose, camera: Camera) -> Alignment:
        """Fit scale and translation of ``pose`` to ``mask`` (H, W) bool of the camera's size.

        Raises:
            InputError: the mask is empty, or is not a boolean image of the camera's size.
            GeometryError: part of the mesh is at or behind the camera at the start, or the mesh has no extent.
        """
        search = PoseSearch(self.mesh, mask, pose, camera, self.config)
        renderer = self.renderer(self.mesh, pose.R, search.target.camera, search.target.margin)
        steps = search.steps(lambda: renderer)
        parameters = next(steps)
        while True:
            view = _RenderedView(renderer.render(*parameters), search.target)
            try:
                parameters = steps.send(view)
            except StopIteration as end:
                return end.value


def align(mesh: Mesh, mask: np.ndarray, pose: Pose, camera: Camera, config: AlignConfig | None = None) -> Alignment:
    """One-off :class:`Aligner`: fit scale and translation of ``pose`` to ``mask`` (H, W) bool. Raises as :meth:`Aligner.align` does."""
    return Aligner(mesh, config).align(mask, pose, camera)


def align_batch(items: Iterable[Item], config: AlignConfig | None = None, device: str | None = None) -> list[Alignment | Sc3dError]:
    """Align (mesh, mask, pose, camera) items; an item that cannot be aligned yields its error, and the others go on.

    Args:
        items: one tuple an object, of any sizes.
        config: steps, rates and thresholds.
        device: ``None`` aligns one object after the other with :class:`Aligner`. A torch device (``"cuda"``, ``"cuda:1"``, ``"cpu"``)
            aligns many in step on it (:mod:`sc3d.geometry.align_torch`), to the same quality though not to the same bits.

    Raises:
        ConfigError: the device is not there, or is of a kind that cannot be used.
    """
    if device is not None:
        from sc3d.geometry.align_torch import align_in_step

        return align_in_step(items, config or AlignConfig(), device)

    def attempt(mesh: Mesh, mask: np.ndarray, pose: Pose, camera: Camera) -> Alignment | Sc3dError:
        try:
            return align(mesh, mask, pose, camera, config)
        except Sc3dError as error:
            return error

    return [attempt(*item) for item in items]

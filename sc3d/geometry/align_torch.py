"""Render and compare for many objects in step: their searches are the ones of :mod:`sc3d.geometry.pose_search`, and one batch on a torch
device renders what they ask for (:mod:`sc3d.geometry.silhouette_torch`).

An object that ends early leaves the batch. Those whose mask seems to show only a part of them are searched for occlusion on the CPU, one
after the other, when their turn comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sc3d.config import AlignConfig
from sc3d.errors import ConfigError, Sc3dError
from sc3d.geometry.camera import Camera, Pose, project
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.pose_search import Alignment, PoseSearch
from sc3d.geometry.silhouette import OutlineRenderer, Parameters, canvas_intrinsics, check_pose
from sc3d.geometry.silhouette_loss import SilhouetteLoss
from sc3d.geometry.silhouette_torch import BatchMeasures, PosedShape, SilhouetteBatch

# Objects at once. At the working resolution of 256 the sums of four weight maps take 8 MB an object.
BATCH = 64
# Pixels that all edges of a batch pass at most, unless it is a single object: a piece of an outline takes about 500 bytes, and of a
# hopeless mesh every edge is outline. A mesh of 8,000 vertices passes about 100,000 pixels.
_EDGE_PIXELS = 8e6
# Ended objects are dropped from the batch when they are this share of it: dropping copies what is left.
_ENDED = 0.25


@dataclass(frozen=True, eq=False)
class _MeasuredView:
    """What a search asks of row ``row`` of a batch's measures, whose maps are the two losses' own ones and the two that they share."""

    search: PoseSearch
    measures: BatchMeasures
    row: int

    @property
    def iou(self) -> float:
        _, intersection, inside, _ = self.measures.hard[self.row]
        return float(intersection / (inside + self.search.target.area - intersection))

    @property
    def outside_share(self) -> float:
        _, _, inside, total = self.measures.hard[self.row]
        return 1.0 - float(inside / total) if total else 1.0

    def areas(self, loss: SilhouetteLoss) -> tuple[np.ndarray, np.ndarray]:
        maps = [0 if loss is self.search.distance else 1, 2, 3]
        return self.measures.areas[self.row, maps], self.measures.slopes[self.row, maps]


class _Running:
    """One object's search while it runs: the pose that it ``asked`` to see, whether it ``has_ended``, and then its ``result``."""

    def __init__(self, search: PoseSearch) -> None:
        self.search = search
        self.has_ended = False
        self.result: Alignment | Sc3dError = Sc3dError("the search has not ended")
        self._steps = search.steps(self._renderer)
        self.asked = self._checked(next(self._steps))

    def _renderer(self) -> OutlineRenderer:
        target = self.search.target
        return OutlineRenderer(self.search.mesh, self.search.pose.R, target.camera, target.margin)

    def _checked(self, parameters: Parameters) -> Parameters:
        """The parameters, if they can be rendered: a batch does not look."""
        check_pose(*parameters, self.search.nearest)
        return parameters

    def show(self, view: _MeasuredView) -> None:
        """Go on with the search until the next pose that it wants to see."""
        try:
            self.asked = self._checked(self._steps.send(view))
        except StopIteration as end:
            self.result, self.has_ended = end.value, True
        except Sc3dError as error:
            self.result, self.has_ended = error, True

    def shape(self) -> PosedShape:
        search = self.search
        maps = np.stack([search.distance.weights[0], *search.soft_iou.weights])
        return PosedShape(search.mesh, search.rotated, canvas_intrinsics(search.target.camera, search.target.margin), maps)

    def edge_pixels(self) -> float:
        """About how many pixels the mesh's edges pass at the start."""
        search = self.search
        pixels, _ = project(search.mesh.vertices, search.pose, search.target.camera)
        lengths = np.abs(pixels[search.mesh.edges[:, 0]] - pixels[search.mesh.edges[:, 1]]).sum(axis=1)
        return float(np.minimum(lengths, 2 * sum(search.target.mask.shape)).sum()) + len(lengths)


def align_in_step(
    items: Iterable[tuple[Mesh, np.ndarray, Pose, Camera]], config: AlignConfig, device: str | torch.device
) -> list[Alignment | Sc3dError]:
    """Align (mesh, mask, pose, camera) items, :data:`BATCH` at a time; as :func:`sc3d.geometry.align.align_batch`.

    Raises:
        ConfigError: the device is not there, or is of a kind that cannot be used.
    """
    device = _checked_device(device)
    results: list[Alignment | Sc3dError] = []
    for batch in _batches(items, config):
        _run([one for one in batch if isinstance(one, _Running)], device)
        results += [one.result if isinstance(one, _Running) else one for one in batch]
    return results


def _batches(items: Iterable[tuple[Mesh, np.ndarray, Pose, Camera]], config: AlignConfig) -> Iterator[list[_Running | Sc3dError]]:
    """The items, prepared, in batches that fit into memory."""
    batch: list[_Running | Sc3dError] = []
    pixels = 0.0
    for item in items:
        started = _start(item, config)
        more = started.edge_pixels() if isinstance(started, _Running) else 0.0
        if len(batch) == BATCH or (batch and pixels + more > _EDGE_PIXELS):
            yield batch
            batch, pixels = [], 0.0
        batch.append(started)
        pixels += more
    if batch:
        yield batch


def _checked_device(device: str | torch.device) -> torch.device:
    try:
        device = torch.device(device)
        torch.zeros(1, dtype=torch.float64, device=device).item()
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"cannot align on the device '{device}' ({reason}); use 'cuda', 'cpu', or no device") from None
    return device


def _run(running: Sequence[_Running], device: torch.device) -> None:
    """Drive searches to their ends, in step."""
    if not running:
        return
    batch = SilhouetteBatch([one.shape() for one in running], device)
    while not all(ended := [one.has_ended for one in running]):
        if np.mean(ended) >= _ENDED:
            batch.keep(np.flatnonzero(~np.array(ended)).tolist())
            running = [one for one in running if not one.has_ended]
        _step(running, batch)


def _start(item: tuple[Mesh, np.ndarray, Pose, Camera], config: AlignConfig) -> _Running | Sc3dError:
    try:
        return _Running(PoseSearch(*item, config))
    except Sc3dError as error:
        return error


def _step(running: Sequence[_Running], batch: SilhouetteBatch) -> None:
    """Show every search the pose that it asked for. One that has ended is still drawn, at its last pose, until it is dropped."""
    poses = [one.asked for one in running]
    measures = batch.measure(np.array([pose[0] for pose in poses]), np.stack([pose[1] for pose in poses]))
    for row, one in enumerate(running):
        if not one.has_ended:
            one.show(_MeasuredView(one.search, measures, row))

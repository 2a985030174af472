"""Candidate matches of a pair and the relaxed cycle (3D-SC, stage 2; DIY-SC): one similarity matrix serves both directions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from sc3d.matching.described import CoarseLayer, Described
from sc3d.matching.fusion import Taps
from sc3d.matching.template_prior import share_pose, squared_distances


@dataclass(frozen=True)
class Candidates:
    """Each matching source cell and its nearest target cell, with a prior the one that is best with it. All arrays have N rows.

    ``source_rows``, ``target_rows`` (N,) int64 rows into the images' ``cells``; ``cosine`` (N,) float32 fused; ``cycle_error`` (N,) float32
    in source pixels.
    """

    source_rows: np.ndarray
    target_rows: np.ndarray
    cosine: np.ndarray
    cycle_error: np.ndarray

    @classmethod
    def none(cls) -> Candidates:
        """Those of an image without a matching cell."""
        rows, values = np.zeros(0, np.int64), np.zeros(0, np.float32)
        return cls(rows, rows, values, values)

    def __len__(self) -> int:
        return len(self.cosine)


def find_candidates(source: Described, target: Described) -> Candidates:
    """The nearest target cell of each matching source cell, and the cycle error; none if either image has no matching cell.

    With ``match.template_prior``, the two nearest neighbours of a pair that shares a template are those of :func:`penalty` too.

    Raises:
        FeatureError: the images were described by different recipes.
    """
    source.check_pair(target)
    n = len(source.cells)
    if n == 0 or len(target.cells) == 0:
        return Candidates.none()
    cosines = similarity(source, target)
    forward, backward = nearest(guided(cosines, source, target))
    rows = np.arange(n)
    error = cycle_error(source.cells, forward, backward, source.letterbox.side, source.letterbox.cell_pixels)
    return Candidates(rows, forward, cosines.numpy()[rows, forward], error)


def similarity(source: Described, target: Described) -> torch.Tensor:
    """Fused cosines (N, M) float32 of the matching cells of two images.

    Raises:
        FeatureError: the images were described by different recipes.
    """
    source.check_pair(target)
    return fused_product(source, target)


def guided(cosines: torch.Tensor, source: Described, target: Described) -> torch.Tensor:
    """Cosines (N, M) of the matching cells less the prior of the template that both images show; the cosines themselves without one."""
    less = penalty(source, target, cosines.device)
    return cosines if less is None else cosines - less


def penalty(source: Described, target: Described, device: torch.device | str = "cpu") -> torch.Tensor | None:
    """What the template's prior takes from the cosines (N, M) of the matching cells of two images: its weight times the squared distance,
    in the target's boxes, from where the target shows what the source's cell sees. ``None`` without a weight, or if the images share no
    template in poses that are sure."""
    posed = share_pose(source.template, target.template)
    if source.template_prior == 0 or posed is None:
        return None
    return squared_distances(source.cells, posed[0], target.cells, posed[1], device).mul_(source.template_prior)


class FusedLayers(Protocol):
    """The scaled layers of an image, on any device; see :class:`~sc3d.matching.described.Described`."""

    dense: torch.Tensor
    coarse: tuple[CoarseLayer, ...]


def fused_product(source: FusedLayers, target: FusedLayers) -> torch.Tensor:
    """:func:`similarity` of images that are known to fit together."""
    if not source.coarse:
        return source.dense @ target.dense.T
    nodes, weights, rows, first = [], [], [], 0
    for mine, theirs in zip(source.coarse, target.coarse, strict=True):
        rows.append(theirs.taps.apply(theirs.values @ mine.values.T))
        nodes.append(mine.taps.nodes + first)
        weights.append(mine.taps.weights)
        first += len(mine.values)
    stacked = Taps(torch.cat(nodes, dim=1), torch.cat(weights, dim=1))
    result = stacked.apply(torch.cat(rows, dim=1).T.contiguous())
    return result.addmm_(source.dense, target.dense.T)


def nearest(similarity: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Nearest neighbours in both directions of a similarity matrix (N, M), N and M at least 1.

    Returns:
        The best column (N,) of each row and the best row (M,) of each column, int64; the lowest index where several are equal.
    """
    if similarity.device.type == "cpu":
        values = similarity.numpy()
        return values.argmax(axis=1), values.argmax(axis=0)
    return similarity.argmax(dim=1).cpu().numpy(), similarity.argmax(dim=0).cpu().numpy()


def cycle_error(source_cells: np.ndarray, forward: np.ndarray, backward: np.ndarray, side: int, cell_pixels: float) -> np.ndarray:
    """|NN_t->s(NN_s->t(p)) - p| of every source cell, in pixels of the source image.

    Args:
        source_cells: (N,) flat cells of the rows of the similarity.
        forward, backward: as :func:`nearest` returns them.
        side: cells along one side of the grid.
        cell_pixels: side of a cell in source pixels.

    Returns:
        (N,) float32.
    """
    returned = source_cells[backward[forward]]
    rows = returned // side - source_cells // side
    columns = returned % side - source_cells % side
    return (np.hypot(rows, columns) * cell_pixels).astype(np.float32)


def cycle_tolerance(tau: float, extent: float, cell_pixels: float) -> float:
    """The widest cycle error that passes, in source pixels: ``tau`` object extents, and never less than one cell."""
    return max(tau * extent, cell_pixels)


def passes_cycle(errors: np.ndarray, tolerance: float) -> np.ndarray:
    """Whether each stored cycle error (N,) is within ``tolerance``, both in source pixels.

    Errors are whole-cell distances stored as float32, so one that equals the tolerance must not fail by its last bit.
    """
    return errors <= tolerance * (1 + 1e-6)


def within_cycle(source: Described, errors: np.ndarray, tau: float) -> np.ndarray:
    """Whether each cycle error (N,), in pixels of ``source``, is at most ``tau`` of its object extents, or one cell."""
    return passes_cycle(errors, cycle_tolerance(tau, source.extent, source.letterbox.cell_pixels))

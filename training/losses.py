"""The losses of adapter training: sparse and dense (3D-SC, section on training; GeoAware-SC and DIY-SC use the same pair), and one that
asks for the position instead of the cell (MARCO).

All read the cosines of the N sampled labels of a pair with all H x W cells of the other image: one product of N rows, where the whole
correlation of two images would be H x W of them.

Shape letters: N sampled labels of a pair, C descriptor channels, H x W cells of the target's grid. Grid coordinates are (x, y) in cells,
x first; the centre of the first cell is (0.5, 0.5).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from training.network import EPSILON

TEMPERATURE = 0.02
MAX_LOGIT_SCALE = math.log(100.0)

Duplicates = Literal["mask", "keep"]


def cell_similarity(source_map: Tensor, source_cells: Tensor, target_map: Tensor) -> Tensor:
    """Cosines (N, H * W) of some source cells with all target cells.

    The maps are normalised on the way: the rows that are needed, and the columns of the product. A normalised copy of a map would cost more
    than the product.

    Args:
        source_map, target_map: descriptors (C, H, W) of any length.
        source_cells: flat cells (N,).
    """
    queries = source_map.flatten(1)[:, source_cells].T
    keys = target_map.flatten(1)
    queries = queries / (queries.norm(dim=1, keepdim=True) + EPSILON)
    # The gradient of the length is undefined at zero, where the last ReLU left a cell without any descriptor.
    lengths = keys.square().sum(dim=0).clamp(min=EPSILON**2).sqrt()
    return (queries @ keys) / (lengths + EPSILON)


def sparse_loss(
    similarity: Tensor,
    logit_scale: Tensor,
    source_cells: Tensor,
    target_cells: Tensor,
    duplicates: Duplicates = "mask",
    weights: Tensor | None = None,
    soft: float = 0.0,
) -> Tensor:
    """Symmetric cross-entropy over the sampled labels of a pair, as in CLIP: each label's partner against all others'.

    Args:
        similarity: cosines (N, N) of each label's source with each label's target.
        logit_scale: logarithm of the inverse temperature, at most ln 100 as in CLIP.
        source_cells, target_cells: flat cells (N,) of the labels.
        duplicates: ``mask`` leaves out of the denominator all labels that share a source or a target cell with the positive: they are
            positives too. ``keep`` is upstream's behaviour, where such a label is a negative of itself.
        weights: of the labels (N,); none: all the same.
        soft: share of the target that goes to the other labels, by :func:`sinkhorn_plan` of the present cosines (Shape-of-You).

    Returns:
        Scalar, mean over the labels and both directions.
    """
    logits = _logits(similarity, logit_scale)
    if soft:
        target = (1 - soft) * torch.eye(len(logits), dtype=logits.dtype, device=logits.device) + soft * sinkhorn_plan(similarity)
        there, back = (
            -(wanted * torch.log_softmax(rows, dim=1)).sum(dim=1) for wanted, rows in ((target, logits), (target.T, logits.T))
        )
        return (_mean(there, weights) + _mean(back, weights)) / 2
    if duplicates == "mask":
        shared = (source_cells[:, None] == source_cells) | (target_cells[:, None] == target_cells)
        shared.fill_diagonal_(False)
        logits = logits.masked_fill(shared, -torch.inf)
    own = torch.arange(len(logits), device=logits.device)
    return (_cross_entropy(logits, own, weights) + _cross_entropy(logits.T, own, weights)) / 2


@torch.no_grad()
def sinkhorn_plan(similarity: Tensor, iterations: int = 100) -> Tensor:
    """The balanced transport plan (N, N) of cosines (N, N): rows and columns sum to one. In logarithms, without a gradient."""
    rows, columns = torch.zeros_like(similarity[:, :1]), torch.zeros_like(similarity[:1])
    for _ in range(iterations):
        rows = -torch.logsumexp(similarity + columns, dim=1, keepdim=True)
        columns = -torch.logsumexp(similarity + rows, dim=0, keepdim=True)
    return (similarity + rows + columns).exp()


def map_loss(
    similarity: Tensor, logit_scale: Tensor, source_cells: Tensor, target_cells: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Cross-entropy of each label's partner against every cell of the other image.

    With few labelled pairs, negatives from 3,600 cells, background included, teach more than those from 50 labels. Partners of labels
    that share their source cell are left out of each other's denominator: they are all right.

    Args:
        similarity: cosines (N, H * W) of one end of the labels with all cells of the other image.
        logit_scale: logarithm of the inverse temperature, at most ln 100 as in CLIP.
        source_cells, target_cells: flat cells (N,) of the labels.
        weights: of the labels (N,); none: all the same.
    """
    first, second = ((source_cells[:, None] == source_cells) & (target_cells[:, None] != target_cells)).nonzero(as_tuple=True)
    partners = torch.zeros_like(similarity, dtype=torch.bool)
    partners[first, target_cells[second]] = True
    return _cross_entropy(_logits(similarity, logit_scale).masked_fill(partners, -torch.inf), target_cells, weights)


def position_loss(
    similarity: Tensor, logit_scale: Tensor, width: int, target_xy: Tensor, sigma: float, weights: Tensor | None = None
) -> Tensor:
    """Cross-entropy of each label's similarities against a Gaussian around its partner, over every cell of the other image.

    Where :func:`map_loss` calls every cell but one wrong, also those beside it, which look alike and may be what the label meant, this one
    wants them in the order of their distance. As MARCO's coarse-to-fine loss, but that the Gaussian is a distribution over the whole grid.

    Args:
        similarity: cosines (N, H * W) of one end of the labels with all cells of the other image.
        logit_scale: logarithm of the inverse temperature, at most ln 100 as in CLIP.
        width: W.
        target_xy: (N, 2) grid coordinates of the labels' other ends, anywhere within a cell.
        sigma: standard deviation of the Gaussian in cells.
        weights: of the labels (N,); none: all the same.
    """
    wanted = gaussian_targets(similarity.shape[1] // width, width, target_xy, sigma)
    return _mean(-(wanted * torch.log_softmax(_logits(similarity, logit_scale), dim=1)).sum(dim=1), weights)


def gaussian_targets(height: int, width: int, xy: Tensor, sigma: float) -> Tensor:
    """Gaussians (N, H * W) around grid coordinates (N, 2), in cells, each of which sums to one over the grid."""
    columns, rows = (
        # A softmax along each axis: the Gaussian is their product, and a point outside the grid does not divide by zero.
        torch.softmax(-((torch.arange(n, device=xy.device) + 0.5 - xy[:, axis, None]) ** 2) / (2 * sigma**2), dim=1)
        for axis, n in enumerate((width, height))
    )
    return (rows[:, :, None] * columns[:, None, :]).flatten(1)


def annealed(start: float, end: float, progress: float, until: float = 2 / 3) -> float:
    """A value that falls from ``start`` to ``end`` as half a cosine, and stays there from the share ``until`` of the training on."""
    return end + (start - end) * (1 + math.cos(math.pi * min(progress / until, 1.0))) / 2


def _cross_entropy(logits: Tensor, truth: Tensor, weights: Tensor | None) -> Tensor:
    return _mean(functional.cross_entropy(logits, truth, reduction="none"), weights)


def _mean(values: Tensor, weights: Tensor | None) -> Tensor:
    return values.mean() if weights is None else (values * weights).sum() / weights.sum()


def _logits(similarity: Tensor, logit_scale: Tensor) -> Tensor:
    return logit_scale.clamp(max=MAX_LOGIT_SCALE).exp() * similarity


def predict_xy(similarity: Tensor, width: int, temperature: float = TEMPERATURE, window: int = 0) -> Tensor:
    """Soft-argmax of the similarity map of each source descriptor.

    Args:
        similarity: cosines (N, H * W) with all cells of the target.
        width: W.
        temperature: of the softmax over cells.
        window: half window in cells around the best cell, outside of which nothing counts; 0 takes the whole map.

    Returns:
        (N, 2) grid coordinates in cells.
    """
    cell = torch.arange(similarity.shape[1], device=similarity.device)
    centres = torch.stack([cell % width, cell // width], dim=1)
    if window > 0:
        best = centres[similarity.argmax(dim=1)]
        outside = (centres[None] - best[:, None]).abs().amax(dim=2) > window
        similarity = similarity.masked_fill(outside, -torch.inf)
    weights = torch.softmax(similarity / temperature, dim=1)
    return weights @ (centres.to(weights.dtype) + 0.5)


def dense_loss(
    similarity: Tensor,
    width: int,
    target_xy: Tensor,
    temperature: float = TEMPERATURE,
    window: int = 0,
    weights: Tensor | None = None,
) -> Tensor:
    """Mean end-point error in cells between the soft-argmax of each source descriptor and its label (noise is added by the caller).

    Args:
        similarity, width, temperature, window: see :func:`predict_xy`.
        target_xy: (N, 2) grid coordinates of the labels.
        weights: of the labels (N,); none: all the same.
    """
    error = predict_xy(similarity, width, temperature, window) - target_xy
    # The gradient of the length is undefined at zero; a hundredth of a cell does not matter.
    return _mean((error.square().sum(dim=1) + 1e-4).sqrt(), weights)

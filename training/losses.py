"""The two losses of adapter training (3D-SC, section on training; GeoAware-SC and DIY-SC use the same pair).

Both read the cosines of the N sampled labels of a pair with all H x W cells of the other image: one product of N rows, where the whole
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
) -> Tensor:
    """Symmetric cross-entropy over the sampled labels of a pair, as in CLIP: each label's partner against all others'.

    Args:
        similarity: cosines (N, N) of each label's source with each label's target.
        logit_scale: logarithm of the inverse temperature, at most ln 100 as in CLIP.
        source_cells, target_cells: flat cells (N,) of the labels.
        duplicates: ``mask`` leaves out of the denominator all labels that share a source or a target cell with the positive: they are
            positives too. ``keep`` is upstream's behaviour, where such a label is a negative of itself.
        weights: of the labels (N,); none: all the same.

    Returns:
        Scalar, mean over the labels and both directions.
    """
    logits = _logits(similarity, logit_scale)
    if duplicates == "mask":
        shared = (source_cells[:, None] == source_cells) | (target_cells[:, None] == target_cells)
        shared.fill_diagonal_(False)
        logits = logits.masked_fill(shared, -torch.inf)
    own = torch.arange(len(logits), device=logits.device)
    return (_cross_entropy(logits, own, weights) + _cross_entropy(logits.T, own, weights)) / 2


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

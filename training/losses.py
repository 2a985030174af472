"""The two losses of adapter training (3D-SC, section on training; GeoAware-SC and DIY-SC use the same pair).

Shape letters: N sampled labels of a pair, C descriptor channels, H x W cells of the target's grid. Descriptors have unit length.
Grid coordinates are (x, y) in cells, x first; the centre of the first cell is (0.5, 0.5).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

TEMPERATURE = 0.02
MAX_LOGIT_SCALE = math.log(100.0)

Duplicates = Literal["mask", "keep"]


def sparse_loss(
    source: Tensor,
    target: Tensor,
    logit_scale: Tensor,
    source_cells: Tensor,
    target_cells: Tensor,
    duplicates: Duplicates = "mask",
) -> Tensor:
    """Symmetric cross-entropy over the sampled labels of a pair, as in CLIP: each label's partner against all others'.

    Args:
        source, target: descriptors (N, C) at both ends of the labels.
        logit_scale: logarithm of the inverse temperature, at most ln 100 as in CLIP.
        source_cells, target_cells: flat cells (N,) of the labels.
        duplicates: ``mask`` leaves out of the denominator all labels that share a source or a target cell with the positive: they are
            positives too. ``keep`` is upstream's behaviour, where such a label is a negative of itself.

    Returns:
        Scalar, mean over the labels and both directions.
    """
    logits = logit_scale.clamp(max=MAX_LOGIT_SCALE).exp() * source @ target.T
    if duplicates == "mask":
        shared = (source_cells[:, None] == source_cells) | (target_cells[:, None] == target_cells)
        shared.fill_diagonal_(False)
        logits = logits.masked_fill(shared, -torch.inf)
    own = torch.arange(len(logits), device=logits.device)
    return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2


def map_loss(source: Tensor, target_map: Tensor, logit_scale: Tensor, source_cells: Tensor, target_cells: Tensor) -> Tensor:
    """Cross-entropy of each label's partner against every cell of the other image.

    With few labelled pairs, negatives from 3,600 cells, background included, teach more than those from 50 labels. Partners of labels
    that share their source cell are left out of each other's denominator: they are all right.

    Args:
        source: descriptors (N, C) at one end of the labels.
        target_map: descriptors (C, H, W) of the other image.
        logit_scale: logarithm of the inverse temperature, at most ln 100 as in CLIP.
        source_cells, target_cells: flat cells (N,) of the labels.
    """
    logits = logit_scale.clamp(max=MAX_LOGIT_SCALE).exp() * source @ target_map.flatten(1)
    first, second = ((source_cells[:, None] == source_cells) & (target_cells[:, None] != target_cells)).nonzero(as_tuple=True)
    partners = torch.zeros_like(logits, dtype=torch.bool)
    partners[first, target_cells[second]] = True
    return functional.cross_entropy(logits.masked_fill(partners, -torch.inf), target_cells)


def predict_xy(source: Tensor, target_map: Tensor, temperature: float = TEMPERATURE, window: int = 0) -> Tensor:
    """Soft-argmax of the similarity map of each source descriptor.

    Args:
        source: (N, C).
        target_map: (C, H, W).
        temperature: of the softmax over cells.
        window: half window in cells around the best cell, outside of which nothing counts; 0 takes the whole map, as upstream trains.

    Returns:
        (N, 2) grid coordinates in cells.
    """
    _, H, W = target_map.shape
    similarity = source @ target_map.flatten(1)
    cell = torch.arange(H * W, device=source.device)
    centres = torch.stack([cell % W, cell // W], dim=1)
    if window > 0:
        best = centres[similarity.argmax(dim=1)]
        outside = (centres[None] - best[:, None]).abs().amax(dim=2) > window
        similarity = similarity.masked_fill(outside, -torch.inf)
    weights = torch.softmax(similarity / temperature, dim=1)
    return weights @ (centres.to(weights.dtype) + 0.5)


def dense_loss(
    source: Tensor,
    target_map: Tensor,
    target_xy: Tensor,
    temperature: float = TEMPERATURE,
    window: int = 0,
) -> Tensor:
    """Mean end-point error in cells between the soft-argmax of each source descriptor and its label (noise is added by the caller).

    Args:
        source: descriptors (N, C) of the labelled source points.
        target_map: descriptors (C, H, W) of the whole target.
        target_xy: (N, 2) grid coordinates of the labels.
        temperature, window: see :func:`predict_xy`.
    """
    error = predict_xy(source, target_map, temperature, window) - target_xy
    # The gradient of the length is undefined at zero; a hundredth of a cell does not matter.
    return (error.square().sum(dim=1) + 1e-4).sqrt().mean()

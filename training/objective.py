"""What a step minimises: descriptor maps of the step's images, and the sparse and dense loss of each of its pairs on them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from sc3d.config import TrainConfig
from sc3d.errors import FeatureError
from training.adapter import Adapter
from training.data import PairSample
from training.losses import cell_similarity, dense_loss, map_loss, sparse_loss


def embed(adapter: Adapter, images: Mapping[str, list[Tensor]], side: int, config: TrainConfig) -> dict[str, Tensor]:
    """Descriptor maps (C, side, side) float32, not normalised, of some images.

    Args:
        adapter: on the device where the images' tensors go.
        images: id -> a (1, D_s, h_s, w_s) tensor a source; the grids of all images agree.
        side: of the working grid.
        config: its ``precision``.
    """
    device = adapter.mixing_weights.device
    half = config.precision == "bfloat16" or (config.precision == "auto" and device.type == "cuda")
    with torch.autocast(device.type, torch.bfloat16, enabled=half):
        if device.type == "cpu":
            # One at a time: arrays of several images are beyond what the allocator keeps, and asking the system for memory takes longer
            # than filling it.
            return {name: adapter(parts, (side, side))[0].float() for name, parts in images.items()}
        batch = adapter([torch.cat(parts) for parts in zip(*images.values(), strict=True)], (side, side))
    return dict(zip(images, batch.float(), strict=True))


def check_grids(inputs: Mapping[str, list[Tensor]]) -> None:
    """Raise :class:`FeatureError`, naming both, if two images have sources on other grids."""
    grids = {image_id: [tuple(x.shape[2:]) for x in parts] for image_id, parts in inputs.items()}
    first = next(iter(grids))
    for image_id, found in grids.items():
        if found != grids[first]:
            raise FeatureError(
                f"{image_id} has sources on grids of {found} cells, {first} on {grids[first]}; describe all images with one recipe"
            )


def pair_losses(
    sample: PairSample,
    maps: Mapping[str, Tensor],
    logit_scale: Tensor,
    config: TrainConfig,
    noise: np.random.Generator | None = None,
) -> Tensor:
    """Sparse and dense loss (2,) of one pair.

    Args:
        sample: the labels.
        maps: image id -> descriptors (C, H, W) of any length.
        logit_scale: see :func:`training.losses.sparse_loss`.
        config: the losses' settings.
        noise: where the noise on the dense targets comes from; none: there is none.
    """
    source_map, target_map = maps[sample.source_id], maps[sample.target_id]
    device, dtype, width = source_map.device, source_map.dtype, source_map.shape[-1]
    source_cells = torch.from_numpy(sample.source_cells).to(device)
    target_cells = torch.from_numpy(sample.target_cells).to(device)
    weights = torch.from_numpy(sample.confidence).to(device, dtype) if config.confidence == "geodesic" else None
    jitter = noise.normal(size=(2, *sample.target_xy.shape)) if noise is not None else np.zeros((2, 1, 2))

    def towards(similarity: Tensor, xy: np.ndarray, offset: np.ndarray) -> Tensor:
        spread = config.noise * (float(xy.max()) if config.noise_unit == "reach" else 1.0)
        return dense_loss(
            similarity, width, torch.from_numpy(xy + spread * offset).to(device, dtype), window=config.window, weights=weights
        )

    forward = cell_similarity(source_map, source_cells, target_map)
    dense = towards(forward, sample.target_xy, jitter[0])
    if not config.both_ways and config.negatives == "labels":
        return torch.stack([_sparse(forward, logit_scale, source_cells, target_cells, config, weights), dense])
    backward = cell_similarity(target_map, target_cells, source_map)
    if config.both_ways:
        dense = (dense + towards(backward, sample.source_xy, jitter[1])) / 2
    if config.negatives == "labels":
        sparse = _sparse(forward, logit_scale, source_cells, target_cells, config, weights)
    else:
        there = map_loss(forward, logit_scale, source_cells, target_cells, weights)
        sparse = (there + map_loss(backward, logit_scale, target_cells, source_cells, weights)) / 2
    return torch.stack([sparse, dense])


def _sparse(
    forward: Tensor, logit_scale: Tensor, source_cells: Tensor, target_cells: Tensor, config: TrainConfig, weights: Tensor | None
) -> Tensor:
    return sparse_loss(forward[:, target_cells], logit_scale, source_cells, target_cells, config.duplicates, weights)

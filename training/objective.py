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
from training.losses import annealed, cell_similarity, dense_loss, map_loss, position_loss, sparse_loss


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
    progress: float = 1.0,
) -> Tensor:
    """Sparse and dense loss (2,) of one pair, each as it counts in their sum.

    Args:
        sample: the labels.
        maps: image id -> descriptors (C, H, W) of any length.
        logit_scale: see :func:`training.losses.sparse_loss`.
        config: the losses' settings.
        noise: where the noise on the dense targets comes from; none: there is none.
        progress: share of the training that is done, which the width of ``negatives=position`` follows.
    """
    forward = _End(sample, maps, config, noise)
    backward = _End(sample.reversed(), maps, config, noise) if config.both_ways or config.negatives != "labels" else None
    sparse = _sparse(forward, backward, logit_scale, config, progress)
    if not config.dense_weight:
        return torch.stack([sparse, sparse.new_zeros(())])
    dense = forward.dense()
    if config.both_ways and backward is not None:
        dense = (dense + backward.dense()) / 2
    return torch.stack([sparse, config.dense_weight * dense])


class _End:
    """The labels of a pair as they are asked for from one of its images: their similarities with all cells of the other one."""

    def __init__(
        self, sample: PairSample, maps: Mapping[str, Tensor], config: TrainConfig, noise: np.random.Generator | None
    ) -> None:
        source, target = maps[sample.source_id], maps[sample.target_id]
        device, dtype = source.device, source.dtype
        self._config, self._xy = config, sample.target_xy
        # Drawn here, so that the two ends of a pair differ.
        self._jitter = noise.normal(size=sample.target_xy.shape) if noise is not None else np.zeros((1, 2))
        self.width = source.shape[-1]
        self.source_cells, self.target_cells = (
            torch.from_numpy(cells).to(device) for cells in (sample.source_cells, sample.target_cells)
        )
        self.weights = torch.from_numpy(sample.confidence).to(device, dtype) if config.confidence != "none" else None
        self.target_xy = torch.from_numpy(sample.target_xy).to(device, dtype)
        self.similarity = cell_similarity(source, self.source_cells, target)

    def dense(self) -> Tensor:
        """The dense loss, with noise on what is to be predicted."""
        spread = self._config.noise * (float(self._xy.max()) if self._config.noise_unit == "reach" else 1.0)
        wanted = torch.from_numpy(self._xy + spread * self._jitter).to(self.target_xy)
        return dense_loss(self.similarity, self.width, wanted, window=self._config.window, weights=self.weights)


def _sparse(forward: _End, backward: _End | None, logit_scale: Tensor, config: TrainConfig, progress: float) -> Tensor:
    if backward is None or config.negatives == "labels":
        own = forward.similarity[:, forward.target_cells]
        cells = forward.source_cells, forward.target_cells
        return sparse_loss(own, logit_scale, *cells, config.duplicates, forward.weights, config.soft_targets)
    if config.negatives == "map":
        ways = [
            map_loss(end.similarity, logit_scale, end.source_cells, end.target_cells, end.weights) for end in (forward, backward)
        ]
    else:
        sigma = annealed(config.sigma_start, config.sigma_end, progress)
        ways = [
            position_loss(end.similarity, logit_scale, end.width, end.target_xy, sigma, end.weights) for end in (forward, backward)
        ]
    return (ways[0] + ways[1]) / 2

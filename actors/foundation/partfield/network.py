"""PartField's network: a point cloud of a surface in, a field of part features over space out.

Written from a description of its architecture and checked against its outputs. Arrays: B objects, N points of a surface, Q places where
features are asked for, C channels of the planes, D feature channels. Positions are in the frame of the object, in [-1, 1].
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from actors.foundation.partfield.points import PLANES, PointEncoder
from actors.foundation.partfield.transformer import TriplaneTransformer
from actors.foundation.partfield.unet import PlaneUNet

_CHUNK = 10_000
"""Places whose features are computed at once."""


@dataclass(frozen=True)
class PartFieldSize:
    """Widths of the network; the defaults are those of the published weights (102 M parameters that are used)."""

    channels: int = 256
    voxels: int = 32
    side: int = 128
    unet: tuple[int, int, int] = (32, 64, 128)
    width: int = 1024
    heads: int = 8
    depth: int = 6
    hidden: int = 512
    sdf: int = 64
    features: int = 448


FULL = PartFieldSize()
TINY = PartFieldSize(channels=16, voxels=8, side=32, unet=(4, 8, 16), width=32, heads=4, depth=2, hidden=32, sdf=4, features=32)


class PartFieldNetwork(nn.Module):
    """Surface points (B, N, 3) and, for each object, places (Q_i, 3) -> part features (Q_i, D) float32 at those places."""

    def __init__(self, size: PartFieldSize = FULL) -> None:
        super().__init__()
        self.size = size
        points, unet = PointEncoder(size.channels, size.voxels, size.side), PlaneUNet(size.channels, size.unet)
        self.pvcnn = nn.ModuleDict({"pc_encoder": nn.ModuleDict({"encoder": nn.ModuleList([points])}), "unet_encoder": unet})
        self.triplane_transformer = TriplaneTransformer(
            size.channels, size.side, size.width, size.heads, size.depth, size.hidden, size.features, skipped=size.sdf
        )

    def forward(self, points: torch.Tensor, places: Sequence[torch.Tensor], planes_at_once: int = 1) -> list[torch.Tensor]:
        planes = self.feature_planes(points, planes_at_once)
        return [sample_planes(p, q) for p, q in zip(planes, places, strict=True)]

    def feature_planes(self, points: torch.Tensor, planes_at_once: int = 1) -> torch.Tensor:
        """Feature planes (B, 3, side, side, D) float32 of surface points (B, N, 3); see :func:`sample_planes`.

        ``planes_at_once``: how many of the 3 B planes go through the widest layers together; about 100 MB each in float32.
        """
        planes = self.get_submodule("pvcnn.pc_encoder.encoder.0")(points)
        # PyTorch's group norm loses three digits on a CPU when the channels come last.
        rolled = planes.flatten(1, 2).permute(0, 3, 1, 2).contiguous()
        planes = self.get_submodule("pvcnn.unet_encoder")(rolled).permute(0, 2, 3, 1).reshape(planes.shape)
        return self.triplane_transformer(planes, planes_at_once)


def sample_planes(planes: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Sum (Q, D) over the planes (3, side, side, D) of the bilinear samples at ``places`` (Q, 3).

    -1 and 1 are the centres of the outermost cells; the border goes on outside.
    """
    side = planes.shape[1]
    rows = planes.reshape(-1, planes.shape[-1])
    return torch.cat([_sample(rows, part, side) for part in places.split(_CHUNK)])


def _sample(rows: torch.Tensor, places: torch.Tensor, side: int) -> torch.Tensor:
    place = ((places + 1) / 2 * (side - 1)).clamp(0, side - 1)
    low = place.floor().clamp(max=side - 2)
    upper_weight = place - low
    first = low.long()
    cells, weights = [], []
    for plane, (column, row) in enumerate(PLANES):
        corner = plane * side * side + first[:, row] * side + first[:, column]
        right, down = upper_weight[:, column], upper_weight[:, row]
        cells += [corner, corner + 1, corner + side, corner + side + 1]
        weights += [(1 - right) * (1 - down), right * (1 - down), (1 - right) * down, right * down]
    return functional.embedding_bag(torch.stack(cells, 1), rows, per_sample_weights=torch.stack(weights, 1), mode="sum")


def random_network(size: PartFieldSize = FULL) -> PartFieldNetwork:
    """A network for trials with random weights, always the same: each tensor is drawn from its name, whatever the version of PyTorch.

    Matrices and kernels are Gaussian with a variance of 1 / (numbers per output), norms are near 1 and biases near 0.
    """
    with torch.device("meta"):
        network = PartFieldNetwork(size)
    state = {name: torch.from_numpy(_random(name, tuple(value.shape))) for name, value in network.state_dict().items()}
    network.load_state_dict(state, assign=True)
    return frozen(network)


def _random(name: str, shape: tuple[int, ...]) -> np.ndarray:
    values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
    if len(shape) > 1:
        values /= np.float32(np.sqrt(np.prod(shape[1:])))
        return values
    return 1 + np.float32(0.1) * values if name.endswith("weight") else np.float32(0.05) * values


def frozen(network: PartFieldNetwork) -> PartFieldNetwork:
    """The network for inference: evaluation mode, no gradients."""
    return network.eval().requires_grad_(False)

"""The aggregation network of GeoAware-SC and DIY-SC, written anew. It needs PyTorch alone: `sc3d export adapter` ships this file's text.

One bottleneck residual block a feature source, and a softmax-weighted sum of their outputs. The state dict has the keys and shapes of the
published checkpoints.

Shape letters: B images, D_s channels of source s on its h_s x w_s grid, D their sum, C output channels, H x W cells of the working grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

NORM_GROUPS = 32
EPSILON = 1e-10


def resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    """A map (B, D, h, w) on a grid of ``size`` (bilinear, align_corners=False); the same tensor if it has that size."""
    return x if x.shape[-2:] == size else functional.interpolate(x, size=size, mode="bilinear", align_corners=False)


def unit_length(maps: Tensor) -> Tensor:
    """Descriptors (B, C, ...) divided by their length along C, plus 1e-10 as upstream."""
    return maps / (maps.norm(dim=1, keepdim=True) + EPSILON)


def norm_groups(channels: int) -> int:
    """Groups of the group norm over ``channels``: 32 as upstream, or the largest smaller number that divides them."""
    return next(g for g in range(min(NORM_GROUPS, channels), 0, -1) if channels % g == 0)


class NormedConv(nn.Conv2d):
    """A convolution without bias, followed by group norm over the whole map (so borders and background take part).

    A 1x1 convolution without bias commutes with bilinear resizing, whose weights sum to one. So a source of a coarser grid is convolved
    there and resized after, which gives the same numbers for a fraction of the work.
    """

    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__(inputs, outputs, size, padding=size // 2, bias=False)
        self.norm = nn.GroupNorm(norm_groups(outputs), outputs, eps=1e-5)

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        y = super().forward(x)
        result: Tensor = self.norm(y if size is None else resized(y, size))
        return result


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions with a residual connection and a final ReLU: (B, inputs, h, w) -> (B, outputs, H, W), >= 0."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        width = max(outputs // 4, 1)
        self.shortcut = NormedConv(inputs, outputs, 1) if inputs != outputs else None
        self.conv1 = NormedConv(inputs, width, 1)
        self.conv2 = NormedConv(width, width, 3)
        self.conv3 = NormedConv(width, outputs, 1)

    def silence_residual(self) -> None:
        """Make the block its shortcut alone, until training says otherwise (zero scale of the last norm, as in ResNet training)."""
        nn.init.zeros_(self.conv3.norm.weight)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        y = self.conv3(functional.relu(self.conv2(functional.relu(self.conv1(x, size)))))
        return functional.relu(y + (resized(x, size) if self.shortcut is None else self.shortcut(x, size)))


class AggregationNetwork(nn.Module):
    """One bottleneck a source and a softmax-weighted sum: 628,995 parameters for [768] -> 768, 5,150,214 for four sources.

    Args:
        feature_dims: channels of each source, in input order.
        channels: channels C of the descriptor.

    Attributes:
        logit_scale: logarithm of the inverse temperature of the sparse loss, initially ln(1/0.07). ``self_logit_scale`` is upstream's
            second one; no loss here reads it, and it is kept, frozen, so that checkpoints load strictly.
        input_error: raised for sources that do not fit.
    """

    input_error: ClassVar[type[Exception]] = ValueError

    def __init__(self, feature_dims: Sequence[int], channels: int) -> None:
        super().__init__()
        if not feature_dims or min(*feature_dims, channels) < 1:
            raise self.input_error(f"an adapter needs sources and positive sizes, got {list(feature_dims)} -> {channels}")
        self.feature_dims = [int(d) for d in feature_dims]
        self.channels = int(channels)
        self.bottleneck_layers = nn.ModuleList(nn.ModuleList([Bottleneck(d, channels)]) for d in self.feature_dims)
        self.mixing_weights = nn.Parameter(torch.ones(len(self.feature_dims)))
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.self_logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)), requires_grad=False)

    def forward(self, x: Tensor | Sequence[Tensor], size: tuple[int, int] | None = None) -> Tensor:
        """Raw features -> descriptors (B, C, H, W), non-negative, not normalised.

        Args:
            x: all sources at the working grid, (B, D, H, W) as upstream; or one (B, D_s, h_s, w_s) a source at its own grid.
            size: the working grid (H, W); by default the grid of the finest source.
        """
        parts = self._split(x) if isinstance(x, Tensor) else list(x)
        if [p.shape[1] for p in parts] != self.feature_dims:
            raise self.input_error(f"the adapter is for sources of {self.feature_dims} channels, got {[p.shape[1] for p in parts]}")
        height, width = size or max((p.shape[-2], p.shape[-1]) for p in parts)
        outputs = [
            cast("nn.ModuleList", layers)[0](part, (height, width))
            for layers, part in zip(self.bottleneck_layers, parts, strict=True)
        ]
        if len(outputs) == 1:
            # Its weight is 1 and the gradient of that 0, whatever the parameter: not worth three passes over a map.
            return cast("Tensor", outputs[0])
        weights = torch.softmax(self.mixing_weights, dim=0)
        return sum((w * y for w, y in zip(weights[1:], outputs[1:], strict=True)), weights[0] * outputs[0])

    @torch.no_grad()
    def describe_maps(self, sources: Tensor | Sequence[Tensor], size: tuple[int, int] | None = None) -> Tensor:
        """Descriptors (B, C, H, W) of unit length at each cell; arguments as of :meth:`forward`, moved to the network's device."""
        device = self.mixing_weights.device
        moved = sources.to(device) if isinstance(sources, Tensor) else [part.to(device) for part in sources]
        return unit_length(self(moved, size))

    def start_from_features(self) -> None:
        """Make every block its shortcut alone, so that training starts from (projected) features."""
        for layers in self.bottleneck_layers:
            for block in cast("nn.ModuleList", layers):
                cast("Bottleneck", block).silence_residual()

    def _split(self, x: Tensor) -> list[Tensor]:
        if x.shape[1] != sum(self.feature_dims):
            raise self.input_error(f"the adapter takes {self.feature_dims} = {sum(self.feature_dims)} channels, got {x.shape[1]}")
        return list(x.split(self.feature_dims, dim=1))

"""The aggregation network of GeoAware-SC and DIY-SC, written anew. It needs PyTorch alone: `sc3d export adapter` ships this file's text.

One bottleneck residual block a feature source, and a softmax-weighted sum of their outputs. The state dict has the keys and shapes of the
published checkpoints.

Shape letters: B images, D_s channels of source s on its h_s x w_s grid, D their sum, C output channels, H x W cells of the working grid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

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


class KeptFeatures(nn.Module):
    """The features as they are, in front of what is learned: cosines of descriptors are then the weighted mean of both cosines.

    Sources of one group (the layers of Stable Diffusion) are scaled together to unit length at each cell, as features are fused.

    Args:
        groups: of each source, numbered from 0.
        weights: of each group's cosine in that of the features; their sum does not matter.
        share: of the features' cosine in that of the descriptors, between 0 and 1.
    """

    groups: Tensor
    weights: Tensor
    share: Tensor

    def __init__(self, groups: Sequence[int], weights: Sequence[float], share: float) -> None:
        super().__init__()
        self._groups = [int(g) for g in groups]
        self.register_buffer("groups", torch.tensor(self._groups))
        self.register_buffer("weights", torch.tensor(list(weights), dtype=torch.float32))
        self.register_buffer("share", torch.tensor(float(share)))

    def forward(self, parts: Sequence[Tensor], learned: Tensor) -> Tensor:
        """Sources (B, D_s, H, W) at the working grid and learned descriptors (B, C, H, W) -> (B, D + C, H, W) of unit length."""
        scales = (self.weights / self.weights.sum() * self.share).sqrt()
        fused = []
        for group in range(len(self.weights)):
            mine = torch.cat([part for part, number in zip(parts, self._groups, strict=True) if number == group], dim=1)
            fused.append(scales[group] * unit_length(mine))
        # The gradient of the length is undefined at zero, where the last ReLU left a cell without any descriptor.
        lengths = learned.float().square().sum(dim=1, keepdim=True).clamp(min=EPSILON**2).sqrt()
        return torch.cat([*fused, (1 - self.share).sqrt() * learned / lengths], dim=1)


class AggregationNetwork(nn.Module):
    """One bottleneck a source and a softmax-weighted sum: 628,995 parameters for [768] -> 768, 5,150,214 for four sources.

    Args:
        feature_dims: channels of each source, in input order.
        channels: channels C that are learned.
        kept: puts the features in front of these, so that descriptors have D + C channels. What is learned is then computed on the grid of
            the finest source and resized. None: as published.

    Attributes:
        logit_scale: logarithm of the inverse temperature of the sparse loss, initially ln(1/0.07). ``self_logit_scale`` is upstream's
            second one; no loss here reads it, and it is kept, frozen, so that checkpoints load strictly.
        input_error: raised for sources that do not fit.
    """

    input_error: ClassVar[type[Exception]] = ValueError

    def __init__(self, feature_dims: Sequence[int], channels: int, kept: KeptFeatures | None = None) -> None:
        super().__init__()
        if not feature_dims or min(*feature_dims, channels) < 1:
            raise self.input_error(f"an adapter needs sources and positive sizes, got {list(feature_dims)} -> {channels}")
        self.feature_dims = [int(d) for d in feature_dims]
        self.channels = int(channels)
        self.bottleneck_layers = nn.ModuleList(nn.ModuleList([Bottleneck(d, channels)]) for d in self.feature_dims)
        self.mixing_weights = nn.Parameter(torch.ones(len(self.feature_dims)))
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.self_logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)), requires_grad=False)
        self.kept = kept

    @property
    def descriptor_channels(self) -> int:
        """Channels of a descriptor: the learned ones, and the kept features'."""
        return self.channels + (sum(self.feature_dims) if self.kept is not None else 0)

    def forward(self, x: Tensor | Sequence[Tensor], size: tuple[int, int] | None = None) -> Tensor:
        """Raw features -> descriptors (B, C, H, W), non-negative, not normalised; with ``kept`` (B, D + C, H, W), of unit length.

        Args:
            x: all sources at the working grid, (B, D, H, W) as upstream; or one (B, D_s, h_s, w_s) a source at its own grid.
            size: the working grid (H, W); by default the grid of the finest source.
        """
        parts = self._split(x) if isinstance(x, Tensor) else list(x)
        if [p.shape[1] for p in parts] != self.feature_dims:
            raise self.input_error(f"the adapter is for sources of {self.feature_dims} channels, got {[p.shape[1] for p in parts]}")
        height, width = size or max((p.shape[-2], p.shape[-1]) for p in parts)
        if self.kept is None:
            return self._learned(parts, height, width)
        # On the grid of the finest source: a fourth of the work for features of half the working grid, and no worse for their position.
        learned = self._learned(parts, *max((p.shape[-2], p.shape[-1]) for p in parts))
        return self.kept([resized(p, (height, width)) for p in parts], resized(learned, (height, width)))

    def _learned(self, parts: Sequence[Tensor], height: int, width: int) -> Tensor:
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


def made_like(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The arguments of the :class:`AggregationNetwork` that a state dict is of. Raises KeyError, IndexError or TypeError if of none."""
    dims = [state[f"bottleneck_layers.{i}.0.conv1.weight"].shape[1] for i in range(len(state["mixing_weights"]))]
    kept = None
    if "kept.share" in state:
        kept = KeptFeatures(state["kept.groups"].tolist(), state["kept.weights"].tolist(), float(state["kept.share"]))
    return {"feature_dims": dims, "channels": state["bottleneck_layers.0.0.conv3.weight"].shape[0], "kept": kept}

"""The transformer over the cells of the three planes of PartField."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

_EPS = 1e-6
_STRIDE = 4
"""Cells of a plane, a side, that share a token: two poolings by 2, and one transposed convolution back."""


class _Attention(nn.Module):
    """Self-attention without biases."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width).normal_(0, width**-0.5))
        self.out_proj = nn.Linear(width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, width) -> the same shape."""
        projected = functional.linear(x, self.in_proj_weight).unflatten(2, (3, self.heads, -1))
        query, key, value = projected.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=_EPS)
        self.self_attn = _Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=_EPS)
        self.mlp = nn.ModuleDict({"0": nn.Linear(width, 4 * width), "3": nn.Linear(4 * width, width)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.self_attn(self.norm1(x))
        return x + self.mlp["3"](functional.gelu(self.mlp["0"](self.norm2(x))))


class _Layers(nn.Module):
    def __init__(self, width: int, heads: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Layer(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=_EPS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


class TriplaneTransformer(nn.Module):
    """Planes (B, 3, side, side, C) -> feature planes (B, 3, side, side, D): tokens of 4 x 4 cells attend to one another across planes.

    Args:
        channels: C.
        side: cells a side of a plane, divisible by 4.
        width, heads, depth: of the transformer.
        hidden: width of the layer between C and D that goes past the transformer, cell by cell.
        features: D.
        skipped: output channels of the weights before those, which are not computed.
    """

    def __init__(
        self, channels: int, side: int, width: int, heads: int, depth: int, hidden: int, features: int, skipped: int
    ) -> None:
        super().__init__()
        self.features, self.skipped = features, skipped
        self.downsampler = nn.ModuleDict(
            {"0": nn.Conv2d(channels, width, 3, padding=1), "3": nn.Conv2d(width, width, 3, padding=1)}
        )
        self.pos_embed = nn.Parameter(torch.empty(1, 3 * (side // _STRIDE) ** 2, width).normal_(0, 0.02))
        self.transformer = _Layers(width, heads, depth)
        self.upsampler = nn.ConvTranspose2d(width, skipped + features, _STRIDE, stride=_STRIDE)
        self.mlp = nn.ModuleDict({"0": nn.Linear(channels, hidden), "2": nn.Linear(hidden, skipped + features)})

    def forward(self, planes: torch.Tensor, planes_at_once: int) -> torch.Tensor:
        """``planes_at_once`` bounds the memory: (width + features) * side^2 numbers each."""
        batch = len(planes)
        images = planes.flatten(0, 1)
        tokens = torch.cat([self._tokens(part) for part in images.split(planes_at_once)])
        grid = tokens.shape[1:3]
        tokens = self.transformer(tokens.view(batch, -1, tokens.shape[-1]) + self.pos_embed)
        tokens = tokens.view(len(images), *grid, -1)
        features = torch.empty(*images.shape[:3], self.features, device=planes.device)
        for start in range(0, len(images), planes_at_once):
            part = slice(start, start + planes_at_once)
            features[part] = self._past_transformer(images[part])
            features[part] += self._upsampled(tokens[part])
        return features.view(batch, 3, *features.shape[1:])

    def _tokens(self, images: torch.Tensor) -> torch.Tensor:
        """(n, side, side, C) -> (n, side / 4, side / 4, width)."""
        x = images.permute(0, 3, 1, 2)
        # ReLU and the maximum commute; after pooling there is a quarter to do.
        x = functional.relu_(functional.max_pool2d(self.downsampler["0"](x), 2))
        x = functional.relu_(functional.max_pool2d(self.downsampler["3"](x), 2))
        return x.permute(0, 2, 3, 1)

    def _past_transformer(self, images: torch.Tensor) -> torch.Tensor:
        """(n, side, side, C) -> (n, side, side, D)."""
        weight, bias = self._of_features("mlp.2")
        return functional.linear(functional.relu_(self.mlp["0"](images)), weight, bias)

    def _upsampled(self, tokens: torch.Tensor) -> torch.Tensor:
        """(n, side / 4, side / 4, width) -> (n, side, side, D)."""
        weight, bias = self._of_features("upsampler", axis=1)
        return functional.conv_transpose2d(tokens.permute(0, 3, 1, 2), weight, bias, stride=_STRIDE).permute(0, 2, 3, 1)

    def _of_features(self, layer: str, axis: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight and bias of a last layer, without the output channels that are skipped; they lie along ``axis`` of the weight."""
        weight, bias = self.get_parameter(f"{layer}.weight"), self.get_parameter(f"{layer}.bias")
        return weight.narrow(axis, self.skipped, self.features), bias[self.skipped :]

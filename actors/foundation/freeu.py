"""FreeU (Si et al., CVPR 2024) as GeoAware-SC applies it to the UNet whose features it reads.

Before each decoder block the first half of the backbone's channels is amplified and the lowest frequencies of the skip connection are
weakened. Which factors apply goes by the number of the backbone's channels (1280 or 640 in Stable Diffusion 1.5; nothing happens at
320), and not, as in ``enable_freeu`` of diffusers, by the decoder block. Since it is done in place upstream, the features read off
between the blocks come out amplified too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class FreeU:
    """Factors at the widest (1) and the second widest (2) layers: ``b`` of the backbone's first half, ``s`` of the skip's low part."""

    b1: float = 1.2
    b2: float = 1.4
    s1: float = 0.9
    s2: float = 0.2

    def factors(self, unet: nn.Module) -> dict[int, tuple[float, float]]:
        """Channels of the backbone -> (b, s), for a ``UNet2DConditionModel``."""
        config: Any = unet.config
        widths = sorted(set(config.block_out_channels), reverse=True)
        return dict(zip(widths, ((self.b1, self.s1), (self.b2, self.s2)), strict=False))

    def install(self, unet: nn.Module) -> None:
        """Hook it into every block of the decoder."""
        factors = self.factors(unet)
        parts: Any = unet
        channels = int(parts.config.block_out_channels[-1])
        for block in parts.up_blocks:
            for resnet in block.resnets:
                if channels in factors:
                    resnet.register_forward_pre_hook(_hook(channels, *factors[channels]))
                channels = int(resnet.out_channels)

    def amplify(self, features: torch.Tensor, unet: nn.Module) -> torch.Tensor:
        """Features (B, C, h, w) between two decoder blocks as the later one gets to see them."""
        factor = self.factors(unet).get(features.shape[1])
        return features if factor is None else amplify(features, factor[0])


def amplify(features: torch.Tensor, factor: float) -> torch.Tensor:
    """Multiply the first half of the channels of (B, C, h, w)."""
    half = features.shape[1] // 2
    return torch.cat([features[:, :half] * factor, features[:, half:]], dim=1)


def scale_low_frequencies(features: torch.Tensor, factor: float) -> torch.Tensor:
    """Multiply the frequencies 0 and -1 of both axes of (B, C, h, w) by ``factor`` and keep the real part.

    These four are the square of two by two around the centre of the shifted spectrum that FreeU's Fourier filter scales at threshold 1.
    As a projection on seven functions it needs no Fourier transform, and works in half precision and at any size.
    """
    height, width = features.shape[-2:]
    basis = _low_basis(height, width, features.device)
    flat = features.flatten(2).float()
    low = (flat @ basis) @ basis.T
    return (flat + (factor - 1) * low).to(features.dtype).view_as(features)


@cache
def _low_basis(height: int, width: int, device: torch.device) -> torch.Tensor:
    """(height * width, 7): the real and imaginary parts of the four frequencies, scaled so that B B^T is the filter."""
    y = torch.arange(height, dtype=torch.float64)[:, None] * (2 * math.pi / height)
    x = torch.arange(width, dtype=torch.float64)[None, :] * (2 * math.pi / width)
    phases = [y + 0 * x, 0 * y + x, y + x]
    functions = [torch.ones(height, width, dtype=torch.float64), *(f(p) for p in phases for f in (torch.cos, torch.sin))]
    return (torch.stack([f.flatten() for f in functions], dim=1) / math.sqrt(height * width)).float().to(device)


def _hook(channels: int, b: float, s: float) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...]]:
    def hook(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        joined = inputs[0]
        backbone, skip = joined[:, :channels], joined[:, channels:]
        return torch.cat([amplify(backbone, b), scale_low_frequencies(skip, s)], dim=1), *inputs[1:]

    return hook

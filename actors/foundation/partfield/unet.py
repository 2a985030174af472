"""The convolutional network over the three planes of PartField: a U-Net whose blocks exchange what the planes have in common.

Planes are *rolled*: (B, C, 3 * side, side), the three below one another. The 3 x 3 convolutions and the group norms reach across the
borders between them, as in the original.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional


def group_norm(channels: int) -> nn.GroupNorm:
    """The norm of all blocks."""
    return nn.GroupNorm(min(32, channels), channels, eps=1e-6)


class PlaneExchange(nn.Module):
    """A 1 x 1 convolution of each plane beside the means of the other two along the axis that it does not have (3 C -> C channels)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.plane_convs = nn.ModuleList(nn.Conv2d(3 * channels, channels, 1) for _ in range(3))

    def forward(self, rolled: torch.Tensor) -> torch.Tensor:
        xy, yz, xz = rolled.chunk(3, dim=2)
        # With zx in the place of xz, the axes of each plane and of the two after it follow one another in the same way.
        planes = [xy, yz, xz.transpose(2, 3)]
        mixed = []
        for i, conv in enumerate(self.plane_convs):
            plane = planes[i]
            by_column = planes[(i + 1) % 3].mean(dim=3)[:, :, None, :].expand_as(plane)
            by_row = planes[(i + 2) % 3].mean(dim=2)[:, :, :, None].expand_as(plane)
            mixed.append(conv(torch.cat([plane, by_column, by_row], dim=1)))
        return torch.cat([mixed[0], mixed[1], mixed[2].transpose(2, 3)], dim=2)


class PlaneBlock(nn.Module):
    """Residual block: 3 x 3 convolution, exchange between planes, 3 x 3 convolution, each after a norm and SiLU."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.norm1 = group_norm(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, padding=1)
        self.norm_mid = group_norm(channels)
        self.conv_3daware = PlaneExchange(channels)
        self.norm2 = group_norm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.nin_shortcut = nn.Conv2d(channels_in, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv1(functional.silu(self.norm1(x), inplace=True))
        y = self.conv_3daware(functional.silu(self.norm_mid(y), inplace=True))
        y = self.conv2(functional.silu(self.norm2(y), inplace=True))
        return self.nin_shortcut(x) + y


class _Down(nn.Module):
    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.block = PlaneBlock(channels_in, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(x)


class _Up(nn.Module):
    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.norm1 = group_norm(channels_in)
        self.block = PlaneBlock(channels_in, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(self.norm1(x))


class PlaneUNet(nn.Module):
    """Rolled planes (B, C, 3 * side, side) -> the same shape; ``widths`` are the channels at full, half and quarter resolution."""

    def __init__(self, channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        full, half, quarter = widths
        self.down_convs = nn.ModuleList([_Down(channels, full), _Down(full, half), _Down(half, quarter)])
        self.up_convs = nn.ModuleList([_Up(quarter + half, half), _Up(half + full, full)])
        self.norm_out = group_norm(full)
        self.conv_final = nn.Conv2d(full, channels, 1)

    def forward(self, rolled: torch.Tensor) -> torch.Tensor:
        skips = []
        for i, down in enumerate(self.down_convs):
            rolled = down(rolled if i == 0 else functional.avg_pool2d(rolled, 2))
            skips.append(rolled)
        rolled = skips.pop()
        for up in self.up_convs:
            rolled = up(torch.cat([functional.interpolate(rolled, scale_factor=2, mode="nearest"), skips.pop()], dim=1))
        return self.conv_final(functional.silu(self.norm_out(rolled), inplace=True))

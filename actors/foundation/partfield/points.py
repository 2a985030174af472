"""From a point cloud to three feature planes: the point-voxel encoder of PartField.

The network's input has 8 channels, ``[x, 2 x, 0, 0]`` of the position ``x``. They are linear in ``x``, so the first layers are applied to
the three coordinates, with weights folded to match: a third of the work, and none of the copies.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn import functional

PLANES = ((0, 1), (1, 2), (0, 2))
"""Axes (column, row) of the planes xy, yz and xz, in the order of all arrays of planes."""

_INPUTS = 8
_CHUNK = 16_384
"""Points whose features are in memory at once, beside the result."""
_VOXEL_EPS, _POINT_EPS = 1e-4, 1e-5
_PLANE_MARGIN = 1e-5


def cell_means(values: torch.Tensor, cells: torch.Tensor, n_cells: int) -> torch.Tensor:
    """Mean (n_cells, C) of the ``values`` (N, C) in each cell; 0 for a cell without any. ``cells``: (N,) int64.

    Sorting makes the sums deterministic on a GPU, where scattered additions come in any order.
    """
    ordered, order = torch.sort(cells, stable=True)
    starts = torch.searchsorted(ordered, torch.arange(n_cells, device=cells.device))
    return functional.embedding_bag(order, values, starts, mode="mean")


def trilinear(coordinates: torch.Tensor, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The eight voxels (N, 8) around each point and their weights (N, 8); voxel (i, j, k) has the index (i * side + j) * side + k.

    Args:
        coordinates: (N, 3) within [0, side - 1]; voxel i has its centre at i.
        side: voxels a side.
    """
    lower = coordinates.floor()
    upper_weight = coordinates - lower
    low = lower.long()
    axis_cells = torch.stack([low, (low + 1).clamp(max=side - 1)], dim=2)
    axis_weights = torch.stack([1 - upper_weight, upper_weight], dim=2)
    x, y, z = axis_cells.unbind(1)
    wx, wy, wz = axis_weights.unbind(1)
    cells = (x[:, :, None, None] * side + y[:, None, :, None]) * side + z[:, None, None, :]
    weights = wx[:, :, None, None] * wy[:, None, :, None] * wz[:, None, None, :]
    return cells.flatten(1), weights.flatten(1)


def plane_cells(points: torch.Tensor, side: int) -> Iterator[torch.Tensor]:
    """For each of :data:`PLANES` the cell (N,) int64 that each point (N, 3) in [-1, 1] falls into: column + side * row."""
    place = (points / 2 / (1 + _PLANE_MARGIN) + 0.5).clamp(0, 1 - _PLANE_MARGIN)
    cell = (place * side).long()
    for column, row in PLANES:
        yield cell[:, column] + side * cell[:, row]


def _folded(weight: torch.Tensor) -> torch.Tensor:
    """Weights (C, 3, ...) on ``x`` that do what ``weight`` (C, 8, ...) does on ``[x, 2 x, 0, 0]``."""
    return weight[:, 0:3] + 2 * weight[:, 3:6]


class PointEncoder(nn.Module):
    """Points (B, N, 3) in [-1, 1] -> planes (B, 3, side, side, C), dimensions 2 and 3 being row and column.

    A branch over 32^3 voxels sees the neighbourhood of a point, a branch over points its exact place; their sum is averaged over the
    points in each cell of each plane. Both branches are normalised over one object (InstanceNorm), so all of its points must be given at
    once: the features of a point depend on how many others there are.
    """

    def __init__(self, channels: int, voxels: int, side: int) -> None:
        super().__init__()
        self.channels, self.voxels, self.side = channels, voxels, side
        self.voxel_layers = nn.ModuleDict(
            {"0": nn.Conv3d(_INPUTS, channels, 3, padding=1), "3": nn.Conv3d(channels, channels, 3, padding=1)}
        )
        self.point_features = nn.ModuleDict({"layers": nn.ModuleList([nn.Conv1d(_INPUTS, channels, 1)])})

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        volumes = self._voxel_branch(points)
        return torch.stack([self._planes(p, v) for p, v in zip(points, volumes, strict=True)])

    def _coordinates(self, points: torch.Tensor) -> torch.Tensor:
        """Place on the voxel grid, (..., 3) within [0, voxels - 1]."""
        return ((points + 1) / 2 * self.voxels).clamp(0, self.voxels - 1)

    def _voxel_branch(self, points: torch.Tensor) -> torch.Tensor:
        """(B, voxels^3, C), voxel (x, y, z) at (x * voxels + y) * voxels + z."""
        side = self.voxels
        x, y, z = self._coordinates(points).round().long().unbind(2)
        cells = (x * side + y) * side + z
        means = torch.stack([cell_means(p, c, side**3) for p, c in zip(points, cells, strict=True)])
        volume = means.view(-1, side, side, side, 3).permute(0, 4, 1, 2, 3)
        # Without biases: InstanceNorm takes off whatever they add.
        for weight in (_folded(self.get_parameter("voxel_layers.0.weight")), self.get_parameter("voxel_layers.3.weight")):
            volume = functional.conv3d(volume, weight, padding=1).float()
            volume = functional.leaky_relu_(functional.instance_norm(volume, eps=_VOXEL_EPS), 0.1)
        return volume.flatten(2).transpose(1, 2).contiguous()

    def _planes(self, points: torch.Tensor, volume: torch.Tensor) -> torch.Tensor:
        """(3, side, side, C) of one object's points (N, 3) and volume (voxels^3, C)."""
        mean, weight = self._normalised_point_weight(points)
        values = torch.empty(len(points), self.channels, device=points.device)
        for part, out in zip(points.split(_CHUNK), values.split(_CHUNK), strict=True):
            # The volume is read with x and z exchanged: the network was trained so, by a difference of conventions between its voxels
            # and the sampling of PyTorch.
            cells, weights = trilinear(self._coordinates(part).flip(1), self.voxels)
            out.copy_(functional.embedding_bag(cells, volume, per_sample_weights=weights, mode="sum"))
            # Half precision would place points only to within 1/1000 of the object.
            with _in_full_precision(points.device):
                out += functional.relu_((part - mean) @ weight.T)
        planes = [cell_means(values, cells, self.side**2) for cells in plane_cells(points, self.side)]
        return torch.stack(planes).view(3, self.side, self.side, self.channels)

    def _normalised_point_weight(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean (3,) of the points, and weights (C, 3) that give the centred points unit variance in each channel.

        A linear layer's mean and variance over the points follow from those of the points: InstanceNorm needs no pass over its output.
        """
        exact = points.double()
        mean = exact.mean(dim=0)
        centred = exact - mean
        covariance = centred.T @ centred / len(points)
        weight = _folded(self.get_parameter("point_features.layers.0.weight")).squeeze(2).double()
        variance = ((weight @ covariance) * weight).sum(dim=1)
        return mean.float(), (weight / (variance + _POINT_EPS).sqrt()[:, None]).float()


def _in_full_precision(device: torch.device) -> AbstractContextManager[Any]:
    # The meta device, on which operations are counted, knows no autocast.
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)

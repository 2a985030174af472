"""Weighted fusion of the descriptors of an image: Stable Diffusion, DINO and 3D shape (3D-SC, stage 2).

Each group is L2-normalised at each cell and scaled by the square root of its weight before the groups are concatenated. So the dot
product of two fused descriptors *is* the weighted mean of the groups' cosines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from sc3d.config import MatchConfig
from sc3d.errors import FeatureError
from sc3d.features import Features, Surface

SD, DINO, SHAPE = "sd", "dino", "shape"

_TINY = 1e-12


def reweighted(match: MatchConfig, alpha: float, beta: float) -> MatchConfig:
    """A configuration with other weights, and all else by which pairs are told apart; what bounds the stored matches is the default."""
    return MatchConfig(
        alpha, beta, transfer=match.transfer, tau_reprojection=match.tau_reprojection, template_prior=match.template_prior
    )


def group_weights(config: MatchConfig) -> dict[str, float]:
    """Group -> its weight, in the order of concatenation; groups of weight 0 are left out."""
    weights = {SD: config.alpha, DINO: config.beta, SHAPE: config.gamma}
    # gamma is a difference of floats: what is left of 1 - 2/3 - 1/3 is rounding, not a wish for 3D descriptors.
    return {group: weight for group, weight in weights.items() if weight > 1e-6}


def renormalise(weights: Mapping[str, float], present: Mapping[str, object] | set[str], image_id: str) -> dict[str, float]:
    """The weights of the groups that are present, scaled to sum to 1.

    Raises:
        FeatureError: no group with a positive weight is present.
    """
    kept = {group: weight for group, weight in weights.items() if group in present and weight > 0}
    total = sum(kept.values())
    if not kept or total <= 0:
        raise FeatureError(
            f"{image_id}: none of the groups with a weight ({', '.join(weights) or 'none'}) has features "
            f"({', '.join(sorted(present)) or 'none'}); describe the image with them or change match.alpha and match.beta"
        )
    return {group: weight / total for group, weight in kept.items()}


@dataclass(frozen=True)
class Taps:
    """Bilinear interpolation as a sparse matrix: ``nodes`` (N, 4) flat source positions and their ``weights`` (N, 4), rows sum to 1."""

    nodes: torch.Tensor
    weights: torch.Tensor

    def apply(self, values: torch.Tensor) -> torch.Tensor:
        """Interpolate ``values`` (n, C) -> (N, C)."""
        return torch.nn.functional.embedding_bag(self.nodes, values, per_sample_weights=self.weights, mode="sum")


def bilinear_taps(height: int, width: int, side: int, cells: np.ndarray) -> Taps:
    """Taps that resize a (height, width) map to (side, side) at ``cells`` (N,), with the convention ``align_corners=False``."""
    row_low, row_high, row_part = _axis_taps(height, side, cells // side)
    column_low, column_high, column_part = _axis_taps(width, side, cells % side)
    nodes = np.stack(
        [
            row_low * width + column_low,
            row_low * width + column_high,
            row_high * width + column_low,
            row_high * width + column_high,
        ],
        axis=1,
    )
    weights = np.stack(
        [
            (1 - row_part) * (1 - column_part),
            (1 - row_part) * column_part,
            row_part * (1 - column_part),
            row_part * column_part,
        ],
        axis=1,
    )
    return Taps(torch.from_numpy(nodes), torch.from_numpy(weights.astype(np.float32)))


def _axis_taps(length: int, side: int, index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    position = np.maximum((np.asarray(index, np.int64) + 0.5) * length / side - 0.5, 0.0)
    low = np.minimum(position.astype(np.int64), length - 1)
    return low, np.minimum(low + 1, length - 1), position - low


def layers_of(features: Features, group: str) -> dict[str, np.ndarray]:
    """The (C, h, w) arrays of a group, sorted by name: that is the order of concatenation."""
    return {name: features.sources[name] for name in sorted(features.sources) if name.partition(".")[0] == group}


def layer_values(layer: np.ndarray) -> torch.Tensor:
    """A (C, h, w) layer as float32 rows (h * w, C)."""
    return torch.from_numpy(np.ascontiguousarray(layer.reshape(layer.shape[0], -1).T.astype(np.float32)))


def interpolate_shape(shape: np.ndarray, surface: Surface, rows: np.ndarray) -> torch.Tensor:
    """L2-normalised shape descriptors (K, D) float32 at the surface hits ``rows`` (K,) (positions in ``surface.cells``)."""
    corners = torch.from_numpy(surface.corners[rows].astype(np.int64))
    weights = torch.from_numpy(surface.barycentric[rows].astype(np.float32))
    return normalise(Taps(corners, weights).apply(torch.from_numpy(shape.astype(np.float32))))


def normalise(values: torch.Tensor) -> torch.Tensor:
    """Rows (N, C) scaled to unit length; rows of zeros stay zero."""
    return values / values.norm(dim=1, keepdim=True).clamp_min(_TINY)


def surface_rows(surface: Surface | None, cells: np.ndarray) -> np.ndarray:
    """Position (N,) of each of ``cells`` (N,) in ``surface.cells``; -1 where a cell has no surface point."""
    if surface is None or len(surface.cells) == 0:
        return np.full(len(cells), -1, np.int64)
    position = np.minimum(np.searchsorted(surface.cells, cells), len(surface.cells) - 1)
    return np.where(surface.cells[position] == cells, position, -1).astype(np.int64)


def group_descriptors(features: Features, cells: np.ndarray) -> dict[str, torch.Tensor]:
    """The descriptor of each group at ``cells`` (N,): group -> (N, C) float32, L2-normalised.

    The layers of a group are resized bilinearly (``align_corners=False``) to the working grid and concatenated as they are; then the
    group is normalised at each cell. The group ``shape`` is interpolated at the surface hits (filled cells: at the hit they were
    given); it is zero at cells without a surface point, and there only if the image has a mesh.
    """
    cells = np.asarray(cells, np.int64)
    side = features.letterbox.side
    groups: dict[str, torch.Tensor] = {}
    for group in (SD, DINO):
        layers = layers_of(features, group).values()
        if layers:
            parts = [bilinear_taps(layer.shape[1], layer.shape[2], side, cells).apply(layer_values(layer)) for layer in layers]
            groups[group] = normalise(torch.cat(parts, dim=1))
    if features.surface is not None and features.shape is not None:
        rows = surface_rows(features.surface, cells)
        groups[SHAPE] = torch.zeros(len(cells), features.shape.shape[1])
        groups[SHAPE][torch.from_numpy(rows >= 0)] = interpolate_shape(features.shape, features.surface, rows[rows >= 0])
    return groups


def fuse(groups: Mapping[str, torch.Tensor], weights: Mapping[str, float]) -> torch.Tensor:
    """Concatenate ``sqrt(weight) * group`` over the groups with a weight: (N, sum of C) float32.

    Weights of groups that are absent are shared out among the others, so the result's rows have unit length.

    Raises:
        FeatureError: no group with a positive weight is present.
    """
    kept = renormalise(weights, groups, "fusion")
    return torch.cat([groups[group] * weight**0.5 for group, weight in kept.items()], dim=1)

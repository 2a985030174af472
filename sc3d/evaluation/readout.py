"""From descriptors to predicted points: similarities of keypoints with all cells of the target, and how a point is read from them.

Only the rows of the keypoints are multiplied: K times the cells of the target instead of all cells times all cells. An image is prepared
once for all its pairs, and layers of coarser grids are multiplied there, as in :mod:`sc3d.matching.described`.

Shape letters: K keypoints, N = side * side cells, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from sc3d.errors import FeatureError
from sc3d.features import Features
from sc3d.grid import Letterbox
from sc3d.matching.box_position import position_descriptors
from sc3d.matching.candidates import fused_product
from sc3d.matching.described import CoarseLayer
from sc3d.matching.fusion import SHAPE, Taps, bilinear_taps, interpolate_shape, layer_values, layers_of
from sc3d.matching.template_prior import PosedTemplate, share_pose, squared_distances

POSITION = "position"

_EPSILON = 1e-10
"""The protocol's: a descriptor of zeros has similarity 0 to everything."""
_COARSE = 0.5
"""A layer is multiplied at its own grid if that has at most this share of the working grid's cells."""


@dataclass(eq=False)
class Rows:
    """The scaled layers of some cells, as :func:`~sc3d.matching.candidates.fused_product` takes them."""

    dense: torch.Tensor
    coarse: tuple[CoarseLayer, ...]


@dataclass(eq=False)
class CellDescriptors:
    """The descriptors of all cells of an image, scaled so that dot products are (weighted means of) cosines.

    Attributes:
        letterbox: the image's grid.
        layout: name and shape of each layer; two images can be compared only if theirs agree.
        dense: (N, C) float32.
        coarse: the layers of coarser grids.
    """

    letterbox: Letterbox
    layout: tuple[tuple[str, tuple[int, ...]], ...]
    dense: torch.Tensor
    coarse: tuple[CoarseLayer, ...] = ()

    @classmethod
    def of_map(cls, descriptors: np.ndarray, letterbox: Letterbox) -> CellDescriptors:
        """From a map (C, side, side) of any descriptors.

        Raises:
            FeatureError: the map does not fit the grid.
        """
        side = letterbox.side
        if descriptors.ndim != 3 or descriptors.shape[1:] != (side, side):
            raise FeatureError(f"a map of shape {descriptors.shape} on a grid of side {side}")
        values = layer_values(descriptors)
        values /= values.norm(dim=1, keepdim=True) + _EPSILON
        return cls(letterbox, (("map", descriptors.shape),), values)

    @classmethod
    def of_features(cls, features: Features, weights: Mapping[str, float]) -> CellDescriptors:
        """From the slots of an image: each is normalised at each cell, and their cosines are averaged with the weights.

        The 3D descriptors (``shape``) are zero where the image has no surface point. ``position`` is the place in the object's box
        (:func:`~sc3d.matching.box_position.position_descriptors`), which every image has.

        Args:
            weights: of ``sd``, ``dino``, ``shape`` and ``position``; those of weight 0 are left out.

        Raises:
            FeatureError: the image lacks a slot that has a weight.
        """
        wanted = {group: weight for group, weight in weights.items() if weight > 0}
        side, total = features.letterbox.side, sum(wanted.values())
        dense: list[torch.Tensor] = []
        coarse: list[CoarseLayer] = []
        layout: list[tuple[str, tuple[int, ...]]] = []
        for group, weight in wanted.items():
            if group == POSITION:
                values = layer_values(position_descriptors(features.foreground))
                dense.append(values * (weight / total) ** 0.5)
                layout.append((group, (values.shape[1],)))
                continue
            if group == SHAPE:
                # Meshes differ in their vertices, so only the channels must agree.
                channels, values = _surface_values(features)
                dense.append(values * (weight / total) ** 0.5)
                layout.append((group, (channels,)))
                continue
            layers = layers_of(features, group)
            if not layers:
                raise FeatureError(
                    f"{features.image_id}: has no features in the slot {group}; there are {sorted(features.sources)}"
                )
            mine, theirs = _scaled(layers, (weight / total) ** 0.5, side)
            dense, coarse = dense + mine, coarse + theirs
            layout += [(name, layer.shape) for name, layer in layers.items()]
        joined = dense[0] if len(dense) == 1 else torch.cat(dense, dim=1) if dense else torch.zeros(side * side, 0)
        return cls(features.letterbox, tuple(layout), joined, tuple(coarse))

    def flat(self) -> np.ndarray:
        """All layers of all cells side by side, (N, C') float32: their dot products are those of :meth:`similarity`, but for rounding."""
        return np.asarray(torch.cat([self.dense, *(layer.taps.apply(layer.values) for layer in self.coarse)], dim=1).numpy())

    @property
    def n_bytes(self) -> int:
        """Memory of the arrays, for byte-bounded caches."""
        return self.dense.nbytes + sum(t.nbytes for c in self.coarse for t in (c.values, c.taps.nodes, c.taps.weights))

    def rows(self, cells: np.ndarray) -> Rows:
        """The descriptors of ``cells`` (K,)."""
        index = torch.from_numpy(np.asarray(cells, np.int64))
        # A row of its own for each keypoint: the layer's values have done their part once they are interpolated.
        nodes = torch.arange(len(index))[:, None].repeat(1, 4)
        alone = torch.tensor([[1.0, 0.0, 0.0, 0.0]]).repeat(len(index), 1)
        parts = [Taps(layer.taps.nodes[index], layer.taps.weights[index]).apply(layer.values) for layer in self.coarse]
        return Rows(self.dense[index], tuple(CoarseLayer(part, Taps(nodes, alone)) for part in parts))

    def similarity(self, cells: np.ndarray, target: CellDescriptors) -> np.ndarray:
        """Cosines (K, N) float32 of ``cells`` (K,) of this image with all cells of another.

        Raises:
            FeatureError: the two images were described differently.
        """
        if self.layout != target.layout or self.letterbox.side != target.letterbox.side:
            raise FeatureError(
                f"descriptors of {list(self.layout)} cannot be compared with {list(target.layout)}; describe both images alike"
            )
        if len(cells) == 0:
            return np.zeros((0, target.letterbox.side**2), np.float32)
        return np.asarray(fused_product(self.rows(cells), target).numpy())


def guided(
    similarity: np.ndarray,
    cells: np.ndarray,
    templates: tuple[PosedTemplate | None, PosedTemplate | None],
    weight: float,
    alone: bool = False,
) -> np.ndarray | None:
    """A similarity (K, N) with the prior of a template (:mod:`sc3d.matching.template_prior`), or ``None`` where there is no prior.

    Args:
        cells: (K,) flat cells of the source.
        templates: of the source and of the target.
        weight: of the squared distance from where the target shows the same place, in boxes of its object.
        alone: without the similarity. The place itself then counts as a cosine of 1, since readouts take 0 for what is not alike.
    """
    posed = share_pose(*templates)
    if posed is None:
        return None
    distances = squared_distances(cells, posed[0], np.arange(similarity.shape[1]), posed[1]).numpy()
    return np.asarray((np.float32(1) if alone else similarity) - np.float32(weight) * distances)


def _scaled(layers: Mapping[str, np.ndarray], scale: float, side: int) -> tuple[list[torch.Tensor], list[CoarseLayer]]:
    """A slot's layers, divided by the length of their concatenation at each cell and multiplied by ``scale``."""
    cells = np.arange(side * side)
    values, taps, squares = {}, {}, torch.zeros(side * side)
    for name, layer in layers.items():
        rows, (height, width) = layer_values(layer), layer.shape[1:]
        if (height, width) != (side, side):
            taps[name] = bilinear_taps(height, width, side, cells)
            resized = taps[name].apply(rows)
            squares += torch.einsum("nc,nc->n", resized, resized)
            if height * width > _COARSE * side * side:
                rows = resized
                del taps[name]
        else:
            squares += torch.einsum("nc,nc->n", rows, rows)
        values[name] = rows
    factor = (scale / (squares.sqrt() + _EPSILON))[:, None]
    dense = [rows.mul_(factor) for name, rows in values.items() if name not in taps]
    return dense, [CoarseLayer(values[name], Taps(tap.nodes, tap.weights * factor)) for name, tap in taps.items()]


def _surface_values(features: Features) -> tuple[int, torch.Tensor]:
    """Channels of the 3D descriptors, and their unit vectors (N, D) at all cells; zero where there is no surface point."""
    if features.shape is None or features.surface is None:
        raise FeatureError(f"{features.image_id}: has no mesh, so no 3D descriptors; use a method without them")
    values = torch.zeros(features.letterbox.side**2, features.shape.shape[1])
    cells = features.surface.cells
    values[torch.from_numpy(cells.astype(np.int64))] = interpolate_shape(features.shape, features.surface, np.arange(len(cells)))
    return features.shape.shape[1], values


def nearest_cells(similarity: np.ndarray, side: int) -> np.ndarray:
    """The best cell of each row of a similarity (K, N) as (column, row): (K, 2) float64."""
    best = similarity.argmax(axis=1)
    return np.stack([best % side, best // side], axis=1).astype(np.float64)


def window_soft_argmax(
    similarity: np.ndarray, side: int, window: int = 7, temperature: float = 0.02, zero_masking: bool = True
) -> np.ndarray:
    """Expected cell of each row of a similarity (K, N) as fractional (column, row): (K, 2) float64.

    The softmax runs over the whole map; similarities farther than ``window`` cells from the best one in either axis are first multiplied by
    0, as GeoAware-SC has it, or excluded if not ``zero_masking``. The window is clipped at the map's border; 0 means no window.
    """
    axis = np.arange(side)
    values = similarity.reshape(-1, side, side)
    if window <= 0:
        weights = _exponentials(values.astype(np.float64), values.max(axis=(1, 2)), temperature)
        return _expectation(weights, axis, axis) / weights.sum(axis=(1, 2))[:, None]
    best = similarity.argmax(axis=1)
    # Offsets beyond the border are clipped onto it, and do not count.
    rows, columns = (index[:, None] + np.arange(-window, window + 1) for index in (best // side, best % side))
    valid = ((rows >= 0) & (rows < side))[:, :, None] & ((columns >= 0) & (columns < side))[:, None, :]
    rows, columns = np.clip(rows, 0, side - 1), np.clip(columns, 0, side - 1)
    inside = values[np.arange(len(values))[:, None, None], rows[:, :, None], columns[:, None, :]].astype(np.float64)
    top = similarity.max(axis=1).astype(np.float64)
    if zero_masking:
        top = np.maximum(top, 0.0)
    weights = np.where(valid, _exponentials(inside, top, temperature), 0.0)
    total = weights.sum(axis=(1, 2))
    moments = np.stack([np.einsum("krc,kc->k", weights, columns), np.einsum("krc,kr->k", weights, rows)], axis=1)
    if zero_masking:
        # All cells outside weigh the same, so they need no exponential each: all cells less those inside.
        outside = np.exp(-top / temperature)
        within_rows, within_columns = valid.any(axis=2), valid.any(axis=1)
        heights, widths = within_rows.sum(axis=1), within_columns.sum(axis=1)
        everywhere = side * axis.sum()
        left = np.stack(
            [everywhere - heights * (columns * within_columns).sum(axis=1), everywhere - widths * (rows * within_rows).sum(axis=1)],
            1,
        )
        moments = moments + outside[:, None] * left
        total = total + outside * (side * side - heights * widths)
    return np.asarray(moments / total[:, None])


def _exponentials(values: np.ndarray, top: np.ndarray, temperature: float) -> np.ndarray:
    return np.asarray(np.exp((values - top[:, None, None]) / temperature))


def _expectation(weights: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    return np.stack([weights.sum(axis=1) @ columns, weights.sum(axis=2) @ rows], axis=1)


def cell_to_square(cells: np.ndarray, letterbox: Letterbox) -> np.ndarray:
    """Fractional (column, row) cells (K, 2) -> pixels of the square frame (K, 2): cell size times the index, plus half a cell."""
    return cells * letterbox.cell_size + letterbox.cell_size / 2

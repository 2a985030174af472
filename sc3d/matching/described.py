"""One image, prepared once for all its pairs: fused descriptors, surface hits, and vertex descriptors that can be searched.

Bilinear resizing is linear, so layers that are stored on a coarse grid are multiplied *there* and their product is resized:
``(W_s F_s) (W_t F_t)^T = W_s (F_s F_t^T) W_t^T``. That is the same number with a fraction of the work and memory of resizing the features.
Normalisation and weights are diagonal and folded into ``W``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.spatial import cKDTree

from sc3d.config import MatchConfig
from sc3d.errors import FeatureError, GeometryError
from sc3d.features import Features, Surface
from sc3d.geometry.sampling import scattered
from sc3d.matching.fusion import (
    DINO,
    SD,
    SHAPE,
    Taps,
    bilinear_taps,
    group_weights,
    interpolate_shape,
    layer_values,
    layers_of,
    renormalise,
    surface_rows,
)
from sc3d.matching.search import VertexIndex
from sc3d.matching.spectral import Spectral, spectral
from sc3d.matching.template_prior import PosedTemplate

MAX_FILL_DISTANCE = 1.0
"""Distance in cells up to which a cell without an own hit may borrow the nearest covered cell's (3D-SC leaves this open)."""

_COARSE = 0.5
"""A layer is multiplied at its own grid if that has at most this share of the working grid's cells; beyond, resizing costs more."""

_LANDMARKS = 300
"""Vertices of a mesh that an optimal transport plan is solved between."""

_EIGENFUNCTIONS = 30
"""Of a mesh, that functional maps are made of."""


@dataclass(frozen=True)
class CoarseLayer:
    """A layer at its native grid: ``values`` (n, C) of the cells that foreground touches; ``taps`` interpolate and scale them."""

    values: torch.Tensor
    taps: Taps

    def to(self, device: torch.device) -> CoarseLayer:
        """The layer on another device."""
        return CoarseLayer(self.values.to(device), Taps(self.taps.nodes.to(device), self.taps.weights.to(device)))


@dataclass(frozen=True)
class DescribedSurface:
    """The mesh side of a described image.

    ``hits`` (N,) row of ``surface`` that each matching cell may be lifted to, -1 if none; ``queries`` (H, D) float32 L2-normalised shape
    descriptors at all rows of ``surface``; ``vertices`` the mesh's vertex descriptors, searchable; ``places`` (R, V, 6) where each of R
    references puts the vertices (:func:`sc3d.geometry.registration.warp.places`), ``None`` for a mesh that was not registered.

    What a transfer needs besides is computed on first use and kept. :class:`Described` asks for what its configuration's transfer uses.
    """

    surface: Surface
    hits: np.ndarray
    queries: torch.Tensor
    vertices: VertexIndex
    places: np.ndarray | None = None

    @cached_property
    def place_trees(self) -> tuple[cKDTree, ...]:
        """One a reference, of the places of all vertices."""
        return tuple(cKDTree(places) for places in self.places.astype(np.float32)) if self.places is not None else ()

    @cached_property
    def landmarks(self) -> torch.Tensor:
        """The descriptors (n, D) float32 of vertices that lie scattered over the mesh."""
        chosen = torch.from_numpy(scattered(self.surface.vertices, _LANDMARKS))
        return self.vertices.descriptors()[chosen]

    @cached_property
    def spectral(self) -> Spectral:
        """The mesh as functional maps see it.

        Raises:
            GeometryError: the vertices span no surface.
        """
        return spectral(self.surface.vertices, self.vertices.descriptors().numpy(), _EIGENFUNCTIONS)

    @property
    def n_bytes(self) -> int:
        """Memory of the arrays that are there by now."""
        surface, balls = self.surface, self.surface.balls
        arrays = (
            surface.cells,
            surface.corners,
            surface.barycentric,
            surface.dominant,
            surface.fill_distance,
            surface.vertices,
            balls.centres,
            balls.offsets,
            balls.members,
            balls.distances,
        )
        total = sum(a.nbytes for a in arrays) + self.queries.nbytes + self.vertices.n_bytes
        made = vars(self)
        total += made["landmarks"].nbytes if "landmarks" in made else 0
        total += made["spectral"].n_bytes if "spectral" in made else 0
        # A tree holds its points in float64, and about as much besides.
        total += (
            self.places.nbytes + sum(2 * tree.data.nbytes for tree in made.get("place_trees", ())) if self.places is not None else 0
        )
        return int(total)


class Described:
    """An image ready to be paired ("image once, pair many").

    Attributes:
        image_id, letterbox, extent, mask_signs: as in :class:`~sc3d.features.Features`.
        cells: (N,) foreground cells that take part in matching. With a 3D weight they need a surface point.
        weights: group -> weight, scaled to sum to 1 over the groups that the image has.
        layout: name and shape of each layer that has a weight; two images can be paired only if theirs agree.
        dense: (N, C) float32, the scaled layers of the working grid and the scaled shape descriptors.
        coarse: the scaled layers of coarser grids.
        mesh: the mesh side, or ``None`` without a mesh.
        transfer: name of the configured prediction across meshes.
        template: where it shows the places of its template; ``None`` without one, or if the configuration does not ask for it.
        template_prior: weight of that prior.
        tau_reprojection: widest reprojection error of a match of images that share a template; 0: none is known.

    Args:
        places: (R, V, 6) of the registered mesh, which the transfer "registration" needs.

    Raises:
        FeatureError: no group has a weight, values are malformed or not finite, or the mesh has no spectrum for a functional map.
    """

    def __init__(self, features: Features, config: MatchConfig, places: np.ndarray | None = None) -> None:
        self.image_id = features.image_id
        self.letterbox = features.letterbox
        self.extent = features.extent
        self.mask_signs = features.mask_signs
        foreground = np.flatnonzero(features.foreground.reshape(-1)).astype(np.int64)
        wanted = group_weights(config)
        rows = surface_rows(features.surface, foreground)
        self.cells = foreground[rows >= 0] if SHAPE in wanted else foreground
        rows = rows[rows >= 0] if SHAPE in wanted else rows
        self._check_groups(features)
        self.mesh = _describe_surface(features, rows, places)
        self.transfer = config.transfer
        self._prepare_transfer()
        self.template_prior = config.template_prior
        self.tau_reprojection = config.tau_reprojection
        asked = config.template_prior > 0 or config.tau_reprojection > 0
        self.template = PosedTemplate.of_features(features) if asked else None
        present = {name.partition(".")[0] for name in features.sources} | ({SHAPE} if features.surface is not None else set())
        if SHAPE in wanted and features.surface is None:
            # Such an image has no matching cells at all; its other groups only serve the check that the recipes agree.
            present |= {SHAPE}
        self.weights = renormalise(wanted, present, self.image_id)
        self.layout = frozenset(
            (name, value.shape) for name, value in features.sources.items() if name.partition(".")[0] in self.weights
        )
        self.dense, self.coarse = self._scaled_layers(features, rows)

    @property
    def n_bytes(self) -> int:
        """Memory of the arrays, for byte-bounded caches."""
        tensors = [self.dense, *(t for c in self.coarse for t in (c.values, c.taps.nodes, c.taps.weights))]
        total = sum(t.nbytes for t in tensors) + self.cells.nbytes
        return total + sum(part.n_bytes for part in (self.mesh, self.template) if part is not None)

    def check_pair(self, other: Described) -> None:
        """Raise :class:`FeatureError` unless the two images were described by the same recipe, on the same grid."""
        mine, theirs = self.letterbox, other.letterbox
        if mine.side != theirs.side:
            raise FeatureError(
                f"{self.image_id} and {other.image_id} are described on grids of side {mine.side} and {theirs.side}; describe both again"
            )
        if self.layout != other.layout:
            names = sorted({name for name, _ in self.layout ^ other.layout})
            raise FeatureError(
                f"{self.image_id} and {other.image_id} were described by different recipes: {', '.join(names)} differ "
                f"({sorted(self.layout - other.layout)} and {sorted(other.layout - self.layout)}); describe both with one configuration"
            )
        if self.mesh is not None and other.mesh is not None:
            mine_3d, theirs_3d = self.mesh.queries.shape[1], other.mesh.queries.shape[1]
            if mine_3d != theirs_3d:
                raise FeatureError(
                    f"{self.image_id} and {other.image_id}: shape descriptors of {mine_3d} and {theirs_3d} channels; "
                    "describe both with one configuration"
                )
        if self.weights != other.weights:
            raise FeatureError(f"{self.image_id} and {other.image_id} were fused with weights {self.weights} and {other.weights}")

    def _prepare_transfer(self) -> None:
        if self.mesh is None or not len(self.mesh.queries):
            return
        try:
            # Now rather than at the first pair, so that a cache of images counts its memory.
            if self.transfer == "transport":
                _ = self.mesh.landmarks
            elif self.transfer == "registration":
                _ = self.mesh.place_trees
            elif self.transfer == "functional_map":
                _ = self.mesh.spectral
        except GeometryError as error:
            raise FeatureError(f"{self.image_id}: {error}; use another match.transfer") from None

    def _check_groups(self, features: Features) -> None:
        unknown = sorted(name for name in features.sources if name.partition(".")[0] not in (SD, DINO))
        if unknown:
            raise FeatureError(
                f"{self.image_id}: sources {', '.join(unknown)} belong to no slot; name them '{SD}.<layer>' or '{DINO}'"
            )

    def _scaled_layers(self, features: Features, rows: np.ndarray) -> tuple[torch.Tensor, tuple[CoarseLayer, ...]]:
        side, n = self.letterbox.side, len(self.cells)
        dense: list[torch.Tensor] = []
        coarse: list[CoarseLayer] = []
        for group, weight in self.weights.items():
            if group == SHAPE:
                if self.mesh is not None:
                    dense.append(self.mesh.queries[torch.from_numpy(rows)] * weight**0.5)
                continue
            layers = layers_of(features, group).values()
            taps = [bilinear_taps(layer.shape[1], layer.shape[2], side, self.cells) for layer in layers]
            values = [layer_values(layer) for layer in layers]
            squares = torch.zeros(n)
            for tap, value in zip(taps, values, strict=True):
                squares += tap.apply(value).square_().sum(dim=1)
            scale = (weight**0.5 / squares.sqrt().clamp_min(1e-12))[:, None]
            for layer, tap, value in zip(layers, taps, values, strict=True):
                scaled = Taps(tap.nodes, tap.weights * scale)
                if layer.shape[1] * layer.shape[2] <= _COARSE * side * side:
                    coarse.append(_touched(value, scaled))
                else:
                    dense.append(scaled.apply(value))
        return torch.cat(dense, dim=1) if dense else torch.zeros(n, 0), tuple(coarse)


def _touched(values: torch.Tensor, taps: Taps) -> CoarseLayer:
    nodes, position = torch.unique(taps.nodes, return_inverse=True)
    return CoarseLayer(values[nodes].contiguous(), Taps(position, taps.weights))


def _describe_surface(features: Features, rows: np.ndarray, places: np.ndarray | None) -> DescribedSurface | None:
    surface = features.surface
    if surface is None or features.shape is None:
        return None
    if places is not None and places.shape[1] != len(surface.vertices):
        raise FeatureError(
            f"{features.image_id}: {places.shape[1]} registered places for {len(surface.vertices)} vertices; describe it again"
        )
    liftable = np.zeros(len(rows), bool)
    liftable[rows >= 0] = surface.fill_distance[rows[rows >= 0]].astype(np.float32) <= MAX_FILL_DISTANCE
    queries = interpolate_shape(features.shape, surface, np.arange(len(surface.cells)))
    return DescribedSurface(surface, np.where(liftable, rows, -1), queries, VertexIndex(features.shape), places)

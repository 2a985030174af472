"""Tiles: pairs grouped so that the features of each image are read a few times, not once a pair.

A tile is matched by one worker in the planned order, and tiles that follow each other share images, so a cache of a few images saves
most reads. An image is the same whether it is a source or a target; so both directions of a pair always share a tile, and the plan
works on undirected edges between images. Two orders are planned, and the one that reads less is taken:

- *blocks*, for dense pair lists: the upper triangle of the pair matrix along Hilbert's curve. Every stretch of the curve is a compact
  block, so a tile of P pairs has about 2 sqrt(P / 2) images, and the same holds at every scale: caches of any size profit.
- *grown*, for sparse lists: a tile grows by the image that brings the most pairs with images that the tile has already.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sc3d.kernels import compiled
from sc3d.matching.tile_growth import grow_tiles
from sc3d.pair_ids import split_pair_ids
from sc3d.shards import Shard, refuse_duplicates

_CACHED = 32
"""Images that a worker's cache is taken to hold when the two orders are compared; paper-sized ones fill about a gigabyte."""


@dataclass(frozen=True, eq=False)
class Tiles:
    """``order`` (E,) int64: the pairs in the order in which they are matched; tile i holds ``order[offsets[i]:offsets[i + 1]]``."""

    order: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1


def cut_tiles(items: pa.Table, size: int) -> list[Shard]:
    """Shards of at most ``size`` pairs of one category, one a tile, from a table of ``category`` and pair ``id``.

    The plan follows from the set of pairs alone, whatever order the table has.

    Raises:
        SchemaError: an id occurs twice, or is no pair id.
    """
    items = items.combine_chunks()
    refuse_duplicates(items["id"])
    shards: list[Shard] = []
    for category in sorted(pc.unique(items["category"]).to_pylist()):
        ids = items.filter(pc.equal(items["category"], category))["id"].combine_chunks()
        tiles = plan_tiles(*_image_numbers(ids), size)
        ordered = ids.take(pa.array(tiles.order))
        bounds = zip(tiles.offsets[:-1].tolist(), tiles.offsets[1:].tolist(), strict=True)
        shards += [Shard(category, tuple(ordered[first:last].to_pylist())) for first, last in bounds]
    return shards


def _image_numbers(pair_ids: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Source and target (E,) int64 of pair ids, as numbers of images in the order of their ids."""
    names = pa.concat_arrays(split_pair_ids(pair_ids))
    unique = pc.unique(names)
    numbers = pc.index_in(names, value_set=unique.take(pc.sort_indices(unique))).to_numpy().astype(np.int64)
    return numbers[: len(pair_ids)], numbers[len(pair_ids) :]


def plan_tiles(source: np.ndarray, target: np.ndarray, size: int) -> Tiles:
    """Group pairs of images into tiles of at most ``size`` pairs.

    Args:
        source, target: (E,) int64 numbers of the images, at least 0; no pair twice. The order of the pairs does not matter.
        size: pairs a tile, at least 1.
    """
    if not len(source):
        return Tiles(np.zeros(0, np.int64), np.zeros(1, np.int64))
    edges = _Edges.of(source, target, paired=size > 1)
    blocks = _blocks(edges)
    grown, tile = grow_tiles(edges.n_images, edges.low, edges.high, edges.weight, size)
    plans = [edges.tiles(blocks, _cut(edges.weight[blocks], size)), edges.tiles(grown, tile)]
    return min(plans, key=lambda tiles: _cost(tiles, source, target))


@dataclass(frozen=True, eq=False)
class _Edges:
    """Undirected edges in a fixed order: ``low`` < ``high`` (K,) images, ``weight`` (K,) how many pairs, 1 or 2.

    ``pairs`` (E,) are the pairs in the order of their edges; those of edge k begin at ``first[k]``.
    """

    n_images: int
    low: np.ndarray
    high: np.ndarray
    weight: np.ndarray
    pairs: np.ndarray
    first: np.ndarray

    @classmethod
    def of(cls, source: np.ndarray, target: np.ndarray, paired: bool) -> _Edges:
        # An image with itself makes no edge between images: its other end is one that no other pair has.
        target = np.where(source == target, target + max(source.max(), target.max()) + 1, target)
        low, high = np.minimum(source, target), np.maximum(source, target)
        backward = source > target
        pairs = np.lexsort((backward, high, low))
        low, high, backward = low[pairs], high[pairs], backward[pairs]
        new = (low[1:] != low[:-1]) | (high[1:] != high[:-1]) | (not paired)
        first = np.flatnonzero(np.concatenate([[True], new]))
        weight = np.diff(first, append=len(pairs))
        return cls(int(high.max()) + 1, low[first], high[first], weight, pairs, first)

    def tiles(self, order: np.ndarray, tile: np.ndarray) -> Tiles:
        """The tiles of all pairs from an order of the edges and the tile of each, ascending."""
        weight = self.weight[order]
        within = np.arange(weight.sum()) - np.repeat(np.cumsum(weight) - weight, weight)
        pairs = self.pairs[np.repeat(self.first[order], weight) + within]
        return Tiles(pairs, np.concatenate([[0], np.cumsum(np.bincount(tile, weight)).astype(np.int64)]))


def _blocks(edges: _Edges) -> np.ndarray:
    """The edges (K,) along Hilbert's curve over the matrix of images. Images that pairs connect lie beside each other in it."""
    n = edges.n_images
    graph = coo_array((np.ones(len(edges.low), np.int8), (edges.low, edges.high)), shape=(n, n))
    component = connected_components(graph, directed=False)[1]
    rank = np.empty(n, np.int64)
    rank[np.argsort(component, kind="stable")] = np.arange(n)
    a, b = rank[edges.low], rank[edges.high]
    return np.argsort(hilbert_index(np.minimum(a, b), np.maximum(a, b)), kind="stable")


def hilbert_index(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """How far along Hilbert's curve each point (N,) of non-negative integers lies; neighbours on the curve are neighbours in the plane."""
    bits = max(int(max(x.max(initial=0), y.max(initial=0))).bit_length(), 1)
    x, y, index = x.copy(), y.copy(), np.zeros(len(x), np.int64)
    for bit in range(bits - 1, -1, -1):
        right, up = (x >> bit) & 1, (y >> bit) & 1
        index += ((3 * right) ^ up) << (2 * bit)
        flipped = (up == 0) & (right == 1)
        x, y = np.where(flipped, ~x, x), np.where(flipped, ~y, y)
        x, y = np.where(up == 0, y, x), np.where(up == 0, x, y)
        x, y = x & ((1 << bit) - 1), y & ((1 << bit) - 1)
    return index


@compiled
def _cut(weight: np.ndarray, size: int) -> np.ndarray:
    """The tile (K,) of each edge when a sequence of edges is filled into tiles of at most ``size`` pairs."""
    tile = np.empty(len(weight), np.int64)
    current, held = 0, 0
    for i in range(len(weight)):
        if held + weight[i] > size:
            current, held = current + 1, 0
        tile[i] = current
        held += weight[i]
    return tile


def _cost(tiles: Tiles, source: np.ndarray, target: np.ndarray) -> int:
    """Reads of a worker that has nothing at the start of each tile, and of one that keeps some images from tile to tile."""
    n = int(max(source.max(), target.max())) + 1
    tile = np.repeat(np.arange(len(tiles)), np.diff(tiles.offsets))
    first, second = source[tiles.order], target[tiles.order]
    return len(np.unique(np.concatenate([tile * n + first, tile * n + second]))) + count_reads(first, second, _CACHED)


@compiled
def count_reads(first: np.ndarray, second: np.ndarray, cached: int) -> int:
    """Images that are read when pairs are matched in order with a least-recently-used cache.

    Args:
        first, second: (E,) int64 numbers of the images of each pair.
        cached: images that the cache holds, at least 1.
    """
    kept = np.full(cached, -1, np.int64)
    reads = 0
    for access in range(2 * len(first)):
        image = second[access // 2] if access % 2 else first[access // 2]
        at = 0
        while at < cached - 1 and kept[at] != image:
            at += 1
        reads += kept[at] != image
        for i_kept in range(at, 0, -1):
            kept[i_kept] = kept[i_kept - 1]
        kept[0] = image
    return reads

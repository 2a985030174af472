"""Labelled pairs for training: which pairs a step takes, which labels of them, and the features of their images.

Everything random is a function of (seed, step) or (seed, step, id) alone. So a run that is resumed at a step, or spread over
several workers, sees exactly the numbers of an unbroken run in one process.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from sc3d.cache import ByteCache
from sc3d.errors import InputError
from sc3d.features import Features
from sc3d.grid import Letterbox
from sc3d.records import Labels
from training.adapter import feature_dims, source_names

DEFAULT_CACHE_BYTES = 2 * 2**30


def generator(seed: int, step: int, *names: str) -> np.random.Generator:
    """The random numbers that belong to a step, or to a named thing in a step."""
    return np.random.default_rng([seed, step, *(zlib.crc32(n.encode()) for n in names)])


@dataclass(frozen=True, eq=False)
class PairSample:
    """The labels of one pair that one step trains on.

    ``source_cells``, ``target_cells`` (N,) int64 flat cells; ``source_xy``, ``target_xy`` (N, 2) float64 grid coordinates in cells
    (the centre of the first cell is 0.5, 0.5).
    """

    pair_id: str
    source_id: str
    target_id: str
    source_cells: np.ndarray
    target_cells: np.ndarray
    source_xy: np.ndarray
    target_xy: np.ndarray


@dataclass(frozen=True, eq=False)
class _Row:
    pair_id: str
    source_id: str
    target_id: str
    source_xy: np.ndarray
    target_xy: np.ndarray


class LabelledPairs:
    """The training set: pairs with labels, and the features of their images behind a byte-bounded cache.

    Args:
        labels: rows of the label table; pairs without labels are left out. May be a generator: only coordinates are kept.
        load_features: image id -> features; called again for an image that the cache let go.
        cache_bytes: bound of the cache; a foundation-model image takes about 13 MB.

    Raises:
        InputError: no pair has a label.
    """

    def __init__(
        self, labels: Iterable[Labels], load_features: Callable[[str], Features], cache_bytes: int = DEFAULT_CACHE_BYTES
    ) -> None:
        kept = (_Row(r.pair_id, r.source_id, r.target_id, r.source_xy, r.target_xy) for r in labels if len(r))
        self._rows = sorted(kept, key=lambda r: r.pair_id)
        if not self._rows:
            raise InputError("no pair has a label: nothing to train on; look at the label stage's counts and thresholds")
        self._by_id = {r.pair_id: r for r in self._rows}
        # Surface and 3D descriptors are most of an offline image's bytes, and training does not read them.
        self._cache: ByteCache[str, Features] = ByteCache(
            lambda image_id: replace(load_features(image_id), shape=None, surface=None), lambda f: f.n_bytes, cache_bytes
        )
        self._chunks = lru_cache(maxsize=2)(self._chunks_of_epoch)

    def __len__(self) -> int:
        """Pairs that have labels."""
        return len(self._rows)

    @property
    def image_ids(self) -> list[str]:
        """Sorted ids of all images that occur in a labelled pair."""
        return sorted({i for r in self._rows for i in (r.source_id, r.target_id)})

    def features(self, image_id: str) -> Features:
        """Features of one image, without its surface."""
        return self._cache.get(image_id)

    @property
    def source_names(self) -> list[str]:
        """Names of the adapter's sources, read off the first image."""
        return source_names(self.features(self._rows[0].source_id))

    @property
    def feature_dims(self) -> list[int]:
        """Channels of the adapter's sources, read off the first image."""
        return feature_dims(self.features(self._rows[0].source_id))

    def pairs_of_step(self, seed: int, step: int, pairs_per_step: int) -> list[str]:
        """Ids of the pairs of a step.

        Every epoch goes once through all pairs in a new order. The pairs of a step share their source where they can, since an image
        is embedded once a step however many of its pairs ask for it.
        """
        epoch, position = divmod(step, -(-len(self) // pairs_per_step))
        return [self._rows[i].pair_id for i in self._chunks(seed, epoch, pairs_per_step)[position]]

    def sample(self, seed: int, step: int, pair_ids: Sequence[str], labels_per_pair: int) -> list[PairSample]:
        """At most ``labels_per_pair`` labels of each pair, drawn anew at each step without replacement."""
        return [self._sample_labels(seed, step, self._by_id[i], labels_per_pair) for i in pair_ids]

    def _chunks_of_epoch(self, seed: int, epoch: int, size: int) -> list[list[int]]:
        rng = generator(seed, epoch, "epoch")
        by_source: dict[str, list[int]] = {}
        for i in rng.permutation(len(self._rows)):
            by_source.setdefault(self._rows[i].source_id, []).append(int(i))
        ordered = [i for rows in by_source.values() for i in rows]
        # Cyclic, so that every epoch has one number of full chunks and steps of unequal size do not occur.
        count = -(-len(ordered) // size)
        chunks = [[ordered[(start * size + k) % len(ordered)] for k in range(size)] for start in range(count)]
        return [chunks[i] for i in rng.permutation(count)]

    def _sample_labels(self, seed: int, step: int, row: _Row, count: int) -> PairSample:
        rng = generator(seed, step, row.pair_id)
        n = len(row.source_xy)
        chosen = rng.choice(n, size=count, replace=False) if n > count else np.arange(n)
        source, target = self.features(row.source_id).letterbox, self.features(row.target_id).letterbox
        source_xy, target_xy = row.source_xy[chosen], row.target_xy[chosen]
        return PairSample(
            row.pair_id,
            row.source_id,
            row.target_id,
            source.cells_of(source_xy),
            target.cells_of(target_xy),
            grid_xy(source, source_xy),
            grid_xy(target, target_xy),
        )


def grid_xy(letterbox: Letterbox, xy: np.ndarray) -> np.ndarray:
    """Image pixels (N, 2) -> grid coordinates (N, 2) in cells: a cell's centre has the fraction 0.5."""
    return letterbox.to_square(xy) / letterbox.cell_size

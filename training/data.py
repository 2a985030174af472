"""Labelled pairs for training: which pairs a step takes, which labels of them, and the features of their images.

Everything random is a function of (seed, step) or (seed, step, id) alone. So a run that is resumed at a step, or spread over
several workers, sees exactly the numbers of an unbroken run in one process.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sc3d.cache import ByteCache
from sc3d.errors import InputError
from sc3d.features import Features
from sc3d.grid import Letterbox
from sc3d.pair_ids import split_pair_id
from sc3d.records import Labels
from training.adapter import feature_dims, source_names
from training.label_set import LabelSet

DEFAULT_CACHE_BYTES = 2 * 2**30


def generator(seed: int, step: int, *names: str) -> np.random.Generator:
    """The random numbers that belong to a step, or to a named thing in a step."""
    return np.random.default_rng([seed, step, *(zlib.crc32(n.encode()) for n in names)])


@dataclass(frozen=True, eq=False)
class PairSample:
    """The labels of one pair that one step trains on.

    ``source_cells``, ``target_cells`` (N,) int64 flat cells; ``source_xy``, ``target_xy`` (N, 2) float64 grid coordinates in cells
    (the centre of the first cell is 0.5, 0.5); ``confidence`` (N,) float64 in (0, 1], see :meth:`training.label_set.LabelSet.confidence`.
    """

    pair_id: str
    source_id: str
    target_id: str
    source_cells: np.ndarray
    target_cells: np.ndarray
    source_xy: np.ndarray
    target_xy: np.ndarray
    confidence: np.ndarray

    @classmethod
    def of(
        cls,
        pair_id: str,
        source_xy: np.ndarray,
        target_xy: np.ndarray,
        source: Letterbox,
        target: Letterbox,
        confidence: np.ndarray | None = None,
    ) -> PairSample:
        """Of image pixels (N, 2), the letterboxes of both images, and the labels' confidence, by default 1."""
        source_id, target_id = split_pair_id(pair_id)
        cells = source.cells_of(source_xy), target.cells_of(target_xy)
        weights = np.ones(len(source_xy)) if confidence is None else confidence
        return cls(pair_id, source_id, target_id, *cells, grid_xy(source, source_xy), grid_xy(target, target_xy), weights)

    def at(self, chosen: np.ndarray) -> PairSample:
        """Some of the labels."""
        arrays = (a[chosen] for a in (self.source_cells, self.target_cells, self.source_xy, self.target_xy, self.confidence))
        return PairSample(self.pair_id, self.source_id, self.target_id, *arrays)

    def reversed(self) -> PairSample:
        """The same labels from the target to the source, under the same id."""
        cells, xy = (self.target_cells, self.source_cells), (self.target_xy, self.source_xy)
        return PairSample(self.pair_id, self.target_id, self.source_id, *cells, *xy, self.confidence)


class LabelledPairs:
    """The training set: pairs with labels, and the features of their images behind a byte-bounded cache.

    Args:
        labels: rows of the label table, or a label set made of them; pairs without labels are left out.
        load_features: image id -> features; called again for an image that the cache let go. May be called from several threads at once.
        cache_bytes: bound of the cache; a foundation-model image takes about 13 MB.
        held_out: ids of pairs that are not trained on.
        slot_weights: of the feature slots, for adapters that keep a share of the features.

    Raises:
        InputError: no pair has a label, or all are held out.
        SchemaError: a pair has an id that is none.
    """

    def __init__(
        self,
        labels: LabelSet | Iterable[Labels],
        load_features: Callable[[str], Features],
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        held_out: Collection[str] = (),
        slot_weights: Mapping[str, float] | None = None,
    ) -> None:
        self.slot_weights: Mapping[str, float] = slot_weights or {}
        self._labels = labels if isinstance(labels, LabelSet) else LabelSet.of(labels)
        kept = pc.invert(pc.is_in(self._labels.pair_ids, value_set=pa.array(held_out, pa.string())))
        self._trained = np.flatnonzero(kept.to_numpy(zero_copy_only=False))
        if not len(self._trained):
            raise InputError("all labelled pairs are held out: nothing to train on; lower train.validation_share")
        self._image_ids = self._labels.image_ids
        self._source_code = self._labels.ends()[0].indices.to_numpy()[self._trained]
        # Surface and 3D descriptors are most of an offline image's bytes, and training does not read them.
        self._cache: ByteCache[str, Features] = ByteCache(
            lambda image_id: replace(load_features(image_id), shape=None, surface=None), lambda f: f.n_bytes, cache_bytes
        )
        self._chunks = lru_cache(maxsize=2)(self._chunks_of_epoch)

    def __len__(self) -> int:
        """Pairs that are trained on."""
        return len(self._trained)

    @property
    def image_ids(self) -> list[str]:
        """Sorted ids of all images that occur in a labelled pair."""
        return self._image_ids

    def features(self, image_id: str) -> Features:
        """Features of one image, without its surface."""
        return self._cache.get(image_id)

    @property
    def source_names(self) -> list[str]:
        """Names of the adapter's sources, read off the first image."""
        return source_names(self.features(self._image_ids[0]))

    @property
    def feature_dims(self) -> list[int]:
        """Channels of the adapter's sources, read off the first image."""
        return feature_dims(self.features(self._image_ids[0]))

    def pairs_of_step(self, seed: int, step: int, pairs_per_step: int) -> list[str]:
        """Ids of the pairs of a step.

        Every epoch goes once through all pairs in a new order. The pairs of a step share their source where they can, since an image
        is embedded once a step however many of its pairs ask for it.
        """
        epoch, position = divmod(step, -(-len(self) // pairs_per_step))
        return [self._labels.pair_id(int(self._trained[i])) for i in self._chunks(seed, epoch, pairs_per_step)[position]]

    def sample(self, seed: int, step: int, pair_ids: Sequence[str], labels_per_pair: int) -> list[PairSample]:
        """At most ``labels_per_pair`` labels of each pair, drawn without replacement, anew for each ``step``."""
        return [self._sample_labels(seed, step, i, labels_per_pair) for i in pair_ids]

    def _chunks_of_epoch(self, seed: int, epoch: int, size: int) -> np.ndarray:
        rng = generator(seed, epoch, "epoch")
        permuted = rng.permutation(len(self))
        codes = self._source_code[permuted]
        # Sources in the order of their first pair, and under each its pairs in the order of the permutation.
        first = np.full(int(codes.max()) + 1, len(self))
        np.minimum.at(first, codes, np.arange(len(self)))
        ordered = permuted[np.argsort(first[codes], kind="stable")]
        # Cyclic, so that every epoch has one number of full chunks and steps of unequal size do not occur.
        count = -(-len(ordered) // size)
        chunks: np.ndarray = ordered[(np.arange(count)[:, None] * size + np.arange(size)) % len(ordered)]
        return chunks[rng.permutation(count)]

    def _sample_labels(self, seed: int, step: int, pair_id: str, count: int) -> PairSample:
        rng = generator(seed, step, pair_id)
        source_id, target_id = split_pair_id(pair_id)
        index = self._labels.index_of(pair_id)
        source_xy, target_xy = self._labels.coordinates(index)
        n = len(source_xy)
        chosen = rng.choice(n, size=count, replace=False) if n > count else np.arange(n)
        source, target = self.features(source_id).letterbox, self.features(target_id).letterbox
        confidence = self._labels.confidence(index)[chosen]
        return PairSample.of(pair_id, source_xy[chosen], target_xy[chosen], source, target, confidence)


def grid_xy(letterbox: Letterbox, xy: np.ndarray) -> np.ndarray:
    """Image pixels (N, 2) -> grid coordinates (N, 2) in cells: a cell's centre has the fraction 0.5."""
    return letterbox.to_square(xy) / letterbox.cell_size

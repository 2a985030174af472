"""Labels as training reads them: coordinates only, in a memory-mapped file, so that a million pairs take no more memory than a thousand."""

from __future__ import annotations

import os
import tempfile
from bisect import bisect_left
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc

from sc3d.errors import InputError, StoreError
from sc3d.pair_ids import split_pair_ids
from sc3d.records import Labels
from sc3d.schema import arrow_schema, to_table

COLUMNS = ("pair_id", "category", "source_xy", "target_xy", "geodesic_error", "tau_geo")
_LEAST_CONFIDENCE = 0.02


class LabelSet:
    """The pairs that have labels, in the order of their ids, and the coordinates of these labels.

    Args:
        table: the columns :data:`COLUMNS` of :class:`~sc3d.records.Labels`, in any order of rows. Of pairs that occur twice, one counts.

    Raises:
        InputError: no pair has a label.
    """

    def __init__(self, table: pa.Table) -> None:
        self._source, self._target, self._error = table["source_xy"], table["target_xy"], table["geodesic_error"]
        self._tau = table["tau_geo"].to_numpy()
        ids = table["pair_id"].combine_chunks()
        ids = ids.chunk(0) if isinstance(ids, pa.ChunkedArray) else ids
        labelled = pc.greater(pc.list_value_length(self._source), 0).to_numpy()
        order = pc.sort_indices(ids).to_numpy()
        order = order[labelled[order]]
        if not len(order):
            raise InputError("no pair has a label: nothing to train on; look at the label stage's counts and thresholds")
        sorted_ids = ids.take(pa.array(order))
        new = np.ones(len(order), bool)
        new[1:] = pc.not_equal(sorted_ids[1:], sorted_ids[:-1]).to_numpy(zero_copy_only=False)
        self._rows = order[new]
        self._ids = sorted_ids.filter(pa.array(new))
        self._categories = table["category"].take(pa.array(self._rows)).combine_chunks().dictionary_encode()
        self._chunk_ends = np.cumsum([len(chunk) for chunk in self._source.chunks])

    @classmethod
    def of(cls, labels: Iterable[Labels]) -> LabelSet:
        """Of records in memory."""
        return cls(to_table(Labels, list(labels)).select(COLUMNS))

    @classmethod
    def read(cls, tables: Iterable[pa.Table], scratch: Path) -> LabelSet:
        """Of tables of labels, one in memory at a time; what training needs of them goes to an unnamed file in ``scratch``.

        Raises:
            InputError: no pair has a label.
            SchemaError, StoreError: a file cannot be read, or ``scratch`` not be written.
        """
        try:
            scratch.mkdir(parents=True, exist_ok=True)
            handle, path = tempfile.mkstemp(prefix="labels-", dir=scratch)
            try:
                with os.fdopen(handle, "wb") as stream, pa.ipc.new_file(stream, _schema()) as writer:
                    for table in tables:
                        writer.write_table(table.select(COLUMNS).replace_schema_metadata(None).cast(_schema()).combine_chunks())
                table = pa.ipc.open_file(pa.memory_map(path)).read_all()
            finally:
                # What is mapped stays until the last reader is gone, and nothing is left when a process is killed.
                Path(path).unlink()
        except OSError as error:
            raise StoreError(
                f"cannot keep labels in {scratch}: {error.strerror or error}; is there space? See train.cache"
            ) from None
        return cls(table)

    def __len__(self) -> int:
        return len(self._rows)

    def pair_id(self, index: int) -> str:
        """Id of a pair."""
        return str(self._ids[index].as_py())

    @property
    def pair_ids(self) -> pa.Array:
        """Ids of all pairs, ascending."""
        return self._ids

    @property
    def image_ids(self) -> list[str]:
        """Sorted ids of all images in these pairs."""
        return sorted({image_id for side in self.ends() for image_id in side.dictionary.to_pylist()})

    def counts(self) -> dict[str, int]:
        """Category -> pairs that have labels."""
        counts = np.bincount(self._categories.indices.to_numpy())
        return dict(zip(self._categories.dictionary.to_pylist(), counts.tolist(), strict=True))

    def ids_by_category(self) -> dict[str, list[str]]:
        """Category -> ids of its pairs."""
        codes = self._categories.indices.to_numpy()
        return {
            category: self._ids.take(pa.array(np.flatnonzero(codes == code))).to_pylist()
            for code, category in enumerate(self._categories.dictionary.to_pylist())
        }

    def index_of(self, pair_id: str) -> int:
        """Place of a pair; raises KeyError if it has no labels."""
        index = bisect_left(range(len(self)), pair_id, key=self.pair_id)
        if index == len(self) or self.pair_id(index) != pair_id:
            raise KeyError(pair_id)
        return index

    def coordinates(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (N, 2) float32 of a pair's labels in the source and in the target image; views, not to be written to."""
        chunk, row = self._place(index)
        source, target = (column.chunk(chunk)[row].values.to_numpy().reshape(-1, 2) for column in (self._source, self._target))
        return source, target

    def confidence(self, index: int) -> np.ndarray:
        """How far below the threshold the geodesic error of each of a pair's labels is, from 1 (no error) down to 0.02: (N,) float64.

        Labels that were made without a threshold, as imported ones, have 1.
        """
        chunk, row = self._place(index)
        tau = float(self._tau[self._rows[index]])
        error: np.ndarray = self._error.chunk(chunk)[row].values.to_numpy().astype(np.float64)
        return np.maximum(1 - error / tau, _LEAST_CONFIDENCE) if tau > 0 else np.ones(len(error))

    def _place(self, index: int) -> tuple[int, int]:
        """Chunk of the table, and row in it, of a pair."""
        row = int(self._rows[index])
        chunk = int(np.searchsorted(self._chunk_ends, row, side="right"))
        return chunk, row - (int(self._chunk_ends[chunk - 1]) if chunk else 0)

    def ends(self) -> tuple[pa.Array, pa.Array]:
        """Image ids of all sources and of all targets, as dictionary-encoded arrays in the order of the pairs.

        Raises:
            SchemaError: a pair has an id that is none.
        """
        source, target = split_pair_ids(self._ids)
        return source.dictionary_encode(), target.dictionary_encode()


def _schema() -> pa.Schema:
    whole = arrow_schema(Labels)
    return pa.schema([pa.field(name, whole.field(name).type) for name in COLUMNS])

"""What a stage keeps in a run folder: where its shards are, what they hold, what was rejected, and how a shard is committed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sc3d.errors import DamagedFileError
from sc3d.records import Reject
from sc3d.schema import Record
from sc3d.shards import Shard
from sc3d.store import RunFolder

_READERS = 16

MISSING, KEPT, REJECTED = range(3)
"""What a stage knows of an id."""


@dataclass(frozen=True)
class Artefacts:
    """Where one stage keeps the records of one recipe, and what is there.

    ``folder``: the stage's folder in the run; ``key``: the id column of ``record``; ``by_category``: hive-style category folders.
    """

    run: RunFolder
    stage: str
    folder: str
    recipe: str
    record: type[Record]
    key: str
    by_category: bool = False

    @property
    def prefix(self) -> str:
        """Folder of this recipe's shards."""
        return f"{self.folder}/{self.recipe}"

    @property
    def reject_prefix(self) -> str:
        """Folder of this recipe's rejects."""
        return f"rejects/{self.stage}/{self.recipe}"

    def file(self, shard: Shard) -> str:
        """Name of a shard's file."""
        middle = f"category={shard.category}/" if self.by_category else ""
        return f"{self.prefix}/{middle}{shard.name}.parquet"

    def reject_file(self, shard: Shard) -> str:
        """Name of the file with a shard's rejects."""
        return f"{self.reject_prefix}/{shard.name}.parquet"

    @property
    def _retried_file(self) -> str:
        # Not among the reject files: these are attempts of the past.
        return f"retried/{self.stage}/{self.recipe}.parquet"

    def files(self) -> list[str]:
        """All shards that are there."""
        return self.run.names(self.prefix, ".parquet")

    def catalogue(self) -> Catalogue:
        """What the finished shards hold. A damaged shard counts as missing: it is deleted, to be made again."""
        files = self.files()
        with ThreadPoolExecutor(_READERS) as pool:
            ids = list(pool.map(self._ids_of, files))
        counts = np.array([len(one) for one in ids], np.int64)
        return Catalogue(self, tuple(files), pa.chunked_array(ids, pa.string()), np.repeat(np.arange(len(ids)), counts))

    def _ids_of(self, name: str) -> pa.Array:
        try:
            return self.run.read_table(self.record, name, [self.key]).column(self.key).combine_chunks()
        except DamagedFileError:
            self.run.delete(name)
            return pa.array([], pa.string())

    def _reject_files(self) -> list[str]:
        """Those of finished shards. The rejects of a shard that was cut short do not count: it is done again."""
        finished = {_stem(name) for name in self.files()}
        return [name for name in self.run.names(self.reject_prefix, ".parquet") if _stem(name) in finished]

    def rejects(self) -> list[Reject]:
        """All rejects of finished shards of this recipe."""
        with ThreadPoolExecutor(_READERS) as pool:
            found = pool.map(lambda name: self.run.read_records(Reject, name), self._reject_files())
            return [reject for rejects in found for reject in rejects]

    def rejected_ids(self) -> pa.ChunkedArray:
        """Ids of all rejects of finished shards of this recipe."""
        with ThreadPoolExecutor(_READERS) as pool:
            found = pool.map(lambda name: self.run.read_table(Reject, name, ["id"]).column("id"), self._reject_files())
            return pa.chunked_array([chunk for column in found for chunk in column.chunks], pa.string())

    def standing(self, ids: pa.Array | pa.ChunkedArray) -> Standing:
        """What is known of some ids, looked up in the run folder."""
        catalogue = self.catalogue()
        place = pc.index_in(ids, value_set=catalogue.ids)
        kept = place.is_valid().to_numpy(zero_copy_only=False)
        file = np.full(len(ids), -1, np.int64)
        file[kept] = catalogue.file_of[place.drop_null().to_numpy()]
        state = np.where(kept, KEPT, MISSING)
        if not kept.all():
            rejected = pc.is_in(ids, value_set=self.rejected_ids()).to_numpy(zero_copy_only=False)
            state[rejected & ~kept] = REJECTED
        return Standing(state, catalogue.files, file)

    def finished(self, shard: Shard) -> list[int] | None:
        """The states of a shard's ids if it is there and answers for exactly these; else ``None``."""
        name = self.file(shard)
        if not self.run.exists(name):
            return None
        kept = set(self._ids_of(name).to_pylist())
        reject_file = self.reject_file(shard)
        rejected = {reject.id for reject in self.run.read_records(Reject, reject_file)} if self.run.exists(reject_file) else set()
        if kept | rejected != set(shard.ids):
            return None
        return [KEPT if id_ in kept else REJECTED for id_ in shard.ids]

    def commit(self, shard: Shard, rows: Sequence[Record], rejects: Sequence[Reject]) -> None:
        """Write a finished shard: first its rejects, then its rows, whose file says that the shard is done (even when it is empty)."""
        if rejects:
            tried = self._attempts
            self.run.write_records(
                Reject, self.reject_file(shard), [replace(r, attempts=r.attempts + tried.get(r.id, 0)) for r in rejects]
            )
        else:
            self.run.delete(self.reject_file(shard))
        self.run.write_records(self.record, self.file(shard), rows)

    def forget_rejects(self) -> int:
        """Make every rejected id missing again, so that the next run tries it once more; returns how many there were.

        How often each was tried is kept for its next reject. A call that is cut short is finished by the next one.
        """
        files = self._reject_files()
        gone = [reject for name in files for reject in self.run.read_records(Reject, name)]
        if gone:
            earlier = self.run.read_records(Reject, self._retried_file) if self.run.exists(self._retried_file) else []
            known = {reject.id: reject for reject in [*earlier, *gone]}
            self.run.write_records(Reject, self._retried_file, list(known.values()))
        for name in files:
            self.run.delete(name)
        return len(gone)

    @cached_property
    def _attempts(self) -> Mapping[str, int]:
        """Id -> how often it was tried before its rejects were last forgotten."""
        retried = self.run.read_records(Reject, self._retried_file) if self.run.exists(self._retried_file) else []
        return {reject.id: reject.attempts for reject in retried}


@dataclass(frozen=True, eq=False)
class Standing:
    """How far a stage has come with N ids.

    ``state`` (N,) int64: MISSING, KEPT or REJECTED. ``file`` (N,) int64: which of ``files`` holds a kept id; -1 for the others.
    """

    state: np.ndarray
    files: tuple[str, ...]
    file: np.ndarray

    def files_of(self, rows: np.ndarray) -> tuple[str, ...]:
        """The files that hold the ids at some rows."""
        return tuple(self.files[i] for i in np.unique(self.file[rows]) if i >= 0)


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Which shard file holds which id, for one recipe of one stage: id ``ids[i]`` is in ``files[file_of[i]]``."""

    artefacts: Artefacts
    files: tuple[str, ...]
    ids: pa.ChunkedArray
    file_of: np.ndarray

    @cached_property
    def located(self) -> Mapping[str, str]:
        """Id -> the shard file that holds its record."""
        return {id_: self.files[file] for id_, file in zip(self.ids.to_pylist(), self.file_of.tolist(), strict=True)}

    def __contains__(self, id_: object) -> bool:
        return id_ in self.located

    def among(self, items: pa.Table) -> pa.Table:
        """Those of a table of items that are there."""
        return items.filter(pc.is_in(items["id"], value_set=self.ids))

    def read(self, ids: Iterable[str]) -> dict[str, Any]:
        """Id -> record, for those of ``ids`` that are there. Each shard file is read once."""
        located = self.located
        wanted = {id_: located[id_] for id_ in ids if id_ in located}
        return read_from(self.artefacts, sorted(set(wanted.values())), wanted)

    def read_all(self) -> list[Any]:
        """All records, in the order of their ids."""
        found = self.read(self.located)
        return [found[id_] for id_ in sorted(found)]


def read_from(artefacts: Artefacts, files: Iterable[str], ids: Iterable[str]) -> dict[str, Any]:
    """Id -> record, for those of ``ids`` that are in the given shard files."""
    wanted = set(ids)
    records: Iterator[Record] = (record for name in files for record in artefacts.run.read_records(artefacts.record, name))
    return {key: record for record in records if (key := getattr(record, artefacts.key)) in wanted}


def _stem(name: str) -> str:
    return name.rpartition("/")[2].removesuffix(".parquet")

"""What a stage keeps in a run folder: where its shards are, what they hold, what was rejected, and how a shard is committed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby, islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sc3d.errors import DamagedFileError
from sc3d.fence import numbered
from sc3d.records import Reject
from sc3d.schema import Record, arrow_schema, from_table, to_table
from sc3d.seals import counted_files, newest_seal
from sc3d.shards import COUNTED, Shard, shard_name
from sc3d.store import RunFolder

_READERS = 16

INPUTS = "inputs"
"""Column of every shard beside those of its record: what a row was made from."""

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
        """Name of a shard's file, as this run commits it."""
        middle = f"category={shard.category}/" if self.by_category else ""
        return f"{self.prefix}/{middle}{self._numbered(shard)}.parquet"

    def reject_file(self, shard: Shard) -> str:
        """Name of the file with a shard's rejects, as this run commits it."""
        return self.reject_file_of(self._numbered(shard))

    def _numbered(self, shard: Shard) -> str:
        number = self.run.number
        if not number and (last := newest_seal(self.run)):
            # What is written by hand, without the lease, counts as of the run before.
            number = last.number
        return numbered(shard.name, number)

    @property
    def _retried_file(self) -> str:
        # Not among the reject files: these are attempts of the past.
        return f"retried/{self.stage}/{self.recipe}.parquet"

    def files(self) -> list[str]:
        """All shards that are there and not of a run that was replaced before it wrote them (:mod:`sc3d.seals`)."""
        return counted_files(self.run, self.prefix, ".parquet")

    def catalogue(self, wanted: pa.Table) -> Catalogue:
        """Which of the rows that are there count.

        Rows of other ids, and rows that were made from other inputs, may lie about: nobody takes them. Of rows that are there twice, one
        counts. A damaged file counts as missing; whoever runs the stage next makes it again.

        Args:
            wanted: ids and inputs (:data:`~sc3d.shards.COUNTED`), each id once.
        """
        files = self.files()
        found = self._rows_of_all(files)
        damaged = tuple(name for name, table in zip(files, found, strict=True) if table is None)
        sizes = np.array([0 if table is None else len(table) for table in found], np.int64)
        rows = pa.concat_tables([COUNTED.empty_table(), *(table for table in found if table is not None)])
        counted, found_rows = _counted_among(rows, wanted)
        file = np.repeat(np.arange(len(sizes)), sizes)
        row = np.arange(len(rows)) - (np.cumsum(sizes) - sizes)[file]
        ids = rows["id"].take(pa.array(counted))
        others = np.delete(file, counted)
        doubled = found_rows - len(counted)
        return Catalogue(self, tuple(files), ids, file[counted], row[counted], others, wanted, damaged, doubled)

    def columns(self, wanted: pa.Table, names: Sequence[str]) -> pa.Table:
        """Some columns of all rows that count, as :meth:`Catalogue.columns` has them; each file is read once, not twice."""
        fields = [arrow_schema(self.record).field(name) for name in names]
        empty = pa.schema([*COUNTED, *fields]).empty_table()
        rows = pa.concat_tables([empty, *(table for table in self._rows_of_all(self.files(), names) if table is not None)])
        return rows.take(pa.array(_counted_among(rows, wanted)[0])).select([*range(len(COUNTED), len(rows.column_names))])

    def all_ids(self) -> pa.Array:
        """Ids of all rows that are there, each once, whether they count or not."""
        tables = [table for table in self._rows_of_all(self.files()) if table is not None]
        return pc.unique(pa.concat_tables([COUNTED.empty_table(), *tables])["id"].combine_chunks())

    def _rows_of_all(self, files: Sequence[str], names: Sequence[str] = ()) -> list[pa.Table | None]:
        with ThreadPoolExecutor(_READERS) as pool:
            return list(pool.map(lambda name: self._rows_of(name, names), files))

    def _rows_of(self, name: str, names: Sequence[str] = ()) -> pa.Table | None:
        """Ids and inputs of a file's rows, and some more of their columns; ``None`` for a damaged one."""
        try:
            return self._ids_and_inputs(name, names)
        except DamagedFileError:
            return None

    def _ids_and_inputs(self, name: str, names: Sequence[str] = ()) -> pa.Table:
        table = self.run.read_table(self.record, name, [*dict.fromkeys([self.key, INPUTS, *names])])
        try:
            rows = table.select([self.key, INPUTS]).rename_columns(COUNTED.names).cast(COUNTED)
            for column in names:
                rows = rows.append_column(table.schema.field(column), table[column])
            return rows
        except (pa.ArrowException, ValueError) as error:
            raise DamagedFileError(
                f"{name}: its column '{INPUTS}' is no text ({error}); delete it and run its stage again"
            ) from None

    def _reject_files(self) -> dict[str, str]:
        """Reject file -> its shard's file. The rejects of a shard that was cut short do not count: it is done again."""
        finished = {_stem(name): name for name in self.files()}
        names = counted_files(self.run, self.reject_prefix, ".parquet")
        return {name: finished[_stem(name)] for name in names if _stem(name) in finished}

    def reject_file_of(self, name: str) -> str:
        """Name of the file with the rejects of a shard file."""
        return f"{self.reject_prefix}/{_stem(name)}.parquet"

    def left_over(self, catalogue: Catalogue) -> tuple[list[str], list[str]]:
        """Of its shard files, those without anything that counts, and those that hold something else beside it."""
        # The file of a shard whose rows were all rejected says that it is done.
        kept = {*catalogue.files_used, *(file for file, rejects in self._counted_rejects(catalogue.counted) if rejects)}
        holding = {catalogue.files[i] for i in set(catalogue.file_of_others.tolist())}
        return [name for name in catalogue.files if name not in kept], sorted(holding & kept)

    def rejects(self, wanted: pa.Table) -> list[Reject]:
        """The rejects of finished shards that count, as rows do (see :meth:`catalogue`), each id once."""
        return list({one.id: one for _, rejects in self._counted_rejects(wanted) for one in rejects}.values())

    def _counted_rejects(self, wanted: pa.Table) -> Iterator[tuple[str, list[Reject]]]:
        """The file of each finished shard that has rejects, and those of them that count."""
        files = self._reject_files()
        if not files:
            return
        known = _inputs_by_id(wanted)
        with ThreadPoolExecutor(_READERS) as pool:
            found = pool.map(lambda name: self.run.read_records(Reject, name), files)
            for shard_file, rejects in zip(files.values(), found, strict=True):
                yield shard_file, [one for one in rejects if known.get(one.id) == one.inputs]

    def standing(self, wanted: pa.Table) -> Standing:
        """How far the stage has come with what is wanted (:data:`~sc3d.shards.COUNTED`), looked up in the run folder.

        For those who write the folder: damaged files are deleted, since what is made again may lie in others.
        """
        catalogue = self.catalogue(wanted)
        for name in catalogue.damaged:
            self.run.delete(name)
        place = pc.index_in(wanted["id"], value_set=catalogue.ids.combine_chunks())
        kept = place.is_valid().to_numpy(zero_copy_only=False)
        file = np.full(len(wanted), -1, np.int64)
        file[kept] = catalogue.file_of[place.drop_null().to_numpy()]
        state = np.where(kept, KEPT, MISSING)
        if not kept.all():
            rejected = pa.array([one.id for one in self.rejects(wanted)], pa.string())
            state[pc.is_in(wanted["id"], value_set=rejected).to_numpy(zero_copy_only=False) & ~kept] = REJECTED
        return Standing(state, catalogue.files, file)

    def finished(self, shard: Shard) -> list[int] | None:
        """The states of a shard's ids if it is there and answers for exactly these; else ``None``."""
        name = self.file(shard)
        if not self.run.exists(name):
            return None
        rows = self._rows_of(name)
        if rows is None:
            return None
        kept = set(rows["id"].to_pylist())
        reject_file = self.reject_file(shard)
        rejected = {reject.id for reject in self.run.read_records(Reject, reject_file)} if self.run.exists(reject_file) else set()
        if kept | rejected != set(shard.ids):
            return None
        return [KEPT if id_ in kept else REJECTED for id_ in shard.ids]

    def commit(self, shard: Shard, rows: Sequence[Record], rejects: Sequence[Reject]) -> None:
        """Write a finished shard: first its rejects, then its rows, whose file says that the shard is done (even when it is empty)."""
        inputs = shard.inputs_of
        if rejects:
            tried = self._attempts
            marked = [replace(r, attempts=r.attempts + tried.get(r.id, 0), inputs=inputs[r.id]) for r in rejects]
            self.run.write_records(Reject, self.reject_file(shard), marked)
        else:
            self.run.delete(self.reject_file(shard))
        table = to_table(self.record, rows)
        made_from = pa.array([inputs[id_] for id_ in table[self.key].to_pylist()], pa.string())
        self.run.write_table(self.file(shard), table.append_column(INPUTS, made_from))

    def keep_counted(self, catalogue: Catalogue, name: str) -> list[str]:
        """Write what counts of a shard file as a shard of its own; returns the files that are to be taken away then (:mod:`sc3d.seals`).

        Until they are, rows are there twice: one counts.
        """
        table = catalogue.table(name)
        old = self.reject_file_of(name)
        known = catalogue.wanted
        rejects = self.run.read_records(Reject, old) if self.run.exists(old) else []
        # With the reject of an id that is kept elsewhere, the new shard could take the name of the file that keeps it.
        rejects = [one for one in rejects if known.get(one.id) == one.inputs and one.id not in catalogue]
        inputs = dict(zip(table[self.key].to_pylist(), table[INPUTS].to_pylist(), strict=True)) | {
            one.id: one.inputs for one in rejects
        }
        shard = Shard(category_of(name), tuple(inputs), tuple(inputs.values()))
        if self.file(shard) == name:
            return []
        if rejects:
            self.run.write_records(Reject, self.reject_file(shard), rejects)
        self.run.write_table(self.file(shard), table)
        return [name, old]

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
    """The rows of one recipe of one stage that count: id ``ids[i]`` is row ``row_of[i]`` of ``files[file_of[i]]``.

    ``file_of_others``: of each row that does not count, which file it is in. ``counted``: what was asked for. ``damaged``: files of
    which nobody knows what is in them. ``doubled``: how many rows do not count because another one of their id does.
    """

    artefacts: Artefacts
    files: tuple[str, ...]
    ids: pa.ChunkedArray
    file_of: np.ndarray
    row_of: np.ndarray
    file_of_others: np.ndarray
    counted: pa.Table
    damaged: tuple[str, ...] = ()
    doubled: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def wanted(self) -> Mapping[str, str]:
        """Id -> what its row has to be made from."""
        return _inputs_by_id(self.counted)

    @cached_property
    def located(self) -> Mapping[str, int]:
        """Id -> its place in ``ids``."""
        return {id_: place for place, id_ in enumerate(self.ids.to_pylist())}

    def __contains__(self, id_: object) -> bool:
        return id_ in self.located

    def refuse_damaged(self) -> None:
        """For those who need all that was made: raise :class:`DamagedFileError` if a file is damaged, so that its rows are missing."""
        for name in self.damaged:
            self.artefacts.run.read_table(self.artefacts.record, name)

    def among(self, items: pa.Table) -> pa.Table:
        """Those of a table of items that are there."""
        return items.filter(pc.is_in(items["id"], value_set=self.ids.combine_chunks()))

    @property
    def files_used(self) -> tuple[str, ...]:
        """The files with rows that count."""
        return tuple(self.files[i] for i in np.unique(self.file_of))

    @cached_property
    def _numbers(self) -> Mapping[str, int]:
        return {name: number for number, name in enumerate(self.files)}

    def rows_of(self, name: str) -> np.ndarray:
        """Which rows of a file count."""
        # What counts is in the order of the files.
        first, last = np.searchsorted(self.file_of, [self._numbers[name], self._numbers[name] + 1])
        found: np.ndarray = self.row_of[first:last]
        return found

    def table(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of a file that count, all or some columns.

        Raises:
            SchemaError: it cannot be read.
        """
        rows = self.rows_of(name)
        return self.artefacts.run.read_table(self.artefacts.record, name, columns).take(pa.array(rows))

    def tables(self, columns: Sequence[str] | None = None, files: Iterable[str] | None = None) -> Iterator[pa.Table]:
        """The rows that count, file by file, a few files at a time; of all files or of some.

        A damaged file is left out: its stage makes it again when it is run next.
        """

        def read(name: str) -> pa.Table | None:
            try:
                return self.table(name, columns)
            except DamagedFileError:
                return None

        names = iter(self.files_used if files is None else files)
        with ThreadPoolExecutor(_READERS) as pool:
            while batch := list(islice(names, _READERS)):
                yield from (table for table in pool.map(read, batch) if table is not None)

    def columns(self, names: Sequence[str]) -> pa.Table:
        """Some columns of all rows that count."""
        empty = arrow_schema(self.artefacts.record).empty_table().select(list(names))
        return pa.concat_tables([empty, *(table.select(list(names)) for table in self.tables(names))])

    def within(self, categories: Collection[str]) -> Catalogue:
        """The rows of some categories alone, of a stage whose shards lie by category; of all where none is named."""
        if not categories:
            return self
        chosen = np.array([category_of(name) in categories for name in self.files], bool)[self.file_of]
        return replace(self, ids=self.ids.filter(pa.array(chosen)), file_of=self.file_of[chosen], row_of=self.row_of[chosen])

    def read(self, ids: Iterable[str]) -> dict[str, Any]:
        """Id -> record, for those of ``ids`` that are there. Each shard file is read once."""
        located = self.located
        places = sorted({located[id_] for id_ in ids if id_ in located}, key=lambda place: self.file_of[place])
        found: dict[str, Any] = {}
        for file, group in groupby(places, key=lambda place: int(self.file_of[place])):
            rows = pa.array(self.row_of[list(group)])
            table = self.artefacts.run.read_table(self.artefacts.record, self.files[file]).take(rows)
            found |= {getattr(one, self.artefacts.key): one for one in from_table(self.artefacts.record, table, self.files[file])}
        return found

    def read_all(self) -> list[Any]:
        """All records, in the order of their ids."""
        found = self.read(self.located)
        return [found[id_] for id_ in sorted(found)]

    def fingerprint(self) -> str:
        """A hash of what counts: of the ids and of what their rows are made from, whichever files they are in."""
        return shard_name(f"{id_} {self.wanted[id_]}" for id_ in self.ids.to_pylist())


def category_of(name: str) -> str:
    """Category of a shard file, from its hive-style folder."""
    return name.rpartition("/")[0].rpartition("/category=")[2]


def read_from(artefacts: Artefacts, files: Iterable[str], inputs_of: Mapping[str, str]) -> dict[str, Any]:
    """Id -> record, for those ids that are in the given shard files, made from what ``inputs_of`` says."""
    found: dict[str, Any] = {}
    for name in files:
        table = artefacts.run.read_table(artefacts.record, name)
        made = zip(table[artefacts.key].to_pylist(), table[INPUTS].to_pylist(), strict=True)
        rows = [row for row, (id_, inputs) in enumerate(made) if inputs_of.get(id_) == inputs]
        records = from_table(artefacts.record, table.take(pa.array(rows, pa.int64())), name)
        found |= {getattr(record, artefacts.key): record for record in records}
    return found


def _counted_among(rows: pa.Table, wanted: pa.Table) -> tuple[np.ndarray, int]:
    """Which of some rows count, in their order, each id once; and how many there are with those that do not count since another does."""
    place = pc.index_in(_keys(rows), value_set=_keys(wanted)).to_numpy(zero_copy_only=False)
    found = np.flatnonzero(~np.isnan(place)) if place.dtype.kind == "f" else np.arange(len(place))
    return np.sort(found[np.unique(place[found], return_index=True)[1]]), len(found)


def _inputs_by_id(counted: pa.Table) -> dict[str, str]:
    return dict(zip(counted["id"].to_pylist(), counted["inputs"].to_pylist(), strict=True))


def _keys(counted: pa.Table) -> pa.Array:
    """Ids and inputs as one text each: no id holds a line break."""
    keys = pc.binary_join_element_wise(counted["id"], counted["inputs"], "\n")
    return keys.combine_chunks() if isinstance(keys, pa.ChunkedArray) else keys


def _stem(name: str) -> str:
    return name.rpartition("/")[2].removesuffix(".parquet")

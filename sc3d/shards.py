"""Recipes and shards: which file an artefact belongs to, and what is left to do.

A *recipe* is a short hash of everything an artefact depends on: the part of the configuration, the model weights, and the recipes it was
made from. A *shard* is a file of rows, named by a hash of the sorted ids that it answers for. Both names are functions of content alone,
so a retried task rewrites the same object and a killed run resumes at the first shard that is missing.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sc3d.errors import DamagedFileError, SchemaError
from sc3d.records import Reject
from sc3d.schema import Record
from sc3d.store import RunFolder

_READERS = 16

ITEMS = pa.schema([pa.field("category", pa.string()), pa.field("id", pa.string())])
"""Columns of a table of items: what a stage answers for. A table, since a million rows of it are two arrays and not a million objects."""


def item_table(items: Iterable[tuple[str, str]]) -> pa.Table:
    """A table of items from (category, id) tuples."""
    rows = list(items)
    return pa.table([[category for category, _ in rows], [id_ for _, id_ in rows]], schema=ITEMS)


def recipe_of(stage: str, fingerprint: Mapping[str, Any]) -> str:
    """Twelve hex digits of what the stage's artefacts depend on. ``fingerprint`` holds plain JSON values."""
    text = json.dumps([stage, fingerprint], sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def shard_name(ids: Iterable[str]) -> str:
    """Sixteen hex digits of the sorted ids."""
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Shard:
    """A unit of work and of resuming: the ids of one category that are written together.

    ``upstream``: the file that holds the rows of all its ids, where the stage planned it so; its workers need no catalogue then.
    """

    category: str
    ids: tuple[str, ...]
    upstream: str | None = None

    @property
    def name(self) -> str:
        """The shard's file name without its ending."""
        return shard_name(self.ids)


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

    def file(self, shard: Shard) -> str:
        """Name of a shard's file."""
        middle = f"category={shard.category}/" if self.by_category else ""
        return f"{self.prefix}/{middle}{shard.name}.parquet"

    def reject_file(self, shard: Shard) -> str:
        """Name of the file with a shard's rejects."""
        return f"rejects/{self.stage}/{self.recipe}/{shard.name}.parquet"

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

    def rejects(self) -> list[Reject]:
        """All rejects of finished shards of this recipe. Those of a shard that was cut short do not count: it is done again."""
        finished = {_stem(name) for name in self.files()}
        names = self.run.names(f"rejects/{self.stage}/{self.recipe}", ".parquet")
        with ThreadPoolExecutor(_READERS) as pool:
            found = pool.map(lambda name: self.run.read_records(Reject, name), [n for n in names if _stem(n) in finished])
            return [reject for rejects in found for reject in rejects]

    def commit(self, shard: Shard, rows: Sequence[Record], rejects: Sequence[Reject]) -> None:
        """Write a finished shard: first its rejects, then its rows, whose file says that the shard is done (even when it is empty)."""
        if rejects:
            self.run.write_records(Reject, self.reject_file(shard), rejects)
        else:
            self.run.delete(self.reject_file(shard))
        self.run.write_records(self.record, self.file(shard), rows)


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

    def by_file(self, items: pa.Table) -> Iterator[tuple[str, pa.Table]]:
        """Shard file -> the items that it holds; those that no file holds are left out. Files and ids in ascending order."""
        row = pc.index_in(items["id"], value_set=self.ids)
        items = items.filter(row.is_valid())
        file = pa.array(self.file_of[row.drop_null().to_numpy()])
        items = items.append_column("file", file).sort_by([("file", "ascending"), ("id", "ascending")])
        bounds = np.flatnonzero(np.diff(items["file"].to_numpy(), prepend=-1, append=-1)).tolist()
        for start, end in itertools.pairwise(bounds):
            part = items.slice(start, end - start)
            yield self.files[part["file"][0].as_py()], part.select(ITEMS.names)

    def read(self, ids: Iterable[str]) -> dict[str, Any]:
        """Id -> record, for those of ``ids`` that are there. Each shard file is read once."""
        wanted: dict[str, set[str]] = {}
        for id_ in ids:
            if id_ in self.located:
                wanted.setdefault(self.located[id_], set()).add(id_)
        found: dict[str, Any] = {}
        for name, members in wanted.items():
            for record in self.artefacts.run.read_records(self.artefacts.record, name):
                key = getattr(record, self.artefacts.key)
                if key in members:
                    found[key] = record
        return found

    def read_all(self) -> list[Any]:
        """All records, in the order of their ids."""
        found = self.read(self.located)
        return [found[id_] for id_ in sorted(found)]


def _stem(name: str) -> str:
    return name.rpartition("/")[2].removesuffix(".parquet")


def refuse_duplicates(ids: pa.ChunkedArray) -> None:
    """Raise :class:`SchemaError` if an id occurs twice."""
    counts = pc.value_counts(ids)
    repeated = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    if len(repeated):
        raise SchemaError(f"id '{repeated[0]}' occurs twice in the manifest; ids must be unique")


def plan_shards(items: pa.Table, size: int) -> list[Shard]:
    """Cut a table of items into shards of at most ``size`` ids of one category. The order of the items does not matter.

    Raises:
        SchemaError: an id occurs twice.
    """
    refuse_duplicates(items["id"])
    items = items.sort_by([("category", "ascending"), ("id", "ascending")]).combine_chunks()
    shards = []
    for category in pc.unique(items["category"]).to_pylist():
        ids = items.filter(pc.equal(items["category"], category))["id"]
        shards += [Shard(category, tuple(ids.slice(start, size).to_pylist())) for start in range(0, len(ids), size)]
    return shards


def remaining_shards(planned: Sequence[Shard], artefacts: Artefacts, plan: Callable[[pa.Table], list[Shard]]) -> list[Shard]:
    """The shards that are still to be computed.

    A planned shard whose file is there is done, and one of which nothing is there is left as it was planned, so a killed run goes on with
    the very same shards. Of the others, ids that shards of the recipe (planned with another manifest, size or method) already hold or
    have rejected are left out, so nothing is computed or written twice; what is left of them is planned anew, by ``plan``.
    """
    catalogue = artefacts.catalogue()
    there = set(artefacts.files())
    missing = [s for s in planned if artefacts.file(s) not in there]
    if not missing or not there:
        return missing
    done = pa.chunked_array([*catalogue.ids.chunks, pa.array([r.id for r in artefacts.rejects()], pa.string())])
    ids = pa.array([id_ for shard in missing for id_ in shard.ids], pa.string())
    held = pc.is_in(ids, value_set=done).to_numpy(zero_copy_only=False)
    untouched, partly, start = [], [], 0
    for shard in missing:
        mine, start = held[start : start + len(shard.ids)], start + len(shard.ids)
        if mine.any():
            partly += [(shard.category, id_) for id_, is_held in zip(shard.ids, mine, strict=True) if not is_held]
        else:
            untouched.append(shard)
    return untouched + (plan(item_table(partly)) if partly else [])

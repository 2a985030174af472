"""Recipes and shards: which file an artefact belongs to, and what is left to do.

A *recipe* is a short hash of everything an artefact depends on: the part of the configuration, the model weights, and the recipes it was
made from. A *shard* is a file of rows, named by a hash of the sorted ids that it answers for. Both names are functions of content alone,
so a retried task rewrites the same object and a killed run resumes at the first shard that is missing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from sc3d.errors import DamagedFileError, SchemaError
from sc3d.records import Reject
from sc3d.schema import Record
from sc3d.store import RunFolder

_READERS = 16


def recipe_of(stage: str, fingerprint: Mapping[str, Any]) -> str:
    """Twelve hex digits of what the stage's artefacts depend on. ``fingerprint`` holds plain JSON values."""
    text = json.dumps([stage, fingerprint], sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def shard_name(ids: Iterable[str]) -> str:
    """Sixteen hex digits of the sorted ids."""
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Shard:
    """A unit of work and of resuming: the ids of one category that are written together."""

    category: str
    ids: tuple[str, ...]

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
        located: dict[str, str] = {}
        with ThreadPoolExecutor(_READERS) as pool:
            for name, ids in pool.map(self._ids_of, self.files()):
                located |= dict.fromkeys(ids, name)
        return Catalogue(self, located)

    def _ids_of(self, name: str) -> tuple[str, list[str]]:
        try:
            return name, self.run.read_table(self.record, name, [self.key]).column(self.key).to_pylist()
        except DamagedFileError:
            self.run.delete(name)
            return name, []

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


@dataclass(frozen=True)
class Catalogue:
    """Id -> the shard file that holds its record, for one recipe of one stage."""

    artefacts: Artefacts
    located: Mapping[str, str]

    def __contains__(self, id_: object) -> bool:
        return id_ in self.located

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


def plan_shards(items: Sequence[tuple[str, str]], size: int) -> list[Shard]:
    """Cut (category, id) items into shards of at most ``size`` ids of one category. The order of the items does not matter.

    Raises:
        SchemaError: an id occurs twice.
    """
    ordered = sorted(items)
    seen: set[str] = set()
    by_category: dict[str, list[str]] = {}
    for category, id_ in ordered:
        if id_ in seen:
            raise SchemaError(f"id '{id_}' occurs twice in the manifest; ids must be unique")
        seen.add(id_)
        by_category.setdefault(category, []).append(id_)
    return [
        Shard(category, tuple(ids[start : start + size]))
        for category, ids in by_category.items()
        for start in range(0, len(ids), size)
    ]


def remaining_shards(planned: Sequence[Shard], artefacts: Artefacts) -> list[Shard]:
    """The shards that are still to be computed.

    A planned shard whose file is there is done. Of the others, ids that other shards of the recipe (planned with another manifest or
    shard size) already hold or have rejected are left out, so nothing is computed or written twice.
    """
    catalogue = artefacts.catalogue()
    there = set(artefacts.files())
    missing = [s for s in planned if artefacts.file(s) not in there]
    if not missing or not there:
        return missing
    done = set(catalogue.located) | {r.id for r in artefacts.rejects()}
    trimmed = [Shard(s.category, tuple(i for i in s.ids if i not in done)) for s in missing]
    return [s for s in trimmed if s.ids]

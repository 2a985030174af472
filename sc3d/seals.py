"""Which files of a run folder count when a run that was replaced still writes.

Whoever takes a folder over first of all *seals* it: a file in ``lease/`` that bears the number of the run names all shards that count so
far. What counts is what the newest seal names, and what bears the seal's own number. So from then on nothing that an earlier run commits
can be seen, however late it comes and whatever the store can refuse. It gets in nobody's way, since names with another number are others.

To take files away is to seal the folder without them, and then to delete them: a run that was replaced in between deletes nothing that
counts for anybody.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache

import pyarrow as pa

from sc3d.errors import MissingFileError, StoreError
from sc3d.fence import FOLDER, number_of
from sc3d.schema import Record, arrow_schema, column
from sc3d.store import RunFolder

_SEAL = re.compile(rf"{FOLDER}/(\d{{8,12}})-(\d{{4,12}})-[0-9a-f]{{8}}\.seal")
_ATTEMPTS = 10


@dataclass(frozen=True, eq=False)
class SealedFile(Record):
    """A shard that counts, or the rejects of one."""

    name: str = column("its name in the run folder")


@dataclass(frozen=True)
class Seal:
    """What counts: files called ``names``, and shards of the run ``number``. ``version``: how often that run had sealed the folder."""

    number: int
    version: int
    names: frozenset[str]

    def shows(self, name: str) -> bool:
        """Whether a file counts."""
        return name in self.names or number_of(name) == self.number


def counted_files(run: RunFolder, folder: str, suffix: str = "") -> list[str]:
    """As :meth:`RunFolder.names <sc3d.store.RunFolder.names>`, of those files alone that count."""
    # The seal first: what it names may be written anew by the next one, and only then deleted.
    holding = newest_seal(run)
    names = run.names(folder, suffix)
    return names if holding is None else [name for name in names if holding.shows(name)]


def newest_seal(run: RunFolder) -> Seal | None:
    """The seal that holds; ``None`` for a folder that nobody has sealed, in which everything counts."""
    for _ in range(_ATTEMPTS):
        found = _seals_among(run.names(FOLDER, ".seal"))
        if not found:
            return None
        try:
            return _read(run.uri, found[max(found)], *max(found))
        except MissingFileError:
            # Somebody has sealed the folder anew.
            continue
    raise StoreError(f"{run.uri}: its seals come and go; run it again when no other run is started there")


def seal(run: RunFolder, without: Collection[str] = ()) -> None:
    """Seal the folder as the run of ``run.number``: what counts goes on to count, but for the files ``without``.

    What does not count is deleted: nobody will see it again.

    Raises:
        StoreError: this process does not hold the folder's lease.
        LeaseLostError: another run has taken the folder over.
    """
    if not run.number:
        raise StoreError(f"{run.uri}: only the run that holds the lease of a folder can seal it")
    before, there = newest_seal(run), run.names("", (".parquet", ".seal"))
    shards = {name for name in there if number_of(name) is not None}
    kept = {name for name in shards.difference(without) if before is None or before.shows(name)}
    version = before.version + 1 if before is not None and before.number == run.number else 0
    # Named unlike those of a folder that lay here before, since readers keep what they have read.
    name = f"{FOLDER}/{run.number:08}-{version:04}-{uuid.uuid4().hex[:8]}.seal"
    # A column and no records: there may be a hundred thousand names.
    run.write_table(name, pa.table([sorted(kept)], arrow_schema(SealedFile)))
    for name in [*(shards - kept), *_seals_among(there).values()]:
        run.delete(name)


def take_away(run: RunFolder, names: Collection[str]) -> None:
    """Delete files so that none of them counts for anybody from the first deletion on.

    Raises:
        LeaseLostError: another run has taken the folder over.
    """
    if names:
        seal(run, names)
    for name in names:
        # Shards are deleted by now.
        if number_of(name) is None:
            run.delete(name)


def _seals_among(names: Iterable[str]) -> dict[tuple[int, int], str]:
    """The seals among names of files, by the number of their run and their version."""
    matches = map(_SEAL.fullmatch, names)
    return {(int(match[1]), int(match[2])): match[0] for match in matches if match}


@lru_cache(maxsize=4)
def _read(uri: str, name: str, number: int, version: int) -> Seal:
    return Seal(number, version, frozenset(RunFolder(uri).read_table(SealedFile, name)["name"].to_pylist()))

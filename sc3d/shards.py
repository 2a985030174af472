"""Recipes and shards: which file an artefact belongs to, and how work is cut.

A *recipe* is a short hash of all that the rows of a stage have in common: the part of the configuration, the model weights, and the recipes
they were made from. The *inputs* of a row are a hash of what it alone was made from, its photo for instance. A *shard* is a file of rows,
named by a hash of the sorted ids that it answers for and of their inputs. All names are functions of content alone, so a retried task
rewrites the same object and a killed run resumes at the first shard that is missing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sc3d.errors import SchemaError

ITEMS = pa.schema([pa.field("category", pa.string()), pa.field("id", pa.string())])
"""Columns of a table of items: what a stage answers for. A table, since a million rows of it are two arrays and not a million objects."""


COUNTED = pa.schema([pa.field("id", pa.string()), pa.field("inputs", pa.string())])
"""Columns of a table of what counts: the ids that a manifest or plan names, and what their rows have to be made from."""


def item_table(items: Iterable[tuple[str, str]]) -> pa.Table:
    """A table of items from (category, id) tuples."""
    rows = list(items)
    return pa.table([[category for category, _ in rows], [id_ for _, id_ in rows]], schema=ITEMS)


def recipe_of(stage: str, fingerprint: Mapping[str, Any]) -> str:
    """Twelve hex digits of what the stage's artefacts depend on. ``fingerprint`` holds plain JSON values."""
    text = json.dumps([stage, fingerprint], sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def shard_name(texts: Iterable[str]) -> str:
    """Sixteen hex digits of sorted texts."""
    return hashlib.sha256("\n".join(sorted(texts)).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Shard:
    """A unit of work and of resuming: the ids of one category that are written together.

    ``inputs``: what each of them is made from; none where that is not told apart. ``upstream``: stage name -> the shard files of it that
    hold what these ids are made of, so that a worker need not look for them.
    """

    category: str
    ids: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    upstream: Mapping[str, tuple[str, ...]] = field(default_factory=dict, compare=False)

    @property
    def inputs_of(self) -> Mapping[str, str]:
        """Id -> what its row is made from."""
        return dict(zip(self.ids, self.inputs or [""] * len(self.ids), strict=True))

    @property
    def name(self) -> str:
        """The shard's file name without its ending."""
        return shard_name(f"{id_} {inputs}" for id_, inputs in self.inputs_of.items())


def refuse_duplicates(ids: pa.ChunkedArray) -> None:
    """Raise :class:`SchemaError` if an id occurs twice."""
    counts = pc.value_counts(ids)
    repeated = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    if len(repeated):
        raise SchemaError(f"id '{repeated[0]}' occurs twice in the manifest; ids must be unique")


def cut_shards(items: pa.Table, size: int) -> list[Shard]:
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


def missing_shards(planned: Sequence[Shard], done: pa.ChunkedArray, cut: Callable[[pa.Table], list[Shard]]) -> list[Shard]:
    """The shards that are still to be computed, when the ids ``done`` are finished or rejected already.

    A shard of which nothing is done is left as it is, so a killed run goes on with the very same shards. What is left of the
    others (parts of them were planned with another manifest, size or method) is cut anew, by ``cut``.
    """
    if not len(done):
        return list(planned)
    ids = pa.array([id_ for shard in planned for id_ in shard.ids], pa.string())
    held = pc.is_in(ids, value_set=done).to_numpy(zero_copy_only=False)
    untouched, partly, start = [], [], 0
    for shard in planned:
        mine, start = held[start : start + len(shard.ids)], start + len(shard.ids)
        if not mine.any():
            untouched.append(shard)
        elif not mine.all():
            partly += [(shard.category, id_) for id_, is_held in zip(shard.ids, mine, strict=True) if not is_held]
    return untouched + (cut(item_table(partly)) if partly else [])

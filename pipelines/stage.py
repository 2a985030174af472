"""What a stage is: what goes in, which actors map it, and what comes out. :mod:`pipelines.execute` runs it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import pyarrow as pa

from actors.base import Actor, Row
from pipelines.image_manifest import ImageManifest
from sc3d.artefacts import Artefacts, Catalogue, read_from
from sc3d.config import RunConfig
from sc3d.errors import UpstreamError
from sc3d.schema import Record
from sc3d.shards import Shard, plan_shards, recipe_of
from sc3d.store import RunFolder

LABELS = "labels"
"""Counter of the label stage: the labels that it kept."""


class Stage(ABC):
    """One stage of the pipeline for one configuration. Built anew in every worker from the configuration alone.

    Class attributes:
        name: name in rejects, progress and reports.
        folder: folder of its artefacts in the run folder.
        record: what its shards hold.
        key: the id column, ``image_id`` or ``pair_id``.
        by_category: shards lie in ``category=<c>`` folders.
        upstream: the stages whose artefacts it reads.
        given: row keys that :meth:`load` provides -> their meaning.
    """

    name: ClassVar[str]
    folder: ClassVar[str]
    record: ClassVar[type[Record]]
    key: ClassVar[str] = "image_id"
    by_category: ClassVar[bool] = False
    upstream: ClassVar[tuple[type[Stage], ...]] = ()
    given: ClassVar[Mapping[str, str]]

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.run = RunFolder(config.run)

    @abstractmethod
    def actors(self) -> Sequence[type[Actor]]:
        """The actors that map its rows, in order."""

    def settings(self) -> Mapping[str, Any]:
        """What its result depends on beside its actors' fingerprints and its upstream recipes, as plain JSON values."""
        return {}

    @abstractmethod
    def load(self, shard: Shard) -> Iterable[Row]:
        """The rows of a shard in the order of its ids, in the worker. A row that cannot be read may hold an ``error`` key instead: it
        becomes a reject. Rows are taken as they are needed, so a generator keeps only a batch of them in memory."""

    @abstractmethod
    def finish(self, row: Row, seconds: float) -> Record:
        """The record of a row that went through all actors; large arrays go to the store here."""

    def plan(self, items: pa.Table) -> list[Shard]:
        """Cut a table of items (:data:`~sc3d.shards.ITEMS`) into shards, in the order in which they are computed. The plan follows from the
        set of items alone, so that a run that is resumed finds its shards."""
        return plan_shards(items, self.shard_size)

    def counters(self) -> Mapping[str, int]:
        """What this process has counted so far, by name. What is added to it during a run is summed over all processes, and kept with
        the stage's time."""
        return {}

    def needs_whole_category(self) -> bool:
        """Whether a row depends on other images of its category, so that the stages before must be through with all of these."""
        return False

    def made_from(self, upstream: type[Stage], shard: Shard) -> dict[str, Any]:
        """Id -> what an upstream stage made of it, for the ids of a shard of this stage, which are of the same kind.

        Raises:
            DamagedFileError: a file of it cannot be read.
            UpstreamError: it has nothing for one of the ids.
        """
        found = read_from(upstream(self.config).artefacts, shard.upstream.get(upstream.name, ()), shard.ids)
        if len(found) < len(shard.ids):
            lost = next(id_ for id_ in shard.ids if id_ not in found)
            raise UpstreamError(f"{upstream.name} holds nothing for {lost}; was it changed while this run went on? Run it again")
        return found

    @property
    def shard_size(self) -> int:
        """Ids a shard."""
        return self.config.ray.images_per_shard

    @property
    def shards_per_task(self) -> int:
        """How many shards that follow each other go to one process at most, where there are plenty of shards for all processes."""
        return 1

    @cached_property
    def recipe(self) -> str:
        """Hash of everything that this stage's artefacts depend on."""
        fingerprint = {
            "record": [self.record.__name__, self.record.SCHEMA_VERSION],
            "actors": {a.__name__: dict(a.fingerprint(self.config)) for a in self.actors()},
            "settings": dict(self.settings()),
            "upstream": [stage(self.config).recipe for stage in self.upstream],
        }
        return recipe_of(self.name, fingerprint)

    @cached_property
    def inputs(self) -> dict[type[Stage], Catalogue]:
        """What each upstream stage has finished, looked up once a process."""
        return {stage: stage(self.config).artefacts.catalogue() for stage in self.upstream}

    @cached_property
    def images(self) -> ImageManifest:
        """The manifest's images by their id."""
        return ImageManifest(self.run)

    @cached_property
    def artefacts(self) -> Artefacts:
        """Where its records are."""
        return Artefacts(self.run, self.name, self.folder, self.recipe, self.record, self.key, self.by_category)


@dataclass(frozen=True)
class StageSummary:
    """What a run of a stage did. ``items`` are all ids it answers for, ``computed`` those of this run, which ``counters`` are about.

    ``seconds``: of the clock; stages that run side by side share it by the work of their processes. ``cpu_seconds`` and ``gpu_seconds``:
    of all its processes, by what each was given of a CPU or GPU.
    """

    stage: str
    items: int
    computed: int
    rejects: int
    seconds: float
    counters: Mapping[str, int] = field(default_factory=dict)
    cpu_seconds: float = 0.0
    gpu_seconds: float = 0.0

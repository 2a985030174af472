"""What a stage is: what goes in, which actors map it, and what comes out. :mod:`pipelines.runner.run` runs it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, TypeVar, cast

import pyarrow as pa
import pyarrow.compute as pc

from actors.base import Actor, Row
from actors.registry import actors_of
from pipelines.folder.images import ImageManifest
from pipelines.folder.manifest import read_image_items
from sc3d.artefacts import Artefacts, Catalogue, read_from
from sc3d.config import RunConfig
from sc3d.config_view import values_of, view_of
from sc3d.errors import UpstreamError
from sc3d.manifests import read_inputs
from sc3d.records import ImageRecord, Reject
from sc3d.schema import Record, column_meanings
from sc3d.shards import COUNTED, Shard, cut_shards, recipe_of
from sc3d.store import RunFolder

KEPT_LABELS = "labels"
"""Counter of the label stage: the labels that it kept."""

_FEW = 10_000

StageT = TypeVar("StageT", bound="Stage")


class Stage(ABC):
    """One stage of the pipeline for one configuration. Built anew in every worker from the configuration alone.

    What a row is made of has two names: the *recipe* of what all rows have in common, which follows from the declarations below, and the
    *inputs* of each row, which the manifest knows (:meth:`inputs_of`). A row counts when both fit and the manifest or plan names its id.

    Class attributes:
        name: name in rejects, progress and reports.
        version: of what the stage itself does: another one makes everything again.
        options: the options of the configuration that it reads, as ``stage`` or ``stage.option``; :attr:`config` shows no others.
        slots: what maps its rows, in order: actors, or slots that the configuration fills (:mod:`actors.registry`).
        folder: folder of its artefacts in the run folder.
        record: what its shards hold.
        key: the id column, ``image_id``, ``pair_id`` or ``category``.
        by_category: shards lie in ``category=<c>`` folders.
        upstream: the stages whose artefacts it reads; those of a configuration, where that decides, are set by ``__init__``.
        given: row keys that :meth:`load` provides -> their meaning; by default the columns of the manifest.
        command: the command that runs it.
    """

    name: ClassVar[str]
    version: ClassVar[str] = "1"
    options: ClassVar[tuple[str, ...]] = ()
    slots: ClassVar[tuple[str | type[Actor], ...]] = ()
    folder: ClassVar[str]
    record: ClassVar[type[Record]]
    key: ClassVar[str] = "image_id"
    by_category: ClassVar[bool] = False
    upstream: tuple[type[Stage], ...] = ()
    given: ClassVar[Mapping[str, str]] = column_meanings(ImageRecord)
    command: ClassVar[str] = "label"

    def __init__(self, config: RunConfig) -> None:
        self.whole = config
        """All of the configuration, for the runner and for other stages."""
        self.config = view_of(config, self.reads())
        self.run = RunFolder(config.run)
        self._others: dict[type[Stage], Stage] = {}

    @classmethod
    def instances(cls: type[StageT], config: RunConfig) -> list[StageT]:
        """The stages of this kind that a configuration has: one, or one a method."""
        return [cls(config)]

    def actors(self) -> Sequence[type[Actor]]:
        """The actors that map its rows, in order."""
        return actors_of(self.whole, self.slots)

    def reads(self) -> Sequence[str]:
        """The options that it reads under this configuration: :attr:`options`, where that does not depend on others."""
        return self.options

    def identities(self) -> Mapping[str, Any]:
        """What all its rows are made from beside options, weights and upstream stages, such as a trained adapter: name -> what identifies
        its content."""
        return {}

    @abstractmethod
    def load(self, shard: Shard) -> Iterable[Row]:
        """The rows of a shard in the order of its ids, in the worker. A row that cannot be read may hold an ``error`` key instead: it
        becomes a reject. Rows are taken as they are needed, so a generator keeps only a batch of them in memory."""

    @abstractmethod
    def finish(self, row: Row, seconds: float) -> Record:
        """The record of a row that went through all actors; large arrays go to the store here."""

    def cut(self, items: pa.Table) -> list[Shard]:
        """Cut a table of items (:data:`~sc3d.shards.ITEMS`) into shards, in the order in which they are computed. The cut follows from the
        set of items alone, so that a run that is resumed finds its shards."""
        return cut_shards(items, self.shard_size)

    def counters(self) -> Mapping[str, int]:
        """What this process has counted so far, by name. What is added to it during a run is summed over all processes, and kept with
        the stage's time."""
        return {}

    def needs_whole_category(self) -> bool:
        """Whether a row depends on other images of its category, so that the stages before must be through with all of these."""
        return False

    def items(self) -> pa.Table:
        """What it answers for (:data:`~sc3d.shards.ITEMS`): what the manifest or the plan names and the stages before it have."""
        items = self.named()
        for kind in self.upstream:
            if kind.key == self.key:
                items = self.other(kind).catalogue().among(items)
        return items

    def named(self) -> pa.Table:
        """What the manifest names of the kind that it works on (:data:`~sc3d.shards.ITEMS`)."""
        return read_image_items(self.run)

    @property
    def counted(self) -> pa.Table:
        """What counts of this stage (:data:`~sc3d.shards.COUNTED`): the ids that the manifest or the plan names, with their inputs."""
        return self._manifest_inputs.select(COUNTED.names)

    def inputs_of(self, ids: pa.Array) -> pa.Array:
        """What the rows of some ids have to be made from, by the manifest; an empty text for what it does not know."""
        return self.image_inputs(ids, "inputs")

    def image_inputs(self, ids: pa.Array, column: str) -> pa.Array:
        """``inputs``, ``annotation`` or ``photo`` of some images in the manifest."""
        if len(ids) < _FEW:
            # Looking each up beats hashing the whole manifest anew, which is what Arrow does.
            rows = pa.array([self._manifest_rows.get(id_) for id_ in ids.to_pylist()], pa.int64())
        else:
            rows = pc.index_in(ids, value_set=self._manifest_inputs["id"].combine_chunks())
        return pc.fill_null(self._manifest_inputs[column].combine_chunks().take(rows), "")

    def inputs_with_category(self, ids: pa.Array, key_of: Callable[[str], str]) -> pa.Array:
        """What the rows of some images have to be made from, where each is also made from something of its whole category: ``key_of`` a
        category stands for that."""
        if not len(ids):
            return pa.array([], pa.string())
        rows = pc.index_in(ids, value_set=self._named["id"].combine_chunks())
        categories = pc.dictionary_encode(self._named["category"].combine_chunks().take(rows))
        keys = pa.array([key_of(category) for category in categories.dictionary.to_pylist()], pa.string())
        return pc.binary_join_element_wise(self.image_inputs(ids, "inputs"), pc.fill_null(keys.take(categories.indices), ""), " ")

    @cached_property
    def _named(self) -> pa.Table:
        return self.named()

    @cached_property
    def _manifest_inputs(self) -> pa.Table:
        return read_inputs(self.run).combine_chunks()

    @cached_property
    def _manifest_rows(self) -> Mapping[str, int]:
        return {id_: row for row, id_ in enumerate(self._manifest_inputs["id"].to_pylist())}

    def wanted(self, ids: pa.Array) -> pa.Table:
        """Some ids with what their rows have to be made from (:data:`~sc3d.shards.COUNTED`)."""
        return pa.Table.from_arrays([ids, self.inputs_of(ids)], schema=COUNTED)

    def catalogue(self) -> Catalogue:
        """The rows that are there and count: the one way in which anybody finds a stage's rows."""
        return self.artefacts.catalogue(self.counted)

    def rejects(self) -> list[Reject]:
        """The rejects that count."""
        return self.artefacts.rejects(self.counted)

    def other(self, kind: type[StageT]) -> StageT:
        """Another stage of the same configuration, built once."""
        if kind not in self._others:
            self._others[kind] = kind(self.whole)
        return cast(StageT, self._others[kind])

    def made_from(self, upstream: type[Stage], shard: Shard) -> dict[str, Any]:
        """Id -> what an upstream stage made of it, for the ids of a shard of this stage, which are of the same kind.

        Raises:
            DamagedFileError: a file of it cannot be read.
            UpstreamError: it has nothing for one of the ids.
        """
        stage = self.other(upstream)
        inputs = dict(zip(shard.ids, stage.inputs_of(pa.array(shard.ids, pa.string())).to_pylist(), strict=True))
        found = read_from(stage.artefacts, shard.upstream.get(upstream.name, ()), inputs)
        if len(found) < len(shard.ids):
            lost = next(id_ for id_ in shard.ids if id_ not in found)
            raise UpstreamError(f"{upstream.name} holds nothing for {lost}; was it changed while this run went on? Run it again")
        return found

    @property
    def shard_size(self) -> int:
        """Ids a shard."""
        return self.whole.ray.images_per_shard

    @property
    def shards_per_task(self) -> int:
        """How many shards that follow each other go to one process at most, where there are plenty of shards for all processes."""
        return 1

    @cached_property
    def recipe(self) -> str:
        """Hash of everything that all rows of this stage's artefacts have in common. It follows from what is declared, nothing else."""
        made_of = {
            "version": [self.version, self.record.SCHEMA_VERSION],
            "options": values_of(self.whole, self.reads()),
            "actors": [actor.made_of(self.whole) for actor in self.actors()],
            "identities": dict(self.identities()),
            "upstream": [self.other(stage).recipe for stage in self.upstream],
        }
        return recipe_of(self.name, made_of)

    @cached_property
    def upstream_recipes(self) -> dict[str, str]:
        """Stage -> recipe, of all that its artefacts are made from, near and far."""
        found: dict[str, str] = {}
        for kind in self.upstream:
            stage = self.other(kind)
            found |= {**stage.upstream_recipes, stage.name: stage.recipe}
        return found

    @cached_property
    def known(self) -> Catalogue:
        """Its :meth:`catalogue`, looked up once."""
        return self.catalogue()

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
    of all its processes, by what each was given of a CPU or GPU. ``recipe``: of its artefacts, where it has one; ``upstream``: stage ->
    recipe, of those that they are made from.
    """

    stage: str
    items: int
    computed: int
    rejects: int
    seconds: float
    counters: Mapping[str, int] = field(default_factory=dict)
    cpu_seconds: float = 0.0
    gpu_seconds: float = 0.0
    recipe: str = ""
    upstream: Mapping[str, str] = field(default_factory=dict)

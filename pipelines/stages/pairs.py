"""What all stages of pairs share: pairs in tiles, images prepared once, and what tells a pair's failure from the store's."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from actors.base import Row
from pipelines.folder.manifest import PAIRS, read_pair_items, read_pair_table
from pipelines.runner.stage import Stage
from pipelines.stages.describe import DescribeStage, FeatureStage
from sc3d.cache import ByteCache
from sc3d.errors import UpstreamError, concerns_the_run
from sc3d.features import Features
from sc3d.matching.tiles import cut_tiles
from sc3d.pair_ids import join_pair_ids, split_pair_id, split_pair_ids
from sc3d.records import LABELLED_SPLIT, ImageRecord, Pair
from sc3d.schema import Record, column_meanings
from sc3d.shards import COUNTED, Shard

IMAGE_READS = "image_reads"
"""Counter of stages of pairs: how often the features of an image were read."""

SIDES: Mapping[str, str] = {
    "source": "the source image, prepared for matching",
    "target": "the target image, prepared for matching",
}


class _Sized(Protocol):
    @property
    def n_bytes(self) -> int: ...


PreparedT = TypeVar("PreparedT", bound=_Sized)


class PreparedImages(Generic[PreparedT]):
    """The described images of a run, each prepared once and kept in a bounded cache.

    Args:
        described: the stage whose feature files are read.
        prepare: makes of an image's features what a pair needs of it.
        cache_mb: bound of the cache, in MB.
        needed: other stages that must have the image too.
    """

    def __init__(
        self,
        described: FeatureStage,
        prepare: Callable[[Features], PreparedT],
        cache_mb: int,
        needed: Sequence[Stage] = (),
    ) -> None:
        self._stage, self.prepare, self._needed = described, prepare, (described, *needed)
        self._cache: ByteCache[str, PreparedT] = ByteCache(self._load, lambda image: image.n_bytes, cache_mb * 2**20)

    @property
    def reads(self) -> int:
        """How often an image's features were read so far."""
        return self._cache.misses

    def get(self, image_id: str) -> PreparedT:
        """An image, prepared.

        Raises:
            UpstreamError: an earlier stage rejected it, or was not run.
        """
        for stage in self._needed:
            if image_id not in stage.known:
                raise UpstreamError(
                    f"image {image_id} was rejected by an earlier stage: nothing of {stage.name} is there; see the rejects of it and "
                    f"of the stages before, or run sc3d {stage.command} if they were never run with these options"
                )
        return self._cache.get(image_id)

    def both(self, pair: Pair) -> tuple[PreparedT, PreparedT]:
        """Source and target of a pair, prepared."""
        return self.get(pair.source_id), self.get(pair.target_id)

    def _load(self, image_id: str) -> PreparedT:
        return self.prepare(self._stage.read_features(image_id))


class PairStage(Stage):
    """A stage of pairs: says what it gathers of a pair, and which actor makes its ``record`` of that.

    Class attributes:
        annotated: its pairs are the annotated ones, not those to label.
        gathers: row keys that :meth:`gather` provides -> their meaning.
    """

    key = "pair_id"
    by_category = True
    upstream: tuple[type[Stage], ...] = (DescribeStage,)
    annotated: ClassVar[bool] = False
    gathers: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls) -> None:
        cls.given = {**column_meanings(Pair), **cls.gathers}

    @abstractmethod
    def gather(self, pair: Pair) -> Row:
        """What the actors need of a pair. What cannot be had concerns the pair alone, unless it is the store."""

    def caches(self) -> Sequence[PreparedImages[Any]]:
        """The caches of images that it reads."""
        return ()

    def finish(self, row: Row, seconds: float) -> Record:
        record: Record = row["record"]
        return record

    def load(self, shard: Shard) -> Iterable[Row]:
        for pair_id in shard.ids:
            pair = self.pair(pair_id, shard.category)
            row: Row = {name: getattr(pair, name) for name in column_meanings(Pair)}
            try:
                row |= self.gather(pair)
            except Exception as error:  # an unreadable feature file concerns this pair, not the run
                if concerns_the_run(error):
                    raise
                row["error"] = error
            yield row

    def pair(self, pair_id: str, category: str) -> Pair:
        """A pair of the stage."""
        if self.annotated:
            return Pair(*(self._annotated[name][pair_id] for name in column_meanings(Pair)))
        # The id says everything about a pair to label, so a worker need not look it up among a million.
        return Pair(pair_id, *split_pair_id(pair_id), category, LABELLED_SPLIT)

    def annotations(self, pair: Pair) -> tuple[ImageRecord, ImageRecord]:
        """The manifest's rows of both images."""
        return self.images[pair.source_id], self.images[pair.target_id]

    @cached_property
    def _annotated(self) -> dict[str, dict[str, str]]:
        table = read_pair_table(self.run, labelled=False)
        ids = table["pair_id"].to_pylist()
        return {name: dict(zip(ids, table[name].to_pylist(), strict=True)) for name in table.column_names}

    def named(self) -> pa.Table:
        return read_pair_items(self.run, labelled=not self.annotated)

    @property
    def counted(self) -> pa.Table:
        if not self.run.exists(PAIRS):
            return COUNTED.empty_table()
        return self.wanted(self.named()["id"].combine_chunks())

    def inputs_of(self, ids: pa.Array) -> pa.Array:
        ends = split_pair_ids(ids)
        joined = join_pair_ids(*(self.end_inputs(end) for end in ends))
        if not self.annotated:
            return joined
        splits = pa.array([self._annotated["split"].get(id_, "") for id_ in ids.to_pylist()], pa.string())
        return pc.binary_join_element_wise(joined, *(self.image_inputs(end, "annotation") for end in ends), splits, " ")

    def end_inputs(self, ids: pa.Array) -> pa.Array:
        """What the ends of pairs, images of some ids, have to be made from."""
        return self.image_inputs(ids, "inputs")

    @property
    def shard_size(self) -> int:
        return self.whole.ray.pairs_per_shard

    @property
    def shards_per_task(self) -> int:
        # Tiles that follow each other share images, which only a process that gets both of them profits from.
        return 8

    def cut(self, items: pa.Table) -> list[Shard]:
        return cut_tiles(items, self.shard_size)

    def counters(self) -> Mapping[str, int]:
        return {IMAGE_READS: sum(cache.reads for cache in self.caches())}

"""features -> candidates with their evidence -> ``matches/``, and the thresholds applied to them -> ``labels/``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import pyarrow as pa

from actors.base import Actor, Resources, Row
from actors.registry import actor_of, is_rehearsal
from pipelines.describe import DescribeStage
from pipelines.manifest import LABELLED_SPLIT
from pipelines.stage import LABELS, Stage
from sc3d.cache import ByteCache
from sc3d.config import MatchConfig, RunConfig
from sc3d.errors import UpstreamError, is_of_the_store
from sc3d.matching.described import Described
from sc3d.matching.device import DeviceImage, match_pairs
from sc3d.matching.label import match_pair
from sc3d.matching.thresholds import apply_thresholds
from sc3d.matching.tiles import plan_pair_shards
from sc3d.records import PAIR_SEPARATOR, Labels, Matches, Pair
from sc3d.schema import column_meanings
from sc3d.shards import Shard

IMAGE_READS = "image_reads"
"""Counter of the match stage: how often the features of an image were read."""


class DescribedImages:
    """The described images of a run, prepared for matching and kept in a cache of at most ``cache_mb``."""

    def __init__(self, config: RunConfig, match: MatchConfig, cache_mb: int) -> None:
        self._stage = DescribeStage(config)
        self._match = match
        self._known = self._stage.artefacts.catalogue()
        self._cache: ByteCache[str, Described] = ByteCache(self._load, lambda described: described.n_bytes, cache_mb * 2**20)

    @property
    def reads(self) -> int:
        """How often an image's features were read so far."""
        return self._cache.misses

    def get(self, image_id: str) -> Described:
        """The prepared features of an image.

        Raises:
            UpstreamError: an earlier stage rejected the image.
        """
        if image_id not in self._known:
            raise UpstreamError(
                f"image {image_id} was rejected by an earlier stage; see the rejects of reconstruct, orient and describe"
            )
        return self._cache.get(image_id)

    def _load(self, image_id: str) -> Described:
        return Described(self._stage.read_features(image_id), self._match)


class MatchActor(Actor):
    """Candidates of a pair by fused cosine, and their cycle and bicyclic geodesic errors."""

    requires = {
        **column_meanings(Pair),
        "source": "the source image, prepared for matching",
        "target": "the target image, prepared for matching",
    }
    provides = {"matches": "the candidates with their evidence"}

    @classmethod
    def fingerprint(cls, config: RunConfig) -> Mapping[str, Any]:
        match = config.match
        return {
            "version": "match-1",
            "alpha": match.alpha,
            "beta": match.beta,
            "tau_cc": match.tau_cc,
            "tau_geo": match.tau_geo,
            "transfer": match.transfer,
        }

    def process(self, row: Row) -> Row:
        return {"matches": match_pair(row["source"], row["target"], row["category"], self.config.match)}


class MatchOnGpu(MatchActor):
    """The same on a GPU, which it shares with another: while one waits for its results the other computes."""

    resources = Resources(num_gpus=0.5)
    batch_size = 16
    device: ClassVar[str] = "cuda"

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        # An image leaves the device when the host's bounded cache drops it.
        self._on_device: WeakKeyDictionary[Described, DeviceImage] = WeakKeyDictionary()

    def process_batch(self, rows: Sequence[Row]) -> list[Row]:
        pairs = [(self._moved(row["source"]), self._moved(row["target"])) for row in rows]
        # The pairs of a shard are of one category.
        return [{"matches": matches} for matches in match_pairs(pairs, rows[0]["category"], self.config.match)]

    def _moved(self, image: Described) -> DeviceImage:
        found = self._on_device.get(image)
        if found is None:
            found = self._on_device[image] = DeviceImage(image, self.device)
        return found


class MatchStage(Stage):
    """All candidates of each pair up to the wide thresholds. Its shards are tiles of pairs that share images."""

    name = "match"
    folder = "matches"
    record = Matches
    key = "pair_id"
    by_category = True
    upstream = (DescribeStage,)
    given = {
        **column_meanings(Pair),
        "source": "the source image, prepared for matching",
        "target": "the target image, prepared for matching",
    }

    def actors(self) -> Sequence[type[Actor]]:
        if is_rehearsal(self.config):
            return (actor_of(self.config, "match"),)
        return (MatchOnGpu,) if self.config.match.device == "cuda" else (MatchActor,)

    @property
    def shard_size(self) -> int:
        return self.config.ray.pairs_per_shard

    @property
    def shards_per_task(self) -> int:
        # Tiles that follow each other share images, which only a process that gets both of them profits from.
        return 8

    def plan(self, items: pa.Table) -> list[Shard]:
        return plan_pair_shards(items, self.shard_size)

    def counters(self) -> Mapping[str, int]:
        return {IMAGE_READS: self._images.reads}

    @cached_property
    def _images(self) -> DescribedImages:
        return DescribedImages(self.config, self.config.match, self.config.ray.cache_mb)

    def load(self, shard: Shard) -> Iterator[Row]:
        return (pair_row(_labelled_pair(pair_id, shard.category), self._images) for pair_id in shard.ids)

    def finish(self, row: Row, seconds: float) -> Matches:
        matches: Matches = row["matches"]
        return matches


def _labelled_pair(pair_id: str, category: str) -> Pair:
    # The id says everything about a pair to label, so a worker need not look it up among a million.
    source_id, target_id = pair_id.split(PAIR_SEPARATOR)
    return Pair(pair_id, source_id, target_id, category, LABELLED_SPLIT)


def pair_row(pair: Pair, images: DescribedImages) -> Row:
    """A pair with its two prepared images, or with the error that one of them could not be had."""
    row: Row = {
        "pair_id": pair.pair_id,
        "source_id": pair.source_id,
        "target_id": pair.target_id,
        "category": pair.category,
        "split": pair.split,
    }
    try:
        return {**row, "source": images.get(pair.source_id), "target": images.get(pair.target_id)}
    except Exception as error:  # an unreadable feature file concerns this pair, not the run
        if is_of_the_store(error):
            raise
        return {**row, "error": error}


class LabelStage(Stage):
    """The matches that pass the thresholds. Reads the stored evidence only, so it is cheap to make again."""

    name = "label"
    folder = "labels"
    record = Labels
    key = "pair_id"
    by_category = True
    upstream = (MatchStage,)
    given = {"pair_id": "source id ~ target id", "matches": "the candidates with their evidence"}

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        self._kept = 0

    def counters(self) -> Mapping[str, int]:
        return {LABELS: self._kept}

    def actors(self) -> Sequence[type[Actor]]:
        return ()

    def settings(self) -> Mapping[str, Any]:
        return {"tau_cc": self.config.label.tau_cc, "tau_geo": self.config.label.tau_geo}

    def load(self, shard: Shard) -> list[Row]:
        found = self.made_from(MatchStage, shard)
        return [{"pair_id": pair_id, "matches": found[pair_id]} for pair_id in shard.ids]

    def finish(self, row: Row, seconds: float) -> Labels:
        labels = apply_thresholds(row["matches"], self.config.label)
        self._kept += labels.n_kept
        return labels

"""features -> candidates with their evidence -> ``matches/``, and the thresholds applied to them -> ``labels/``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from actors.base import Actor, Row
from pipelines.describe import DescribeStage
from pipelines.manifest import read_pairs
from pipelines.stage import Stage
from sc3d.cache import ByteCache
from sc3d.config import MatchConfig, RunConfig
from sc3d.errors import UpstreamError
from sc3d.matching.label import Described, match_pair
from sc3d.matching.thresholds import apply_thresholds
from sc3d.records import Labels, Matches, Pair
from sc3d.schema import column_meanings
from sc3d.shards import Shard


class DescribedImages:
    """The described images of a run, prepared for matching and kept in a cache of at most ``cache_mb``."""

    def __init__(self, config: RunConfig, match: MatchConfig, cache_mb: int) -> None:
        self._stage = DescribeStage(config)
        self._match = match
        self._known = self._stage.artefacts.catalogue()
        self._cache: ByteCache[str, Described] = ByteCache(self._load, lambda described: described.n_bytes, cache_mb * 2**20)

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
        return {"version": "match-1", "alpha": match.alpha, "beta": match.beta, "tau_cc": match.tau_cc, "tau_geo": match.tau_geo}

    def process(self, row: Row) -> Row:
        return {"matches": match_pair(row["source"], row["target"], row["category"], self.config.match)}


class MatchStage(Stage):
    """All candidates of each pair up to the wide thresholds."""

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
        return (MatchActor,)

    @property
    def shard_size(self) -> int:
        return self.config.ray.pairs_per_shard

    @cached_property
    def _images(self) -> DescribedImages:
        return DescribedImages(self.config, self.config.match, self.config.ray.cache_mb)

    @cached_property
    def _pairs(self) -> dict[str, Pair]:
        return {pair.pair_id: pair for pair in read_pairs(self.run, labelled=True)}

    def load(self, shard: Shard) -> Iterator[Row]:
        return (pair_row(self._pairs[pair_id], self._images) for pair_id in shard.ids)

    def finish(self, row: Row, seconds: float) -> Matches:
        matches: Matches = row["matches"]
        return matches


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

    def actors(self) -> Sequence[type[Actor]]:
        return ()

    def settings(self) -> Mapping[str, Any]:
        return {"tau_cc": self.config.label.tau_cc, "tau_geo": self.config.label.tau_geo}

    @property
    def shard_size(self) -> int:
        return self.config.ray.pairs_per_shard

    def load(self, shard: Shard) -> list[Row]:
        found = self.inputs[MatchStage].read(shard.ids)
        return [{"pair_id": pair_id, "matches": found[pair_id]} for pair_id in shard.ids]

    def finish(self, row: Row, seconds: float) -> Labels:
        return apply_thresholds(row["matches"], self.config.label)

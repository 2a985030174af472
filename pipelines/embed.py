"""features -> the global descriptor of each image -> ``embeddings/``: for pairs of images that are alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from actors.base import Actor, Row
from pipelines.describe import DescribeStage
from pipelines.stage import Stage
from sc3d.config import RunConfig
from sc3d.errors import is_of_the_store
from sc3d.matching.embedding import embed
from sc3d.records import Embedding
from sc3d.shards import Shard


class EmbedActor(Actor):
    """Global descriptor of an image, slot by slot."""

    requires = {"features": "the features of the image"}
    provides = {"embedding": "slot -> unit vector (C,)"}

    @classmethod
    def fingerprint(cls, config: RunConfig) -> Mapping[str, Any]:
        return {"version": "embed-1"}

    def process(self, row: Row) -> Row:
        return {"embedding": embed(row["features"])}


class EmbedStage(Stage):
    """Global descriptors of the described images. Slots are fused when pairs are planned, so the weights may change."""

    name = "embed"
    folder = "embeddings"
    record = Embedding
    by_category = True
    upstream = (DescribeStage,)
    given = {"image_id": "image id", "category": "object category", "features": "the features of the image"}

    def actors(self) -> Sequence[type[Actor]]:
        return (EmbedActor,)

    @cached_property
    def _described(self) -> DescribeStage:
        return DescribeStage(self.config)

    def load(self, shard: Shard) -> Iterator[Row]:
        for image_id in shard.ids:
            row: Row = {"image_id": image_id, "category": shard.category}
            try:
                yield {**row, "features": self._described.read_features(image_id)}
            except Exception as error:  # an unreadable feature file concerns this image, not the run
                if is_of_the_store(error):
                    raise
                yield {**row, "error": error}

    def finish(self, row: Row, seconds: float) -> Embedding:
        slots: dict[str, np.ndarray] = row["embedding"]
        return Embedding(
            image_id=row["image_id"],
            category=row["category"],
            groups=tuple(slots),
            channels=np.array([len(values) for values in slots.values()]),
            values=np.concatenate(list(slots.values())),
            seconds=seconds,
        )

"""features -> the global descriptor of each image -> ``embeddings/``: for pairs of images that are alike."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from actors.base import Row
from pipelines.runner.stage import Stage
from pipelines.stages.describe import DescribeStage
from sc3d.errors import concerns_the_run
from sc3d.records import Embedding
from sc3d.shards import Shard


class EmbedStage(Stage):
    """Global descriptors of the described images. Slots are fused when pairs are planned, so the weights may change."""

    name = "embed"
    folder = "embeddings"
    record = Embedding
    by_category = True
    slots = ("embed",)
    upstream = (DescribeStage,)
    given = {"image_id": "image id", "category": "object category", "features": "the features of the image"}

    def load(self, shard: Shard) -> Iterator[Row]:
        for image_id in shard.ids:
            row: Row = {"image_id": image_id, "category": shard.category}
            try:
                yield {**row, "features": self.other(DescribeStage).read_features(image_id)}
            except Exception as error:  # an unreadable feature file concerns this image, not the run
                if concerns_the_run(error):
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

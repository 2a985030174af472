"""images -> the depth of each -> ``depths/``: for class shapes, where that is not the depth of the posed meshes."""

from __future__ import annotations

from typing import Literal

import numpy as np

from actors.base import Row
from pipelines.runner.stage import Stage
from pipelines.stages.reconstruct import image_row
from sc3d.class_shapes.observation import Depth
from sc3d.config import RunConfig
from sc3d.records import DepthMap
from sc3d.shards import Shard

MESH: Literal["mesh"] = "mesh"
"""The value of ``represent.depth`` that stands for the posed meshes, which need no stage."""


class DepthStage(Stage):
    """A depth map an image. Its focal length is not known."""

    name = "depth"
    folder = "depths"
    record = DepthMap
    slots = ("load", "represent.depth")
    command = "represent"

    @classmethod
    def instances(cls, config: RunConfig) -> list[DepthStage]:
        return [] if config.represent.depth == MESH else [cls(config)]

    def load(self, shard: Shard) -> list[Row]:
        return [image_row(self.images[image_id]) for image_id in shard.ids]

    def finish(self, row: Row, seconds: float) -> DepthMap:
        depth: np.ndarray = row["depth"]
        return DepthMap(row["image_id"], row["category"], depth.shape[1], depth.shape[0], depth.reshape(-1), seconds)


def depth_of(one: DepthMap) -> Depth:
    """A stored depth as class shapes read it."""
    return Depth(one.values.astype(np.float32).reshape(one.height, one.width))

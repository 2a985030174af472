"""What a mesh looks like all around: grey renders, described by EfficientNet-Lite0's blocks 10 and 14."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch

from actors.base import Actor, Row
from actors.light.network import Lite0, normalised
from actors.light.weights import SHA256
from sc3d.config import RunConfig
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.orientation.pooling import PictureDescriber, describe_renders

_BLOCKS = (10, 14)


class Lite0Renders(Actor):
    """A mesh's descriptor for the stage orient."""

    requires: ClassVar[Mapping[str, str]] = {
        "vertices": "(V, 3) welded mesh, canonical frame",
        "faces": "(F, 3) triangles, vertex indices",
    }
    provides: ClassVar[Mapping[str, str]] = {
        "descriptor": "(8, D) what the mesh looks like all around, a row a yaw",
        "sharpness": "how much a difference of scores says with such descriptors in most categories",
    }
    version: ClassVar[str] = "lite0-renders-1"
    sharpness: ClassVar[float] = 14.0

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        self._describe = render_describer(Lite0.from_package())

    @classmethod
    def made_of(cls, config: RunConfig) -> dict[str, Any]:
        """As every actor's, with the network's weights."""
        return {**super().made_of(config), "weights": {"efficientnet_lite0": SHA256}}

    def process(self, row: Row) -> Row:
        """Describe one mesh.

        Raises:
            GeometryError: the mesh cannot be rendered.
            FeatureError: its features are not finite.
        """
        descriptor = describe_renders(Mesh(row["vertices"], row["faces"]), self._describe)
        return {"descriptor": descriptor.astype(np.float16), "sharpness": self.sharpness}


def render_describer(network: Lite0) -> PictureDescriber:
    """Describes pictures (N, 192, 192) uint8 by layers (N, 112, 12, 12) and (N, 192, 6, 6) float32."""

    def describe(pictures: np.ndarray) -> list[np.ndarray]:
        channels = torch.from_numpy(pictures)[..., None].expand(-1, -1, -1, 3)
        found = network.blocks(normalised(channels), _BLOCKS)
        return [found[block].numpy() for block in _BLOCKS]

    return describe

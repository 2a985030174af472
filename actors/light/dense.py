"""Both 2D feature slots from one pass of EfficientNet-Lite0: its blocks 7 and 10 in Stable Diffusion's, its block 14 in DINO's.

The image is letterboxed to 480 pixels, so that a cell of the finer blocks is two cells of the working grid. Each layer loses its mean
over the frame, which says more of the network and the photo than of the place, and each cell is scaled to unit length. Block 7 counts
half: with the slots' default weights (match.alpha and match.beta are as 3 to 2) the three layers count 0.5, 1 and 1.

What a cell describes lies up to half a cell right and below of it (:mod:`actors.light.network`), in every image alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch

from actors.base import Actor, Row
from actors.light.network import BLOCKS, Lite0, normalised
from actors.light.weights import SHA256
from sc3d.config import RunConfig
from sc3d.errors import FeatureError
from sc3d.images import letterbox

FRAME = 480

_FINE, _MIDDLE, _COARSE = BLOCKS
_FINE_WEIGHT = 0.5
_TINY = 1e-6


class Lite0Source(Actor):
    """Both slots: what fills them where both ask for Lite0."""

    requires: ClassVar[Mapping[str, str]] = {"image": "upright RGB, (H, W, 3) uint8"}
    provides: ClassVar[Mapping[str, str]] = {
        "dino": "(192, 15, 15) float16 descriptors of the letterboxed frame's cells",
        "sd": "layers of the letterboxed frame, float16: sd.b07 (80, 30, 30), sd.b10 (112, 30, 30)",
    }
    version: ClassVar[str] = f"lite0-1 {SHA256[:12]}"

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        self._network = Lite0.from_package()

    def process(self, row: Row) -> Row:
        """Describe one photo; raises :class:`~sc3d.errors.FeatureError` if its features are not finite."""
        frame = torch.from_numpy(letterbox(row["image"], FRAME, "edge"))[None]
        layers = self._network.blocks(normalised(frame))
        fine, middle, coarse = (_described(layers[block][0]) for block in (_FINE, _MIDDLE, _COARSE))
        described = {"dino": _half(coarse), "sd": {"sd.b07": _half(_FINE_WEIGHT**0.5 * fine), "sd.b10": _half(middle)}}
        return {slot: described[slot] for slot in self.provides}


class Lite0Dino(Lite0Source):
    """DINO's slot alone."""

    provides: ClassVar[Mapping[str, str]] = {"dino": Lite0Source.provides["dino"]}


class Lite0Sd(Lite0Source):
    """Stable Diffusion's slot alone."""

    provides: ClassVar[Mapping[str, str]] = {"sd": Lite0Source.provides["sd"]}


def _described(layer: torch.Tensor) -> torch.Tensor:
    """A layer (C, h, w) without its mean over the frame, each cell of unit length; cells of an even image stay zero."""
    centred = layer - layer.mean(dim=(1, 2), keepdim=True)
    return centred / centred.norm(dim=0, keepdim=True).clamp_min(_TINY)


def _half(layer: torch.Tensor) -> np.ndarray:
    if not bool(layer.isfinite().all()):
        raise FeatureError("Lite0's features are not finite")
    return layer.half().numpy()

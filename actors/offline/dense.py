"""The 2D feature slots without learned features: DAISY in DINO's, HOG with colour and texture in Stable Diffusion's.

See :mod:`actors.offline.descriptors` for what they hold. The background is described too, like a learned model does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from actors.base import Actor, Row
from actors.offline.descriptors import daisy_descriptor, hog_layers


class DaisySource(Actor):
    """DINO's slot: one layer on the working grid."""

    requires: ClassVar[Mapping[str, str]] = {"image": "upright RGB, (H, W, 3) uint8"}
    provides: ClassVar[Mapping[str, str]] = {"dino": "(C, 60, 60) float16 descriptors of the letterboxed frame's cells"}
    version: ClassVar[str] = "daisy-1"

    def process(self, row: Row) -> Row:
        """Describe one photo."""
        return {"dino": daisy_descriptor(row["image"]).astype(np.float16)}


class HogSource(Actor):
    """Stable Diffusion's slot: three layers whose windows grow while their grids shrink."""

    requires: ClassVar[Mapping[str, str]] = {"image": "upright RGB, (H, W, 3) uint8"}
    provides: ClassVar[Mapping[str, str]] = {
        "sd": "layers of the letterboxed frame, float16: sd.s3 (C, 60, 60), sd.s4 (C, 30, 30), sd.s5 (C, 15, 15)"
    }
    version: ClassVar[str] = "hog-1"

    def process(self, row: Row) -> Row:
        """Describe one photo."""
        return {"sd": {name: layer.astype(np.float16) for name, layer in hog_layers(row["image"]).items()}}

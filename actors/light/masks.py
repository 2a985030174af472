"""Object masks from what the network recognises: its class activations tell GrabCut where to look.

Where the border alone says what is background, GrabCut takes whatever stands out; weighed by the class activations, it takes what looks
like an object. The outline is still GrabCut's, from colours: an object in the colours of its surroundings is cut badly.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from actors.base import Row
from actors.light.activation import activation_map
from actors.light.network import Lite0
from actors.light.weights import SHA256
from actors.offline.masks import FileMask, GrabcutMask, grabcut_mask
from sc3d.config import RunConfig


class ActivationMask(FileMask):
    """Mask files where there are any, unless ``reconstruct.mask=activation``; else GrabCut from the annotated box; else GrabCut from
    class activations."""

    version: ClassVar[str] = f"activation-2 {GrabcutMask.version} {SHA256[:12]}"

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        self._network = Lite0.from_package()

    def found(self, row: Row) -> np.ndarray:
        """See :class:`~actors.offline.masks.GrabcutMask`."""
        salience = activation_map(self._network, row["image"]) if row["bbox"] is None else None
        return grabcut_mask(row["image"], row["bbox"], salience)

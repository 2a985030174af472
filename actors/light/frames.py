"""Layers of EfficientNet-Lite0 for framed objects and renders of templates: blocks 7, 10 and 14 on one grid of 20 x 20."""

from __future__ import annotations

import numpy as np
import torch

from actors.light.network import BLOCKS, Lite0, normalised
from sc3d.geometry.templates.views import CELLS, Describer


def frame_describer(network: Lite0) -> Describer:
    """Describes frames (N, 320, 320, 3) uint8 as templates are compared by: layers (N, C, 20, 20) float32 of 80, 112 and 192 channels."""

    def describe(frames: np.ndarray) -> list[np.ndarray]:
        # One at a time: eight take a half longer each, since what passes between the convolutions leaves the cache.
        parts = [_layers(network, frame[None]) for frame in frames]
        return [np.concatenate(layers) for layers in zip(*parts, strict=True)]

    return describe


@torch.inference_mode()
def _layers(network: Lite0, frames: np.ndarray) -> list[np.ndarray]:
    found = network.blocks(normalised(torch.from_numpy(np.ascontiguousarray(frames))))
    return [
        torch.nn.functional.interpolate(found[block], size=(CELLS, CELLS), mode="bilinear", align_corners=False).numpy()
        for block in BLOCKS
    ]

"""Where in a photo the network sees what it recognises: a class-agnostic map of its class activations."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from actors.light.network import Lite0, normalised
from sc3d.grid import Letterbox
from sc3d.images import letterbox

FRAME = 480
_CLASSES = 5
# What a cell of the last blocks describes is centred so many pixels right and below of the cell's own centre (actors.light.network).
_SHIFT = 15.5
_CELL = 32


def activation_map(network: Lite0, image: np.ndarray) -> np.ndarray:
    """How much each pixel of a photo speaks for what is recognised in it: (H, W, 3) uint8 -> (H, W) float32 from 0 to 1.

    The class activation maps of the five likeliest classes, each rectified and weighted by its probability. It does not matter whether
    the classes are right: what the network takes for any object is where the map is.
    """
    frame = torch.from_numpy(letterbox(image, FRAME, "edge"))[None]
    maps = network.class_maps(normalised(frame))[0]
    probabilities, classes = maps.mean(dim=(1, 2)).softmax(dim=0).topk(_CLASSES)
    combined = (probabilities[:, None, None] * maps[classes].clamp_min(0)).sum(dim=0).numpy()
    combined = (combined - combined.min()) / max(float(np.ptp(combined)), 1e-6)
    box = Letterbox(image.shape[1], image.shape[0], FRAME, 1)
    # The cell of each pixel's centre in the map; samples at (i + 0.5) * _CELL + _SHIFT of the frame.
    height, width = image.shape[:2]
    left, top = box.offset
    x = ((np.arange(width) + 0.5) * box.scale + left - _SHIFT) / _CELL - 0.5
    y = ((np.arange(height) + 0.5) * box.scale + top - _SHIFT) / _CELL - 0.5
    columns, rows = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
    return cv2.remap(combined, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

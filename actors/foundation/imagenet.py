"""The colours that networks trained on ImageNet expect."""

from __future__ import annotations

import numpy as np
import torch

_MEAN, _DEVIATION = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)


def normalised(pixels: np.ndarray) -> torch.Tensor:
    """RGB (H, W, 3) float32 in [0, 1] -> (3, H, W) float32 of ImageNet's mean 0 and deviation 1."""
    return torch.from_numpy(((pixels - _MEAN) / _DEVIATION).transpose(2, 0, 1))

"""From a device to the half precision in which features are stored."""

from __future__ import annotations

import numpy as np
import torch

from sc3d.errors import FeatureError


def to_half(features: torch.Tensor, model: str) -> np.ndarray:
    """Features as a contiguous float16 array on the CPU.

    Raises:
        FeatureError: values that are not finite, or too large for float16; ``model`` is named.
    """
    half = features.to(torch.float16)
    if not bool(torch.isfinite(half).all()):
        raise FeatureError(
            f"{model}'s features are not finite in float16: if models.dtype is float16, take bfloat16 or float32; "
            "else the weights are not the published ones, or are damaged"
        )
    return np.ascontiguousarray(half.cpu().numpy())

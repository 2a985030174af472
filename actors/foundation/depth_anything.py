"""Depth Anything V2: the relative depth of a photo, as SemAlign3D reads it. Three sizes; the smallest alone is free for all use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
import torch
from torch import nn

from actors.base import Resources, Row
from actors.foundation.actor import FoundationActor
from actors.foundation.device import choose_dtype
from actors.foundation.imagenet import normalised
from actors.foundation.pretrained import Size, library, load_pretrained, random_network
from actors.weights import fetch_weights
from sc3d.class_shapes.observation import depth_of_nearness, depth_raster
from sc3d.config import ModelsConfig
from sc3d.errors import InputError

FILES = ("*.json", "*.safetensors")
_CLASS = "DepthAnythingForDepthEstimation"
_SIDE, _PATCH = 518, 14
Kind = Literal["small", "base", "large"]
_SIZES: Mapping[Kind, tuple[int, int, int, list[int], int]] = {
    "small": (384, 12, 6, [48, 96, 192, 384], 64),
    "base": (768, 12, 12, [96, 192, 384, 768], 128),
    "large": (1024, 24, 16, [256, 512, 1024, 1024], 256),
}
"""Channels, blocks and heads of the backbone, channels of the neck and of its fusion."""
_MOST = 4
"""Longest side that is looked at, in shorter ones: what attention costs grows with its square."""


class DepthAnything:
    """The network on its device.

    Args:
        model: a ``DepthAnythingForDepthEstimation`` of transformers, in evaluation mode.
    """

    def __init__(self, model: nn.Module, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        self.device, self.dtype = torch.device(device), dtype
        self.model = model.to(self.device, dtype)

    def nearness(self, image: np.ndarray) -> np.ndarray:
        """Inverse depth (h, w) float32 of an upright RGB image (H, W, 3) uint8, up to scale and shift, at the size that the network sees.

        As the authors prepare it: bicubic, the shorter side 518 pixels, both multiples of 14.

        Raises:
            InputError: one side is more than four times the other.
        """
        width, height = network_size(image.shape[1], image.shape[0])
        small = cv2.resize(image.astype(np.float32) / 255, (width, height), interpolation=cv2.INTER_CUBIC)
        return np.asarray(self.inverse_depth(normalised(small)[None])[0].float().cpu().numpy())

    @torch.inference_mode()
    def inverse_depth(self, pixels: torch.Tensor) -> torch.Tensor:
        """The same (B, h, w), in the model's precision, of normalised pixels (B, 3, h, w) whose sides are multiples of 14."""
        found: torch.Tensor = self.model(pixel_values=pixels.to(self.device, self.dtype)).predicted_depth
        return found


def network_size(width: int, height: int) -> tuple[int, int]:
    """Width and height that the network sees an image at.

    Raises:
        InputError: one side is more than four times the other.
    """
    if max(width, height) > _MOST * min(width, height):
        raise InputError(f"a photo of {width} x {height} pixels is too narrow for a depth network; crop it around the object")
    scale = _SIDE / min(width, height)
    return max(round(width * scale / _PATCH) * _PATCH, _SIDE), max(round(height * scale / _PATCH) * _PATCH, _SIDE)


def random_model(kind: Kind = "small", size: Size = "tiny") -> nn.Module:
    """A model of the published architecture, or a small one like it, with reproducible random weights."""
    made_by = library("transformers")
    hidden, layers, heads, neck, fusion = (24, 4, 2, [8] * 4, 8) if size == "tiny" else _SIZES[kind]
    backbone = made_by.Dinov2Config(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        image_size=_SIDE,
        patch_size=_PATCH,
        out_indices=[layers // 4 * quarter for quarter in (1, 2, 3, 4)],
        reshape_hidden_states=False,
    )
    config = made_by.DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=hidden,
        patch_size=_PATCH,
        neck_hidden_sizes=neck,
        fusion_hidden_size=fusion,
    )
    return random_network(lambda: getattr(made_by, _CLASS)(config))


class DepthAnythingActor(FoundationActor):
    """One size behind the actors' contract. Subclasses say which."""

    kind: ClassVar[Kind]
    requires: ClassVar[Mapping[str, str]] = {"image": "upright RGB, (H, W, 3) uint8"}
    provides: ClassVar[Mapping[str, str]] = {"depth": "(h, w) float16 over the whole image, in a unit of its own"}
    resources: ClassVar[Resources] = Resources(num_cpus=0.5, num_gpus=0.2)

    def load(self, models: ModelsConfig, device: torch.device) -> None:
        """Load the network."""
        if models.variant == "tiny":
            model: Any = random_model(self.kind)
        else:
            source = getattr(models, f"depth_anything_v2_{self.kind}")
            model = load_pretrained("transformers", _CLASS, fetch_weights(source, FILES, models.cache))
        self.network = DepthAnything(model, device, choose_dtype(models, device))

    def process(self, row: Row) -> Row:
        """The depth of one photo."""
        image = row["image"]
        nearness = self.network.nearness(image)
        # What class shapes read is coarser than what the network sees.
        raster = depth_raster(image.shape[1], image.shape[0])
        return {"depth": depth_of_nearness(cv2.resize(nearness, raster, interpolation=cv2.INTER_AREA))}


class DepthAnythingSmall(DepthAnythingActor):
    """ViT-S, Apache-2.0."""

    kind = "small"
    version = "depth-anything-v2-small-1"
    weights: ClassVar[Mapping[str, tuple[str, ...]]] = {"models.depth_anything_v2_small": FILES}


class DepthAnythingBase(DepthAnythingActor):
    """ViT-B, not for commercial use."""

    kind = "base"
    version = "depth-anything-v2-base-1"
    weights: ClassVar[Mapping[str, tuple[str, ...]]] = {"models.depth_anything_v2_base": FILES}


class DepthAnythingLarge(DepthAnythingActor):
    """ViT-L, which SemAlign3D uses; not for commercial use."""

    kind = "large"
    version = "depth-anything-v2-large-1"
    weights: ClassVar[Mapping[str, tuple[str, ...]]] = {"models.depth_anything_v2_large": FILES}

"""DINOv2, DINOv2 with registers and DINOv3 in the slot ``dino``: the patch tokens of the last block, before the final norm.

That is the facet "token" of layer 11 of the ViT-B in SD-DINO, GeoAware-SC and DIY-SC. Each patch is one cell of the working grid: images
are letterboxed to 60 patches (840 pixels at a patch size of 14, 960 at 16).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from actors.base import Resources, Row
from actors.foundation.actor import FoundationActor
from actors.foundation.device import choose_dtype
from actors.foundation.half import to_half
from actors.foundation.pretrained import Size, library, load_pretrained, random_network
from actors.weights import fetch_weights
from sc3d.config import ModelsConfig
from sc3d.grid import SIDE
from sc3d.images import letterbox

Kind = Literal["dinov2", "dinov2_registers", "dinov3"]
Positions = Literal["hub", "transformers"]

FILES = ("*.json", "*.safetensors")
"""What of a repository on the hub is needed."""

_CLASSES: Mapping[Kind, str] = {
    "dinov2": "Dinov2Model",
    "dinov2_registers": "Dinov2WithRegistersModel",
    "dinov3": "DINOv3ViTModel",
}
# The red, green and blue of ImageNet's pixels, which the models were trained on.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_HUB_OFFSET = 0.1

_TINY = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
_FULL = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}


class Dino:
    """Dense tokens of images.

    Args:
        model: a ``Dinov2Model``, ``Dinov2WithRegistersModel`` or ``DINOv3ViTModel`` of transformers, in evaluation mode. It is taken over:
            its final norm is removed and, with ``positions="hub"``, its position embeddings are replaced.
        device, dtype: where it runs, and in which precision.
        side: cells along the grid, one patch each.
        positions: how DINOv2's learned position embeddings are stretched to the grid: as the model on torch.hub does, on which
            published adapters were trained, or as transformers does. The other two kinds have no such choice: there transformers
            agrees with upstream.
    """

    def __init__(
        self,
        model: nn.Module,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        side: int = SIDE,
        positions: Positions = "hub",
    ) -> None:
        config: Any = model.config
        self.device, self.dtype, self.side = torch.device(device), dtype, side
        self.frame = side * int(config.patch_size)
        self.channels = int(config.hidden_size)
        self._first_patch = 1 + int(getattr(config, "num_register_tokens", 0))
        if positions == "hub" and config.model_type == "dinov2":
            learned: torch.Tensor = model.embeddings.position_embeddings  # type: ignore[assignment, union-attr]
            # With as many positions as patches, transformers takes them as they are.
            model.embeddings.position_embeddings = nn.Parameter(hub_positions(learned.detach(), side), requires_grad=False)  # type: ignore[union-attr]
        setattr(model, "layernorm" if hasattr(model, "layernorm") else "norm", nn.Identity())
        self.model = model.to(self.device, dtype)
        self._mean = torch.tensor(_MEAN, device=self.device).view(3, 1, 1)
        self._deviation = torch.tensor(_DEVIATION, device=self.device).view(3, 1, 1)

    def describe(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Tokens (C, side, side) float16 of each upright RGB image (H, W, 3) uint8, at the cells of its letterboxed frame.

        Raises:
            FeatureError: tokens are not finite in float16.
        """
        if not images:
            return []
        frames = torch.from_numpy(np.stack([letterbox(image, self.frame) for image in images]))
        return list(to_half(self.tokens(frames), "DINO"))

    @torch.inference_mode()
    def tokens(self, frames: torch.Tensor) -> torch.Tensor:
        """Tokens (B, C, side, side) in the model's precision of letterboxed ``frames`` (B, S, S, 3) uint8, S = ``frame``."""
        pixels = frames.to(self.device).permute(0, 3, 1, 2).float() / 255
        normalised = (pixels - self._mean) / self._deviation
        tokens = self.model(pixel_values=normalised.to(self.dtype)).last_hidden_state[:, self._first_patch :]
        return tokens.transpose(1, 2).unflatten(2, (self.side, self.side))


def hub_positions(learned: torch.Tensor, side: int) -> torch.Tensor:
    """DINOv2's position embeddings for ``side x side`` patches, as ``dinov2_vitb14`` of torch.hub interpolates them.

    Bicubic, with the scale factor (side + 0.1) / n instead of the ratio of the sizes, and without antialiasing
    (``interpolate_pos_encoding`` in its vision_transformer.py), so that samples lie up to n / 600 positions off.

    Args:
        learned: (1, 1 + n * n, C), the class token's first.

    Returns:
        (1, 1 + side * side, C) in the same precision.
    """
    n = int((learned.shape[1] - 1) ** 0.5)
    if n == side:
        return learned.clone()
    grid = learned[:, 1:].float().unflatten(1, (n, n)).permute(0, 3, 1, 2)
    factor = (side + _HUB_OFFSET) / n
    stretched = nn.functional.interpolate(grid, scale_factor=(factor, factor), mode="bicubic", antialias=False)
    return torch.cat([learned[:, :1], stretched.flatten(2).transpose(1, 2).to(learned.dtype)], dim=1)


def random_model(kind: Kind, size: Size = "tiny") -> nn.Module:
    """A model of the published architecture, or a small one like it, with reproducible random weights. Full size is ViT-B."""
    made_by = library("transformers")
    values: dict[str, Any] = dict(_TINY if size == "tiny" else _FULL)
    if kind == "dinov3":
        values |= {"intermediate_size": 4 * values["hidden_size"], "num_register_tokens": 4, "patch_size": 16}
    else:
        values |= {"image_size": 518, "patch_size": 14}
    model_class = getattr(made_by, _CLASSES[kind])
    return random_network(lambda: model_class(model_class.config_class(**values)))


class DinoSource(FoundationActor):
    """One of the three behind the actors' contract. Subclasses say which."""

    kind: ClassVar[Kind]
    requires: ClassVar[Mapping[str, str]] = {"image": "upright RGB, (H, W, 3) uint8"}
    provides: ClassVar[Mapping[str, str]] = {"dino": "(C, 60, 60) float16 descriptors of the letterboxed frame's cells"}
    resources: ClassVar[Resources] = Resources(num_cpus=0.5, num_gpus=0.2)
    batch_size: ClassVar[int] = 8

    def load(self, models: ModelsConfig, device: torch.device) -> None:
        """Load the network."""
        if models.variant == "tiny":
            model = random_model(self.kind)
        else:
            source = getattr(models, self.kind)
            model = load_pretrained("transformers", _CLASSES[self.kind], fetch_weights(source, FILES, models.cache))
        positions = models.dinov2_positions if self.kind == "dinov2" else "hub"
        self.dino = Dino(model, device, choose_dtype(models, device), positions=positions)

    def process(self, row: Row) -> Row:
        """Describe one photo."""
        return self.process_batch([row])[0]

    def process_batch(self, rows: Sequence[Row]) -> list[Row]:
        """Describe several photos in one pass."""
        return [{"dino": tokens} for tokens in self.dino.describe([row["image"] for row in rows])]


class DinoV2Source(DinoSource):
    """DINOv2, as the paper's labels use it."""

    kind = "dinov2"
    version = "dinov2-1"
    options = ("models.dinov2_positions",)
    weights: ClassVar[Mapping[str, tuple[str, ...]]] = {"models.dinov2": FILES}


class DinoV2RegistersSource(DinoSource):
    """DINOv2 with registers, which take up the outlier tokens."""

    kind = "dinov2_registers"
    version = "dinov2-registers-1"
    weights: ClassVar[Mapping[str, tuple[str, ...]]] = {"models.dinov2_registers": FILES}


class DinoV3Source(DinoSource):
    """DINOv3, the paper's strongest DINO."""

    kind = "dinov3"
    version = "dinov3-1"
    weights: ClassVar[Mapping[str, tuple[str, ...]]] = {"models.dinov3": FILES}

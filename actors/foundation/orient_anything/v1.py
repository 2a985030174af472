"""OrientAnything V1: DINOv2 and a head of two layers, which tells azimuth, polar angle, rotation and how sure it is.

n: pictures, D: width of the backbone, O: outputs of the head, 902 or 722: 360 bins of the azimuth, 180 of the polar angle, 360 or 180 of
the rotation, and two for the confidence. Written from a description of the architecture.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from actors.foundation.imagenet import normalised
from actors.foundation.orient_anything.angles import AZIMUTHS, yaw_of_azimuth
from actors.foundation.orient_anything.pictures import clay_pictures, framed_square
from actors.foundation.pretrained import Size, library, random_network
from actors.state_dicts import load_strictly, read_state
from sc3d.errors import FeatureError, WeightsError
from sc3d.geometry.yaw import OrientationEstimates

FILE = "ronormsigma1/dino_weight.pt"
"""The weights of the published demonstration (version 1.1), among several in the repository."""

OUTPUTS = (902, 722)
CROPPED = 224
"""Pixels a side of what the network sees."""

LEAST_CONFIDENCE = 0.5
"""Below it upstream says that an object has no front."""

_RESIZED = 256
"""Pixels a side of a picture, and of its middle that the network sees."""
_BLACK = 0
_HEAD_CHANNELS = 64

# The checkpoint has the names of transformers 4.38; the installed version's differ from 5 on.
_RENAMED = (
    (r"\.attention\.attention\.(query|key|value)\.", lambda found: f".attention.{found[1][0]}_proj."),
    (r"\.attention\.output\.dense\.", lambda _: ".attention.o_proj."),
)


class Head(nn.Module):
    """Tokens (n, D) -> logits (n, O)."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.net1 = nn.Sequential(nn.Linear(width, outputs), nn.BatchNorm1d(outputs), nn.ReLU())
        self.net2 = nn.Sequential(nn.Linear(outputs, outputs), nn.BatchNorm1d(outputs))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.net2(self.net1(tokens))


class OrientAnythingNetwork(nn.Module):
    """Pictures (n, 3, 224, 224), normalised -> logits (n, O) float32.

    Args:
        width, depth: of the backbone; heads have 64 channels.
        outputs: O.
        pretrained_side: pixels a side of the pictures that the backbone's positions are for.
    """

    def __init__(self, width: int = 1024, depth: int = 24, outputs: int = OUTPUTS[0], pretrained_side: int = 518) -> None:
        super().__init__()
        made_by = library("transformers")
        self.dinov2 = made_by.Dinov2Model(
            made_by.Dinov2Config(
                hidden_size=width,
                num_hidden_layers=depth,
                num_attention_heads=max(1, width // _HEAD_CHANNELS),
                image_size=pretrained_side,
                patch_size=14,
            )
        )
        self.down_sampler = Head(width, outputs)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        tokens = self.dinov2(pixel_values=pixels.to(self.dinov2.dtype)).last_hidden_state[:, 0]
        return self.down_sampler(tokens.float())


class OrientAnythingV1:
    """Tells the yaw of rendered views, and of objects in photos: an :class:`~sc3d.geometry.yaw.OrientationEstimator`.

    Args:
        network: (n, 3, 224, 224) -> (n, O), in evaluation mode; its backbone, ``dinov2``, is put into the precision ``dtype``.
        device, dtype: where it runs, and in which precision.
        least_confidence: an object that the network is less sure of has no reliable front.
    """

    def __init__(
        self,
        network: nn.Module,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        least_confidence: float = LEAST_CONFIDENCE,
    ) -> None:
        self.device, self.dtype, self.least_confidence = torch.device(device), dtype, least_confidence
        self.network: Any = network.to(self.device)
        self.network.dinov2.to(dtype)

    def estimate(self, views: np.ndarray) -> OrientationEstimates:
        """Estimates for nearness maps (n, h, w) of :func:`~sc3d.geometry.yaw.render_yaw_views`, of at least 224 pixels a side.

        Raises:
            InputError: a view is empty.
            FeatureError: the network's answer is not finite.
        """
        return self.estimate_pictures(*clay_pictures(views))

    @torch.inference_mode()
    def estimate_pictures(
        self, pictures: Sequence[np.ndarray] | np.ndarray, masks: Sequence[np.ndarray] | np.ndarray
    ) -> OrientationEstimates:
        """Estimates for the objects ``masks`` (h, w) bool in ``pictures`` (h, w, 3) uint8 RGB; the symmetry is 1 or 0.

        Raises:
            InputError: a mask is empty, or of another size than its picture.
            FeatureError: the network's answer is not finite.
        """
        pixels = torch.stack([preprocess(framed_square(p, m, _BLACK)) for p, m in zip(pictures, masks, strict=True)])
        logits = self.network(pixels.to(self.device)).float().cpu()
        if not torch.isfinite(logits).all():
            raise FeatureError(
                f"OrientAnything's answer is not finite in {self.dtype}: set models.dtype=float32; if it still is not, "
                "the weights are damaged and must be fetched again"
            )
        confidence = logits[:, -2:].softmax(1)[:, 0].numpy()
        azimuth = logits[:, :AZIMUTHS].argmax(1).numpy()
        return OrientationEstimates(yaw_of_azimuth(azimuth), (confidence >= self.least_confidence).astype(np.int64))


def preprocess(square: Image.Image) -> torch.Tensor:
    """A square RGB picture -> (3, 224, 224) float32: the middle of it at 256 pixels, with ImageNet's mean and deviation."""
    margin = (_RESIZED - CROPPED) // 2
    resized = square.resize((_RESIZED, _RESIZED), Image.Resampling.BICUBIC)
    pixels = np.asarray(resized.crop((margin, margin, margin + CROPPED, margin + CROPPED)), np.float32) / 255
    return normalised(pixels)


def load_network(path: Path) -> OrientAnythingNetwork:
    """The network in ``path``, a checkpoint or a folder with the published one, whose sizes follow from the file.

    Raises:
        WeightsError: the file is missing, damaged, or holds something else.
        PreflightError: transformers is not installed.
    """
    path = path / FILE if path.is_dir() else path
    state = read_state(path)
    try:
        positions = state["dinov2.embeddings.position_embeddings"]
        outputs, width = len(state["down_sampler.net2.1.weight"]), positions.shape[-1]
        depth = 1 + max(int(name.split(".")[3]) for name in state if name.startswith("dinov2.encoder.layer."))
        side = 14 * round((positions.shape[1] - 1) ** 0.5)
    except (KeyError, ValueError, IndexError, TypeError):
        names = ", ".join(sorted(state)[:3])
        raise WeightsError(
            f"{path} does not hold OrientAnything V1 but {names} and more; models.orient_anything_v1 must name its {FILE}"
        ) from None
    if outputs not in OUTPUTS:
        raise WeightsError(
            f"{path}: the head has {outputs} outputs; OrientAnything V1 with {OUTPUTS[0]} or {OUTPUTS[1]} is supported"
        )
    with torch.device("meta"):
        network = OrientAnythingNetwork(width, depth, outputs, side)
    try:
        load_strictly(network, _with_new_names(state, network.state_dict()))
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}; models.orient_anything_v1 must name OrientAnything V1's {FILE}") from None
    return network.float().eval().requires_grad_(False)


def _with_new_names(state: Mapping[str, torch.Tensor], own: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    renamed = {}
    for name, value in state.items():
        new = name
        for old_part, new_part in _RENAMED:
            new = re.sub(old_part, new_part, new)
        renamed[new if name not in own and new in own else name] = value
    return renamed


def random_model(size: Size = "tiny") -> nn.Module:
    """A network of the published architecture, or a small one like it, with reproducible random weights."""
    sizes = {} if size == "full" else {"width": 32, "depth": 2, "pretrained_side": 56}
    return random_network(lambda: OrientAnythingNetwork(**sizes))

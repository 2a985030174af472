"""The process of OrientAnything V2: upstream's network, from upstream's repository, behind a pipe.

Run as ``python -m actors.foundation.orient_anything.worker``. Reads messages ``pictures`` (n, 518, 518, 3) uint8 from its input and writes
``logits`` (n, 900) float32 to its output; it ends with its input. What upstream prints goes to stderr.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from actors.foundation.orient_anything.serving import Answer, serve
from actors.foundation.pretrained import library, random_network
from actors.state_dicts import load_strictly, read_state
from sc3d.errors import ConfigError, WeightsError

MODULE = "vision_tower"
"""Of upstream's repository, with the network."""

UNUSED_HEADS = ("camera_head", "point_head", "depth_head", "track_head")
"""Parts of the network that orientation does not depend on: 353 M parameters."""

_OUTPUTS = 900


def load_upstream(repository: Path, weights: Path, dtype: torch.dtype) -> nn.Module:
    """Upstream's network without its unused heads, in evaluation mode.

    Args:
        repository: folder of upstream's repository; its modules become this process's.
        weights: the checkpoint.
        dtype: of the matrix products on a GPU; the weights stay float32.

    Raises:
        ConfigError: the repository is not upstream's, or something that it needs is not installed.
        WeightsError: the checkpoint is missing, damaged, or another model's.
    """
    sys.path.insert(0, str(repository))
    try:
        network: Any = importlib.import_module(MODULE).VGGT_OriAny_Ref(dtype=dtype, out_dim=_OUTPUTS, nopretrain=True)
        for head in UNUSED_HEADS:
            if hasattr(network.vggt, head):
                delattr(network.vggt, head)
    except ImportError as error:
        raise ConfigError(
            f"the code of OrientAnything V2 in {repository} cannot be imported ({error}): check that the repository is complete, and "
            "install what it needs (pip install einops huggingface_hub)"
        ) from error
    except (AttributeError, TypeError) as error:
        raise ConfigError(
            f"{repository} does not hold the code of OrientAnything V2 as it was at commit 73b11c9 ({error})"
        ) from error
    try:
        load_strictly(network, read_state(weights), ignore=[f"vggt.{head}.*" for head in UNUSED_HEADS])
    except WeightsError as error:
        raise WeightsError(f"{weights}: {error}; models.orient_anything_v2 must name OrientAnything V2's checkpoint") from None
    return network.eval().requires_grad_(False)


class TinyNetwork(nn.Module):
    """Stands in for upstream's network in trials without weights and repository: the same inputs and outputs, random answers."""

    def __init__(self) -> None:
        super().__init__()
        made_by = library("transformers")
        size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 518, "patch_size": 14}
        self.backbone = made_by.Dinov2WithRegistersModel(made_by.Dinov2WithRegistersConfig(**size))
        self.ref_sampler = nn.Linear(16, _OUTPUTS)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """(B, 1, 3, 518, 518) in [0, 1] -> (B, 900)."""
        return self.ref_sampler(self.backbone(pictures.flatten(0, 1)).last_hidden_state[:, 0])


def answering(network: nn.Module, device: torch.device) -> Answer:
    """What :func:`serve` asks for each message."""
    network = network.to(device)

    @torch.inference_mode()
    def answer(message: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        # A message's memory is read-only, which torch warns of.
        pictures = torch.from_numpy(np.array(message["pictures"])).to(device)
        try:
            logits = network(pictures.permute(0, 3, 1, 2)[:, None].float() / 255)
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            raise
        return {"logits": logits.float().reshape(len(pictures), -1).cpu().numpy()}

    return answer


def main() -> None:
    """Load the network that the command line names, and serve it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repository", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()

    def prepare() -> Answer:
        if options.tiny:
            network = random_network(TinyNetwork)
        else:
            network = load_upstream(options.repository, options.weights, getattr(torch, options.dtype))
        return answering(network, torch.device(options.device))

    serve(prepare)


if __name__ == "__main__":
    main()

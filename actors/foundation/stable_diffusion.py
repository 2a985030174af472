"""Stable Diffusion 1.5 in the slot ``sd``: what its UNet's decoder makes of a slightly noised image (SD-DINO, Zhang et al., NeurIPS 2023).

Read are the layers s3, s4 and s5 of GeoAware-SC and DIY-SC: the inputs of their UNet's output blocks 8, 5 and 2, without the skip
connection. In those two an image is also seen through a learned captioner (ODISE's), whose weights may not be used commercially; here the
prompt is a text. Their adapters take these features as well, but were trained on slightly others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from actors.foundation.diffusion_model import DiffusionModel, check_timestep
from actors.foundation.diffusion_source import DiffusionSource
from actors.foundation.freeu import FreeU
from actors.foundation.half import to_half
from actors.foundation.latent_diffusion import FILES, STRIDE, Networks, posterior, seeded_noise
from actors.foundation.tiles import Tiling
from sc3d.config import ModelsConfig
from sc3d.errors import ConfigError
from sc3d.grid import SIDE
from sc3d.images import letterbox

FRAME = 16 * SIDE
"""Side of the letterboxed frame in pixels: 960, in which a cell of the working grid is one of s3."""

# Name of a layer -> decoder block, and the residual layer in it after whose attention (if it has any) it is read.
_LAYERS: Mapping[str, tuple[int, int]] = {"sd.s3": (2, 1), "sd.s4": (1, 1), "sd.s5": (0, 1)}
_LAST = max(_LAYERS.values())


@dataclass(frozen=True)
class StableDiffusionOptions:
    """How images are shown to the model; the defaults are GeoAware-SC's, apart from FreeU.

    ``timestep``: noise, 0 to 999. ``seed``: of the noise, which all tiles and images share. ``prompt``: a text, in which ``{category}``
    stands for the image's category ("a photo of a {category}"). ``tile``: side of the overlapping tiles in pixels; ``None`` shows the
    whole frame at once, which is about as fast and, at a size that the model was not trained at, less accurate. ``freeu``: amplify the
    backbone.
    """

    timestep: int = 50
    seed: int = 42
    prompt: str = ""
    tile: int | None = 512
    freeu: FreeU | None = None

    def __post_init__(self) -> None:
        check_timestep(self.timestep)
        tile = FRAME if self.tile is None else self.tile
        if tile % (8 * STRIDE) or any(offset % (8 * STRIDE) for offset in Tiling(FRAME, tile).offsets):
            raise ConfigError(f"tiles of {tile} pixels do not lie on the cells of s5, which are {8 * STRIDE} pixels: take 512")


class StableDiffusion(DiffusionModel):
    """Decoder features of images.

    Args:
        networks: Stable Diffusion 1.5, or a network built like it; see :class:`~actors.foundation.diffusion_model.DiffusionModel`.
        device, dtype: where they run, and in which precision.
        options: how images are shown to them.
        tiles_at_once: tiles in one pass; ``None``: 16 on a GPU, which are four images, one on a CPU.
    """

    def __init__(
        self,
        networks: Networks,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        options: StableDiffusionOptions | None = None,
        tiles_at_once: int | None = None,
    ) -> None:
        self.options = options = options or StableDiffusionOptions()
        super().__init__(networks, device, dtype, options.timestep, options.prompt, _LAST, tiles_at_once)
        self.tiling = Tiling(FRAME, options.tile or FRAME)
        if options.freeu:
            options.freeu.install(self.unet)
        self._noise = seeded_noise(options.seed, self.tiling.tile // STRIDE).to(self.device)
        self._read: dict[str, torch.Tensor] = {}
        for name, (block, layer) in _LAYERS.items():
            _part(self.unet, block, layer).register_forward_hook(self._keep(name))

    def describe(self, images: Sequence[np.ndarray], categories: Sequence[str]) -> list[dict[str, np.ndarray]]:
        """The layers of each upright RGB image (H, W, 3) uint8, in its letterboxed frame.

        Returns:
            For each image float16 arrays, raw: ``sd.s3`` (640, 60, 60), ``sd.s4`` (1280, 30, 30) and ``sd.s5`` (1280, 15, 15).

        Raises:
            FeatureError: features are not finite in float16.
        """
        if not images:
            return []
        frames = torch.from_numpy(np.stack([letterbox(image, FRAME) for image in images]))
        half = {name: to_half(layer, "Stable Diffusion") for name, layer in self.layers(frames, categories).items()}
        return [{name: layer[i] for name, layer in half.items()} for i in range(len(images))]

    @torch.inference_mode()
    def layers(self, frames: torch.Tensor, categories: Sequence[str]) -> dict[str, torch.Tensor]:
        """The layers (B, C, h, w) float32 of letterboxed ``frames`` (B, 960, 960, 3) uint8 of ``categories`` (B,)."""
        tiles = self.tiling.cut(frames.to(self.device).permute(0, 3, 1, 2))
        contexts = self.contexts(categories)
        contexts = contexts.repeat_interleave(len(tiles) // len(frames), dim=0)
        step = self.maps_at_once
        parts = [self._pass(tiles[i : i + step], contexts[i : i + step]) for i in range(0, len(tiles), step)]
        return {name: self.tiling.join(torch.cat([part[name] for part in parts])) for name in _LAYERS}

    def _pass(self, tiles: torch.Tensor, contexts: torch.Tensor) -> dict[str, torch.Tensor]:
        mean, _ = posterior(self.vae, tiles.float() / 127.5 - 1)
        self.run(self.noised(mean, self._noise), contexts)
        read, self._read = self._read, {}
        freeu = self.options.freeu
        return read if freeu is None else {name: freeu.amplify(layer, self.unet) for name, layer in read.items()}

    def _keep(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            self._read[name] = output if isinstance(output, torch.Tensor) else output[0]

        return hook


def _part(unet: Any, block: int, layer: int) -> nn.Module:
    up = unet.up_blocks[block]
    part: nn.Module = (up.attentions if hasattr(up, "attentions") else up.resnets)[layer]
    return part


class StableDiffusionSource(DiffusionSource):
    """Stable Diffusion 1.5 behind the actors' contract."""

    version = "stable-diffusion-1"
    options = tuple(f"models.sd_{name}" for name in ("timestep", "seed", "prompt", "tile", "freeu"))
    weights: ClassVar[Mapping[str, tuple[str, ...]]] = {"models.stable_diffusion": FILES}
    source = "stable_diffusion"
    architecture = "1.5"
    provides: ClassVar[Mapping[str, str]] = {
        "sd": "layers of the letterboxed frame, float16: sd.s3 (C, 60, 60), sd.s4 (C, 30, 30), sd.s5 (C, 15, 15)"
    }
    batch_size: ClassVar[int] = 4

    @classmethod
    def settings(cls, models: ModelsConfig) -> StableDiffusionOptions:
        """The configured options."""
        freeu = FreeU() if models.sd_freeu else None
        return StableDiffusionOptions(models.sd_timestep, models.sd_seed, models.sd_prompt, models.sd_tile, freeu)

    def build(self, networks: Networks, device: torch.device, dtype: torch.dtype, models: ModelsConfig) -> StableDiffusion:
        """Stable Diffusion of these networks."""
        return StableDiffusion(networks, device, dtype, self.settings(models))

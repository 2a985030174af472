"""DIFT (Tang et al., NeurIPS 2023) in the slot ``sd``: a decoder block of Stable Diffusion 2.1, averaged over draws of the noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from actors.foundation.diffusion_model import DiffusionModel, check_timestep
from actors.foundation.diffusion_source import DiffusionSource
from actors.foundation.half import to_half
from actors.foundation.latent_diffusion import FILES, STRIDE, Networks, posterior, seeded_noise
from sc3d.config import ModelsConfig
from sc3d.errors import ConfigError
from sc3d.images import letterbox

LAYER = "sd.dift"

_BLOCK = 1


@dataclass(frozen=True)
class DiftOptions:
    """How images are shown to the model; the defaults are upstream's for semantic correspondence.

    ``timestep``: noise, 0 to 999. ``ensemble``: draws of latents and noise that are averaged. ``seed``: draw k has the seed ``seed + k``,
    whatever the image. ``prompt``: a text, in which ``{category}`` stands for the image's category. ``frame``: side of the letterboxed
    frame in pixels, a multiple of 64; features are on a grid of ``frame / 16`` cells.
    """

    timestep: int = 261
    ensemble: int = 8
    seed: int = 42
    prompt: str = "a photo of a {category}"
    frame: int = 768

    def __post_init__(self) -> None:
        check_timestep(self.timestep)
        if self.ensemble < 1:
            raise ConfigError(f"an ensemble of {self.ensemble} has no mean; take at least 1")
        if self.frame < 8 * STRIDE or self.frame % (8 * STRIDE):
            raise ConfigError(f"a frame of {self.frame} pixels is no multiple of {8 * STRIDE}")


class Dift(DiffusionModel):
    """Averaged decoder features of images.

    Args:
        networks: Stable Diffusion 2.1, or a network built like it; see :class:`~actors.foundation.diffusion_model.DiffusionModel`.
        device, dtype: where they run, and in which precision.
        options: how images are shown to them.
        maps_at_once: noised images in one pass; ``None``: 16 on a GPU, one on a CPU.
    """

    def __init__(
        self,
        networks: Networks,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        options: DiftOptions | None = None,
        maps_at_once: int | None = None,
    ) -> None:
        self.options = options = options or DiftOptions()
        super().__init__(networks, device, dtype, options.timestep, options.prompt, (_BLOCK, None), maps_at_once)
        side = options.frame // STRIDE
        # Two draws a member: which latents of the posterior, and which noise is added to them.
        draws = torch.stack([seeded_noise(options.seed + k, side, 2) for k in range(options.ensemble)], dim=1)
        self._latent_draws, self._noise = draws.to(self.device)

    def describe(self, images: Sequence[np.ndarray], categories: Sequence[str]) -> list[dict[str, np.ndarray]]:
        """The features of each upright RGB image (H, W, 3) uint8, in its letterboxed frame: ``sd.dift`` (1280, 48, 48) float16, raw.

        Raises:
            FeatureError: features are not finite in float16.
        """
        if not images:
            return []
        frames = torch.from_numpy(np.stack([letterbox(image, self.options.frame) for image in images]))
        return [{LAYER: features} for features in to_half(self.features(frames, categories), "DIFT")]

    @torch.inference_mode()
    def features(self, frames: torch.Tensor, categories: Sequence[str]) -> torch.Tensor:
        """Features (B, C, F / 16, F / 16) float32 of letterboxed ``frames`` (B, F, F, 3) uint8 of ``categories`` (B,)."""
        pixels = frames.to(self.device).permute(0, 3, 1, 2).float() / 127.5 - 1
        contexts = self.contexts(categories)
        return torch.cat([self._mean(pixels[i : i + 1], contexts[i : i + 1]) for i in range(len(pixels))])

    def _mean(self, pixels: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        mean, deviation = posterior(self.vae, pixels)
        noisy = self.noised(mean + deviation * self._latent_draws, self._noise)
        sums = [self.run(some, context.expand(len(some), -1, -1)).float().sum(dim=0) for some in noisy.split(self.maps_at_once)]
        return torch.stack(sums).sum(dim=0, keepdim=True) / len(noisy)


class DiftSource(DiffusionSource):
    """DIFT behind the actors' contract."""

    version = "dift-1"
    options = tuple(f"models.dift_{name}" for name in ("timestep", "ensemble", "seed", "prompt", "frame"))
    weights: ClassVar[Mapping[str, tuple[str, ...]]] = {"models.dift": FILES}
    source = "dift"
    architecture = "2.1"
    provides: ClassVar[Mapping[str, str]] = {"sd": "one layer of the letterboxed frame, float16: sd.dift (C, h, h)"}
    batch_size: ClassVar[int] = 2

    @classmethod
    def settings(cls, models: ModelsConfig) -> DiftOptions:
        """The configured options. A trial run need not wait for eight draws from random weights."""
        draws = 1 if models.variant == "tiny" else models.dift_ensemble
        return DiftOptions(models.dift_timestep, draws, models.dift_seed, models.dift_prompt, models.dift_frame)

    def build(self, networks: Networks, device: torch.device, dtype: torch.dtype, models: ModelsConfig) -> Dift:
        """DIFT of these networks."""
        return Dift(networks, device, dtype, self.settings(models))

"""What Stable Diffusion and DIFT have in common: a latent diffusion model that is cut off where its decoder is read."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from actors.foundation.latent_diffusion import Networks, Prompts, add_noise, drop_decoder, end_after, place
from sc3d.errors import ConfigError

_MAPS_AT_ONCE = 16
"""On a GPU. On a CPU more than one at a time only takes memory."""


def check_timestep(timestep: int) -> None:
    """Check that the model knows a noise.

    Raises:
        ConfigError: it is not within 0 to 999.
    """
    if not 0 <= timestep < 1000:
        raise ConfigError(f"timestep {timestep} is not within 0 to 999")


class DiffusionModel:
    """A model that is shown images at one noise and with one prompt, up to the last part of its decoder that is read.

    Args:
        networks: they are taken over: what is not needed of them is dropped.
        device, dtype: where they run, and in which precision; the text encoder stays where it is.
        timestep: noise, 0 to 999.
        prompt: a text, in which ``{category}`` stands for the image's category.
        last: index of the last decoder block, and of the last residual layer in it; ``None``: the whole block.
        maps_at_once: latents in one pass; ``None``: 16 on a GPU, one on a CPU.
    """

    def __init__(
        self,
        networks: Networks,
        device: torch.device | str,
        dtype: torch.dtype,
        timestep: int,
        prompt: str,
        last: tuple[int, int | None],
        maps_at_once: int | None = None,
    ) -> None:
        self.device, self.dtype = torch.device(device), dtype
        self.maps_at_once = maps_at_once or (1 if self.device.type == "cpu" else _MAPS_AT_ONCE)
        end_after(networks.unet, *last)
        drop_decoder(networks.vae)
        self.unet = place(networks.unet, self.device, dtype)
        self.vae = place(networks.vae, self.device, dtype)
        self.prompts = Prompts(networks, prompt)
        self._timestep = timestep
        self._timesteps = torch.tensor([timestep], device=self.device)

    def contexts(self, categories: Sequence[str]) -> torch.Tensor:
        """The encoded prompts (B, T, D) of images of these categories, as the UNet takes them."""
        return self.prompts.contexts(categories).to(self.device, self.dtype)

    def noised(self, latents: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Latents (B, 4, h, w) at the model's timestep, as the UNet takes them."""
        return add_noise(latents, noise, self._timestep).to(self.dtype)

    def run(self, noisy: torch.Tensor, contexts: torch.Tensor) -> torch.Tensor:
        """Output (B, C, h, w) of the last decoder block for latents (B, 4, h, w) and prompts (B, T, D)."""
        output: torch.Tensor = self.unet(noisy, self._timesteps, encoder_hidden_states=contexts).sample
        return output

"""What the diffusion models have in common: their networks, the noise of a timestep, prompts, and a UNet that ends where it is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from actors.foundation.pretrained import Size, byte_tokenizer, library, load_part, load_pretrained, random_network
from sc3d.errors import WeightsError

FILES = (
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/*",
)
"""What of a repository in the layout of diffusers is needed."""

STRIDE = 8
"""Pixels a latent."""

Version = Literal["1.5", "2.1"]

_STEPS, _BETAS = 1000, (0.00085, 0.012)
_PROMPT_TOKENS = 77
_WIDTHS = (320, 640, 1280, 1280)
# What differs between the published models; everything else is the default of the libraries' classes.
_UNETS: Mapping[Version, Mapping[str, Any]] = {
    "1.5": {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
    "2.1": {
        "sample_size": 96,
        "cross_attention_dim": 1024,
        "attention_head_dim": [5, 10, 20, 20],
        "use_linear_projection": True,
        "upcast_attention": True,
    },
}
_TEXTS: Mapping[Version, Mapping[str, Any]] = {
    "1.5": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
    "2.1": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 23,
        "num_attention_heads": 16,
        "hidden_act": "gelu",
    },
}
_TINY_UNET = {
    "sample_size": 64,
    "block_out_channels": (8, 16, 32, 32),
    "norm_num_groups": 4,
    "cross_attention_dim": 16,
    "attention_head_dim": 2,
}
_TINY_VAE = {"block_out_channels": (4, 4, 8, 8), "layers_per_block": 1, "norm_num_groups": 2}
_TINY_TEXT = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


@dataclass(frozen=True)
class Networks:
    """A latent diffusion model's parts: classes of diffusers and transformers, in evaluation mode."""

    unet: nn.Module
    vae: nn.Module
    text_encoder: nn.Module
    tokenizer: Any


def load_networks(folder: Path) -> Networks:
    """The networks in a local folder in the layout of diffusers, float32, on the CPU.

    Raises:
        WeightsError: a part is missing, damaged, or that of another model.
        PreflightError: diffusers or transformers is not installed.
    """
    if not folder.is_dir():
        raise WeightsError(
            f"{folder}: a folder in the layout of diffusers is needed (unet/, vae/, text_encoder/, tokenizer/), not one file"
        )
    tokenizer = library("transformers").CLIPTokenizer
    return Networks(
        unet=load_pretrained("diffusers", "UNet2DConditionModel", folder / "unet"),
        vae=load_pretrained("diffusers", "AutoencoderKL", folder / "vae"),
        text_encoder=load_pretrained("transformers", "CLIPTextModel", folder / "text_encoder"),
        tokenizer=load_part(partial(tokenizer.from_pretrained, local_files_only=True), folder / "tokenizer", "CLIPTokenizer"),
    )


def random_networks(version: Version = "1.5", size: Size = "tiny") -> Networks:
    """Networks of the published architectures, or small ones like them, with reproducible random weights and a tokenizer of bytes."""
    diffusers, transformers = library("diffusers"), library("transformers")
    tiny = size == "tiny"
    unet = {**_UNETS[version], **(_TINY_UNET if tiny else {"block_out_channels": _WIDTHS})}
    vae: Mapping[str, Any] = _TINY_VAE if tiny else {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2}
    text = transformers.CLIPTextConfig(**{**_TEXTS[version], **(_TINY_TEXT if tiny else {})})
    return Networks(
        unet=random_network(lambda: diffusers.UNet2DConditionModel(**unet)),
        vae=random_network(
            lambda: diffusers.AutoencoderKL(
                down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=4, **vae
            )
        ),
        text_encoder=random_network(lambda: transformers.CLIPTextModel(text)),
        tokenizer=byte_tokenizer(_PROMPT_TOKENS),
    )


def end_after(unet: nn.Module, block: int, layer: int | None = None) -> None:
    """Cut a ``UNet2DConditionModel`` off, in place, so that its output is that of a decoder block and nothing later is computed or kept.

    Args:
        unet: the network.
        block: index of the last ``up_blocks``.
        layer: index of the last residual layer in it, whose output (after attention) is wanted; ``None``: the whole block.
    """
    parts: Any = unet
    parts.up_blocks = parts.up_blocks[: block + 1]
    if layer is not None:
        last = parts.up_blocks[block]
        last.resnets = last.resnets[: layer + 1]
        if hasattr(last, "attentions"):
            last.attentions = last.attentions[: layer + 1]
        last.upsamplers = None
    parts.conv_norm_out, parts.conv_out = None, nn.Identity()


def drop_decoder(vae: nn.Module) -> None:
    """Drop, in place, what of an ``AutoencoderKL`` only makes images."""
    parts: Any = vae
    parts.decoder, parts.post_quant_conv = nn.Identity(), nn.Identity()


def posterior(vae: nn.Module, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of the latents of ``pixels`` (B, 3, H, W) in [-1, 1], times the model's scale: each (B, 4, H/8, W/8)."""
    parts: Any = vae
    found = parts.encode(pixels.to(parts.encoder.conv_in.weight.dtype)).latent_dist
    scale = float(parts.config.scaling_factor)
    return found.mean.float() * scale, found.std.float() * scale


def add_noise(latents: torch.Tensor, noise: torch.Tensor, timestep: int) -> torch.Tensor:
    """The latents after ``timestep`` steps: sqrt(a) * latents + sqrt(1 - a) * noise, a the product of the first 1 - beta.

    The square roots of the 1,000 betas are evenly spaced (Rombach et al., CVPR 2022; "scaled_linear" in diffusers).
    """
    betas = torch.linspace(_BETAS[0] ** 0.5, _BETAS[1] ** 0.5, _STEPS, dtype=torch.float64) ** 2
    kept = float(torch.cumprod(1 - betas, 0)[timestep])
    return kept**0.5 * latents + (1 - kept) ** 0.5 * noise


def seeded_noise(seed: int, side: int, draws: int = 1) -> torch.Tensor:
    """Standard normal latents (draws, 4, side, side) from the CPU's generator: the same on every device."""
    return torch.randn(draws, 4, side, side, generator=torch.Generator().manual_seed(seed))


def place(network: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """The network on its device, in the layout in memory that convolutions there are fastest in."""
    layout = torch.channels_last if device.type == "cuda" else torch.contiguous_format
    # Not the classes' own `to`, which warns of modules that must stay float32 even where there are none, as here.
    return nn.Module.to(network, device, dtype).to(memory_format=layout)  # type: ignore[call-overload]


class Prompts:
    """Texts as the UNet sees them. The encoder stays where it is, on the CPU as a rule: there are only as many texts as categories.

    Args:
        networks: of which the tokenizer and the text encoder are used.
        template: the prompt; ``{category}`` stands for the image's category.
    """

    def __init__(self, networks: Networks, template: str) -> None:
        self._encoder, self._tokenizer, self.template = networks.text_encoder, networks.tokenizer, template
        self._known: dict[str, torch.Tensor] = {}

    def contexts(self, categories: Sequence[str]) -> torch.Tensor:
        """The encoded prompts (B, 77, D) float32 of images of these categories, on the text encoder's device."""
        return torch.cat([self._context(self.template.replace("{category}", category)) for category in categories])

    @torch.inference_mode()
    def _context(self, text: str) -> torch.Tensor:
        if text not in self._known:
            tokens = self._tokenizer(
                text, padding="max_length", max_length=_PROMPT_TOKENS, truncation=True, return_tensors="pt"
            ).input_ids
            encoder: Any = self._encoder
            self._known[text] = encoder(input_ids=tokens.to(encoder.device)).last_hidden_state.float()
        return self._known[text]

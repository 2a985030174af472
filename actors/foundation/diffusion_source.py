"""What the actors in the Stable Diffusion slot have in common: networks of a version, options, and photos to layers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
import torch

from actors.base import Resources, Row
from actors.foundation.actor import FoundationActor
from actors.foundation.device import choose_dtype
from actors.foundation.latent_diffusion import FILES, Networks, Version, load_networks, random_networks
from actors.weights import fetch_weights
from sc3d.config import ModelsConfig


class Describer(Protocol):
    """Photos and their categories -> layers by name, (C, h, w) float16 each."""

    def describe(self, images: Sequence[np.ndarray], categories: Sequence[str]) -> list[dict[str, np.ndarray]]:
        """Describe several photos (H, W, 3) uint8."""
        ...


class DiffusionSource(FoundationActor):
    """A latent diffusion model behind the actors' contract.

    Class attributes:
        source: the option of ``models`` that names its weights.
        architecture: of the small random model.
    """

    source: ClassVar[str]
    architecture: ClassVar[Version]
    requires: ClassVar[Mapping[str, str]] = {"image": "upright RGB, (H, W, 3) uint8", "category": "object category"}
    resources: ClassVar[Resources] = Resources(num_cpus=0.5, num_gpus=0.4)

    def load(self, models: ModelsConfig, device: torch.device) -> None:
        """Load the networks."""
        if models.variant == "tiny":
            networks = random_networks(self.architecture)
        else:
            networks = load_networks(fetch_weights(getattr(models, self.source), FILES, models.cache))
        self.model = self.build(networks, device, choose_dtype(models, device), models)

    @classmethod
    @abstractmethod
    def settings(cls, models: ModelsConfig) -> Any:
        """The configured options, a dataclass of plain values."""

    @abstractmethod
    def build(self, networks: Networks, device: torch.device, dtype: torch.dtype, models: ModelsConfig) -> Describer:
        """The model of these networks, under the configured options."""

    def process(self, row: Row) -> Row:
        """Describe one photo."""
        return self.process_batch([row])[0]

    def process_batch(self, rows: Sequence[Row]) -> list[Row]:
        """Describe several photos; they go through the network together."""
        described = self.model.describe([row["image"] for row in rows], [row["category"] for row in rows])
        return [{"sd": layers} for layers in described]

"""What the actors of all foundation models have in common: what they need follows ``models``, and so does what their weights are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from actors.base import Actor, Resources
from actors.weights import weights_identity
from sc3d.config import ModelsConfig, RunConfig


class FoundationActor(Actor):
    """A foundation model, at full size or as a small random one."""

    @classmethod
    def needs(cls, config: RunConfig) -> Resources:
        """On the CPU no GPU, and for a small random model no special node either."""
        models = config.models
        if models.variant == "tiny" and models.device != "cuda":
            return Resources(cls.resources.num_cpus)
        return replace(cls.resources, num_gpus=0.0) if models.device == "cpu" else cls.resources

    @staticmethod
    def weights_of(models: ModelsConfig, source: str, files: Sequence[str]) -> str:
        """What the weights are, for the recipe.

        Raises:
            WeightsError: they cannot be identified.
        """
        return "tiny, random" if models.variant == "tiny" else weights_identity(source, models.cache, files)

"""What the actors of all foundation models have in common: what they need follows ``models``, and so does what their weights are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from actors.base import Actor, Resources, free_memory, is_out_of_memory
from actors.foundation.device import choose_device
from sc3d.config import ModelsConfig, RunConfig
from sc3d.errors import PreflightError


class FoundationActor(Actor):
    """A foundation model, at full size or as a small random one. Subclasses put it on its device in :meth:`load`.

    ``resources`` are for a process with a GPU, which asks for less than a CPU where that only prepares what the GPU computes.

    Raises:
        WeightsError: the weights cannot be had, or are not the model's.
        PreflightError: a library is not installed, or the model does not fit the memory.
        ConfigError: a GPU is asked for and there is none.
    """

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        models = self.config.models
        device = choose_device(models)
        try:
            self.load(models, device)
            return
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            reason = (str(error).strip() or type(error).__name__).split("\n")[0][:200]
        # Only now the exception is gone, and with it the tensors that its frames hold.
        free_memory()
        name = type(self).__name__
        raise PreflightError(
            f"{name} does not fit the memory of its device, {device} ({reason}): give each process a larger share of the GPU "
            f"(ray.pools.{name}.num_gpus), choose a smaller model for its slot (see sc3d models), or take a GPU with more memory"
        )

    def load(self, models: ModelsConfig, device: torch.device) -> None:
        """Load the model, or make the small random one, on its device."""

    @classmethod
    def needs(cls, config: RunConfig) -> Resources:
        """On the CPU no GPU but a whole CPU, and for a small random model no special node either."""
        models = config.models
        on_cpu = max(1.0, cls.resources.num_cpus)
        if models.variant == "tiny" and models.device != "cuda":
            return Resources(on_cpu)
        return replace(cls.resources, num_cpus=on_cpu, num_gpus=0.0) if models.device == "cpu" else cls.resources

    @classmethod
    def made_of(cls, config: RunConfig) -> dict[str, Any]:
        """And the precision, which ``auto`` leaves to where it runs."""
        on_gpu, dtype = cls.needs(config).num_gpus > 0, config.models.dtype
        precision = dtype if dtype != "auto" else "half" if on_gpu else "float32"
        return {**super().made_of(config), "precision": precision}

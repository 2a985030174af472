"""What a training is: its data, its configuration, and where its artefacts go. Knows no Ray, so that naming a job does not start one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sc3d.config import TrainConfig
from sc3d.store import RunFolder
from training.adapter import Adapter
from training.data import LabelledPairs
from training.loop import StepRecord


@dataclass(frozen=True)
class TrainJob:
    """What is trained and where its artefacts go. Travels to the workers, so ``make_pairs`` is called in each of them.

    ``make_pairs``: builds the training set. ``run``, ``folder``: where ``checkpoint.pt`` and ``adapter.safetensors`` are written.
    ``recipe``: of the features, kept in the adapter's metadata. ``checkpoint_every``: steps. ``on_step``, ``validate``: called in the
    first worker, which is this process when ``config.workers`` is 0. ``validate_every``: steps.
    """

    make_pairs: Callable[[], LabelledPairs]
    config: TrainConfig
    seed: int
    run: RunFolder
    folder: str
    recipe: str = ""
    checkpoint_every: int = 1000
    on_step: Callable[[StepRecord], None] | None = None
    validate: Callable[[Adapter], float] | None = None
    validate_every: int = 0

    @property
    def checkpoint_file(self) -> str:
        """Name of the latest training state."""
        return f"{self.folder}/checkpoint.pt"

    @property
    def adapter_file(self) -> str:
        """Name of the trained adapter."""
        return f"{self.folder}/adapter.safetensors"

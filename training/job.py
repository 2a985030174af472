"""What a training is: its data, its configuration, and where its artefacts go. Knows no Ray, so that naming a job does not start one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sc3d.config import TrainConfig
from sc3d.store import RunFolder
from training.checkpoint import StepRecord
from training.data import LabelledPairs
from training.validation import Validation


@dataclass(frozen=True, eq=False)
class TrainingData:
    """The pairs that are trained on, and what the adapter is validated on, if anything."""

    pairs: LabelledPairs
    validation: Validation | None = None


@dataclass(frozen=True)
class TrainJob:
    """What is trained and where its artefacts go. Travels to the workers, so ``make_data`` is called in each of them.

    Attributes:
        make_data: builds the training set.
        config: of the training.
        seed: of everything random.
        run, folder: where the artefacts are written.
        recipe: of the features, kept in the adapter's metadata.
        initial: an encoded adapter to start from.
        checkpoint_every: steps; 0: by time alone.
        checkpoint_seconds: most seconds of work that a kill costs.
        on_step: called in this process for each step; some seconds later if workers train.
    """

    make_data: Callable[[], TrainingData]
    config: TrainConfig
    seed: int
    run: RunFolder
    folder: str
    recipe: str = ""
    initial: bytes | None = None
    checkpoint_every: int = 0
    checkpoint_seconds: float = 60.0
    on_step: Callable[[StepRecord], None] | None = None

    @property
    def checkpoint_file(self) -> str:
        """Name of the latest training state."""
        return f"{self.folder}/checkpoint.pt"

    @property
    def adapter_file(self) -> str:
        """Name of the trained adapter: as it is after the last step."""
        return f"{self.folder}/adapter.safetensors"

    def best_file(self, by: str) -> str:
        """Name of the adapter that was best in validation, ``by`` ``pck`` or ``loss``."""
        return f"{self.folder}/best_{by}.safetensors"

    @property
    def tensorboard_folder(self) -> str:
        """Name of the folder with TensorBoard's event files."""
        return f"{self.folder}/tensorboard"

    @property
    def validate_every(self) -> int:
        """Steps between validations."""
        chosen = self.config.validate_every
        return max(500, -(-self.config.steps // 8)) if chosen is None else chosen

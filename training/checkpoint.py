"""What a training run is, at any step: the state that a checkpoint holds, and how it is written and read."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from sc3d.config import TrainConfig
from sc3d.errors import ConfigError, SchemaError
from training.adapter import Adapter, adapter_from_state

CHECKPOINT_VERSION = 2

UNCOUNTED = frozenset({"preset", "labels", "workers", "trackers", "cache", "cache_gb", "initial"})
"""Options that the numbers of a run do not depend on, or that are told apart by what they name."""


class StepRecord(NamedTuple):
    """What one optimiser step saw: means over its pairs. ``step`` counts from 1."""

    step: int
    loss: float
    sparse: float
    dense: float
    learning_rate: float


class ValidationRecord(NamedTuple):
    """A validation after ``step`` steps: PCK at 0.10 in [0, 1], and the loss."""

    step: int
    pck: float
    loss: float


@dataclass(frozen=True)
class FitResult:
    """A trained adapter in evaluation mode, its loss curve, and its validations."""

    adapter: Adapter
    history: list[StepRecord]
    validation: list[ValidationRecord]


@dataclass
class TrainState:
    """A run between two steps."""

    adapter: Adapter
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    history: list[StepRecord] = field(default_factory=list)
    validation: list[ValidationRecord] = field(default_factory=list)

    def result(self) -> FitResult:
        """The adapter and the curves so far."""
        return FitResult(self.adapter.eval(), list(self.history), list(self.validation))


def counted_options(config: TrainConfig) -> dict[str, Any]:
    """The options that the numbers of a run depend on. How many workers share a step is not one of them."""
    return {k: v for k, v in dataclasses.asdict(config).items() if k not in UNCOUNTED}


def identity_of(dims: Sequence[int], config: TrainConfig, seed: int) -> str:
    """Everything that the numbers of a run depend on, apart from its data and the adapter that it starts from."""
    return json.dumps({"feature_dims": list(dims), "seed": seed, **counted_options(config)}, sort_keys=True)


def save_state(state: TrainState, identity: str) -> bytes:
    """Serialise a state with the identity of its run."""
    values = {
        "version": CHECKPOINT_VERSION,
        "identity": identity,
        "adapter": state.adapter.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "scheduler": state.scheduler.state_dict(),
        "history": torch.tensor(state.history, dtype=torch.float64),
        "validation": torch.tensor(state.validation, dtype=torch.float64),
    }
    stream = io.BytesIO()
    torch.save(values, stream)
    return stream.getvalue()


def finished_result(checkpoint: bytes) -> FitResult:
    """The adapter and curves in a checkpoint, whichever step it was written at.

    Raises:
        SchemaError: it cannot be read.
    """
    values = _read(checkpoint)
    return FitResult(adapter_from_state(values["adapter"]), *_curves(values))


def _read(checkpoint: bytes) -> dict[str, Any]:
    try:
        values: dict[str, Any] = torch.load(io.BytesIO(checkpoint), map_location="cpu", weights_only=True)
        version = values["version"]
    except Exception as error:  # torch.load raises whatever the damaged bytes lead it to
        raise SchemaError(f"the training checkpoint cannot be read ({error}); delete it to train from the start") from None
    if version != CHECKPOINT_VERSION:
        raise SchemaError(f"training checkpoint format {version}, this sc3d reads {CHECKPOINT_VERSION}; delete it to train anew")
    return values


def _curves(values: dict[str, Any]) -> tuple[list[StepRecord], list[ValidationRecord]]:
    history = [StepRecord(int(row[0]), *row[1:]) for row in values["history"].tolist()]
    return history, [ValidationRecord(int(row[0]), *row[1:]) for row in values["validation"].tolist()]


def restore_state(state: TrainState, checkpoint: bytes, identity: str) -> None:
    """Put a checkpoint's values into a freshly started state.

    Raises:
        ConfigError: the checkpoint is of another configuration; names what changed.
        SchemaError: it cannot be read.
    """
    values = _read(checkpoint)
    if values["identity"] != identity:
        then, now = json.loads(values["identity"]), json.loads(identity)
        changed = ", ".join(f"{k}: {then.get(k)} -> {now.get(k)}" for k in sorted(now) if then.get(k) != now.get(k))
        raise ConfigError(f"the training checkpoint is of another configuration ({changed}); delete it, or use another folder")
    state.adapter.load_state_dict(values["adapter"])
    state.optimizer.load_state_dict(values["optimizer"])
    state.scheduler.load_state_dict(values["scheduler"])
    state.history, state.validation = _curves(values)

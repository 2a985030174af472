"""The training loop, free of any cluster: AdamW, one-cycle, sparse + dense loss, validation, checkpoints, and a stop when it diverges.

The numbers of a run depend on the pairs, the configuration and the seed alone. A run resumed from a checkpoint, or spread over several
workers with the same pairs a step, gives the losses of an unbroken run in one process (over several workers up to rounding).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sc3d.config import TrainConfig
from sc3d.errors import ConfigError, FeatureError, Sc3dError
from training.adapter import Adapter, check_dims, kept_features
from training.batches import Batch, batches, dropped
from training.checkpoint import FitResult, StepRecord, TrainState, ValidationRecord, identity_of, restore_state, save_state
from training.data import LabelledPairs, generator
from training.network import KeptFeatures
from training.objective import embed, pair_losses
from training.validation import ValidationScore


class DivergenceError(Sc3dError):
    """The loss or its gradient is no longer finite. ``result`` holds the adapter as it was before that step."""

    def __init__(self, message: str, result: FitResult) -> None:
        super().__init__(message)
        self.result = result

    def __reduce__(self) -> tuple[type[DivergenceError], tuple[str, FitResult]]:
        return DivergenceError, (str(self), self.result)


def _same(tensor: Tensor) -> Tensor:
    return tensor


@dataclass(frozen=True)
class Replica:
    """This process's share of a data-parallel run: it takes every ``world``-th pair of a step, starting at ``rank``.

    ``total`` sums a tensor over the workers, and is called by all of them in the same order.
    """

    rank: int = 0
    world: int = 1
    total: Callable[[Tensor], Tensor] = _same


@dataclass
class Clock:
    """Seconds of the steps so far, and how many of them were spent waiting for features."""

    steps: int = 0
    seconds: float = 0.0
    waited: float = 0.0


@dataclass(frozen=True)
class Hooks:
    """What happens beside training, at which steps (0: never).

    ``validate`` is called by every worker, and ``on_validation`` gets what it found. ``on_best`` gets ``pck`` or ``loss``, the adapter, and
    the validation that is the best so far by it. ``on_checkpoint`` also gets the state after the last step, and the last good one when
    training diverges; besides every ``checkpoint_every`` steps it is called when the last call was ``checkpoint_seconds`` ago.
    """

    validate: Callable[[Adapter], ValidationScore] | None = None
    validate_every: int = 0
    on_validation: Callable[[ValidationRecord], None] | None = None
    on_best: Callable[[str, Adapter, ValidationRecord], None] | None = None
    on_checkpoint: Callable[[bytes], None] | None = None
    checkpoint_every: int = 0
    checkpoint_seconds: float = math.inf


def fit(
    pairs: LabelledPairs,
    dims: Sequence[int],
    config: TrainConfig,
    seed: int,
    on_step: Callable[[StepRecord], None] | None = None,
    checkpoint: bytes | None = None,
    hooks: Hooks | None = None,
    device: str | torch.device = "cpu",
    replica: Replica | None = None,
    initial: Adapter | None = None,
    clock: Clock | None = None,
) -> FitResult:
    """Train an adapter on labelled pairs.

    Args:
        pairs: the training set.
        dims: channels of the adapter's sources (``pairs.feature_dims``).
        config: steps, learning rate, and so on. ``workers`` is not read here.
        seed: of initial weights, order of pairs, labels, dropout and noise.
        on_step: called after each step.
        checkpoint: what ``hooks.on_checkpoint`` was given in an earlier run with the same configuration: training goes on from there.
        hooks: validation and checkpoints.
        device: where the adapter is trained.
        replica: this process's share of a data-parallel run.
        initial: weights to start from, instead of random ones.
        clock: is kept up to date.

    Raises:
        DivergenceError: loss or gradient is not finite; names the pair and holds the last good adapter.
        ConfigError: the checkpoint is of another configuration, or the pairs of a step cannot be shared evenly.
        FeatureError: an image with other sources than ``dims``, or an initial adapter for others.
        SchemaError: the checkpoint cannot be read.
    """
    hooks, replica, clock = hooks or Hooks(), replica or Replica(), clock or Clock()
    if config.pairs_per_step % replica.world:
        raise ConfigError(f"train.pairs_per_step = {config.pairs_per_step} cannot be shared evenly by {replica.world} workers")
    kept = kept_features(pairs.source_names, pairs.slot_weights, config.keep_features) if config.keep_features else None
    state = _start(dims, config, seed, torch.device(device), initial, kept)
    identity = identity_of(dims, config, seed)
    if checkpoint is not None:
        restore_state(state, checkpoint, identity)
    saved = time.monotonic()
    prepared = batches(pairs, dims, config, seed, len(state.history), (replica.rank, replica.world))
    for step, batch in _timed(prepared, clock):
        try:
            record = _step(state, config, seed, step, pairs, batch, replica)
        except DivergenceError:
            if hooks.on_checkpoint is not None:
                hooks.on_checkpoint(save_state(state, identity))
            raise
        state.history.append(record)
        if on_step is not None:
            on_step(record)
        if hooks.validate is not None and hooks.validate_every and _due(step, hooks.validate_every, config.steps):
            _validate(state, hooks)
        waited = time.monotonic() - saved > hooks.checkpoint_seconds
        if hooks.on_checkpoint is not None and (waited or _due(step, hooks.checkpoint_every, config.steps)):
            hooks.on_checkpoint(save_state(state, identity))
            saved = time.monotonic()
    return state.result()


def _due(step: int, every: int, steps: int) -> bool:
    return step + 1 == steps or (every > 0 and (step + 1) % every == 0)


def _timed(prepared: Iterator[tuple[int, Batch]], clock: Clock) -> Iterator[tuple[int, Batch]]:
    while True:
        started = time.perf_counter()
        found = next(prepared, None)
        if found is None:
            return
        clock.waited += time.perf_counter() - started
        yield found
        clock.seconds += time.perf_counter() - started
        clock.steps += 1


def _start(
    dims: Sequence[int], config: TrainConfig, seed: int, device: torch.device, initial: Adapter | None, kept: KeptFeatures | None
) -> TrainState:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapter = Adapter(dims, config.channels, kept)
    if initial is not None:
        check_dims(initial.feature_dims, dims, "train.initial")
        if initial.channels != config.channels:
            raise FeatureError(
                f"train.initial gives descriptors of {initial.channels} channels, train.channels = {config.channels}"
            )
        # How much of the features is kept is the training's own choice.
        learned = {name: value for name, value in initial.state_dict().items() if not name.startswith("kept.")}
        adapter.load_state_dict({**adapter.state_dict(), **learned})
    elif config.start_from_features:
        adapter.start_from_features()
    adapter = adapter.to(device).train()
    trained = [p for p in adapter.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=config.learning_rate, weight_decay=config.weight_decay)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=config.steps + 1)
    return TrainState(adapter, optimizer, scheduler)


def _validate(state: TrainState, hooks: Hooks) -> None:
    assert hooks.validate is not None  # noqa: S101
    record = ValidationRecord(len(state.history), *hooks.validate(state.adapter.eval()))
    before = list(state.validation)
    state.validation.append(record)
    if hooks.on_validation is not None:
        hooks.on_validation(record)
    if hooks.on_best is not None:
        if all(record.pck > earlier.pck for earlier in before):
            hooks.on_best("pck", state.adapter, record)
        if all(record.loss < earlier.loss for earlier in before):
            hooks.on_best("loss", state.adapter, record)
    state.adapter.train()


def _step(
    state: TrainState, config: TrainConfig, seed: int, step: int, pairs: LabelledPairs, batch: Batch, replica: Replica
) -> StepRecord:
    adapter, device = state.adapter, state.adapter.mixing_weights.device
    names = pairs.pairs_of_step(seed, step, config.pairs_per_step)
    inputs = {
        name: dropped([part.to(device) for part in parts], config.dropout, f"{seed}/{step}/{name}")
        for name, parts in batch.inputs.items()
    }
    maps = embed(adapter, inputs, batch.side, config)
    noise = (generator(seed, step, s.pair_id, "noise") for s in batch.samples)
    losses = torch.stack(
        [
            pair_losses(s, maps, adapter.logit_scale, config, n, step / config.steps)
            for s, n in zip(batch.samples, noise, strict=True)
        ]
    )

    # Each worker fills its own rows, so that after summing all of them see all pairs, and all of them stop at the same one.
    everyone = torch.zeros(config.pairs_per_step, 2, device=device)
    everyone[replica.rank :: replica.world] = losses.detach()
    everyone = replica.total(everyone)
    bad = (~torch.isfinite(everyone).all(dim=1)).nonzero().flatten().tolist()
    if bad:
        raise DivergenceError(_diverged("loss", step, names[bad[0]]), state.result())

    state.optimizer.zero_grad(set_to_none=True)
    losses.sum(dim=1).mean().backward()
    if not _average_gradients(adapter, replica):
        raise DivergenceError(_diverged("gradient", step, ", ".join(names)), state.result())
    rate = float(state.scheduler.get_last_lr()[0])
    state.optimizer.step()
    state.scheduler.step()
    sparse, dense = everyone.mean(dim=0).tolist()
    return StepRecord(step + 1, sparse + dense, sparse, dense, rate)


def _average_gradients(adapter: Adapter, replica: Replica) -> bool:
    """Give every worker the mean of all workers' gradients; returns whether it is finite."""
    gradients = [p.grad for p in adapter.parameters() if p.grad is not None]
    if replica.world > 1:
        # In one message, since a small network has many small gradients.
        mean = replica.total(torch.cat([g.flatten() for g in gradients])) / replica.world
        for gradient, part in zip(gradients, mean.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))
    return bool(torch.isfinite(torch.stack([g.norm() for g in gradients])).all())


def _diverged(what: str, step: int, pair: str) -> str:
    return (
        f"training diverged at step {step + 1}: the {what} of pair {pair} is not finite; "
        "look at the features of its images, or lower train.learning_rate. The adapter from before this step is kept"
    )

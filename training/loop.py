"""The training loop, free of any cluster: AdamW, one-cycle, sparse + dense loss, validation, checkpoints, and a stop when it diverges.

The numbers of a run depend on the pairs, the configuration and the seed alone. A run resumed from a checkpoint, or spread over several
workers with the same pairs a step, gives the losses of an unbroken run in one process (over several workers up to rounding).
"""

from __future__ import annotations

import math
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sc3d.config import TrainConfig
from sc3d.errors import ConfigError, FeatureError, Sc3dError
from training.adapter import Adapter, check_dims, feature_dims, native_input, unit_length
from training.checkpoint import FitResult, StepRecord, TrainState, identity_of, restore_state, save_state
from training.data import LabelledPairs, PairSample, generator
from training.losses import dense_loss, map_loss, sparse_loss


class DivergenceError(Sc3dError):
    """The loss or its gradient is no longer finite. ``result`` holds the adapter as it was before that step."""

    def __init__(self, message: str, result: FitResult) -> None:
        super().__init__(message)
        self.result = result

    def __reduce__(self) -> tuple[type[DivergenceError], tuple[str, FitResult]]:
        return DivergenceError, (str(self), self.result)


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _no_wrapper(model: nn.Module) -> nn.Module:
    return model


@dataclass(frozen=True)
class Replica:
    """This process's share of a data-parallel run: it takes every ``world``-th pair of a step, starting at ``rank``.

    ``wrap`` makes the module that averages gradients over the workers; ``total`` sums a tensor over the workers.
    """

    rank: int = 0
    world: int = 1
    wrap: Callable[[nn.Module], nn.Module] = _no_wrapper
    total: Callable[[Tensor], Tensor] = _same


@dataclass(frozen=True)
class Hooks:
    """What happens beside training, at which steps (0: never). ``on_checkpoint`` also gets the state after the last step."""

    validate: Callable[[Adapter], float] | None = None
    validate_every: int = 0
    on_checkpoint: Callable[[bytes], None] | None = None
    checkpoint_every: int = 0


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

    Raises:
        DivergenceError: loss or gradient is not finite; names the pair and holds the last good adapter.
        ConfigError: the checkpoint is of another configuration, or the pairs of a step cannot be shared evenly.
        FeatureError: an image with other sources than ``dims``.
        SchemaError: the checkpoint cannot be read.
    """
    hooks, replica = hooks or Hooks(), replica or Replica()
    if config.pairs_per_step % replica.world:
        raise ConfigError(f"train.pairs_per_step = {config.pairs_per_step} cannot be shared evenly by {replica.world} workers")
    state = _start(dims, config, seed, torch.device(device), replica)
    if checkpoint is not None:
        restore_state(state, checkpoint, identity_of(dims, config, seed))
    first = len(state.history)
    for step, (samples, inputs) in zip(
        range(first, config.steps), _batches(pairs, dims, config, seed, first, replica), strict=True
    ):
        record = _step(state, config, seed, step, pairs, samples, inputs, replica)
        state.history.append(record)
        if on_step is not None:
            on_step(record)
        if hooks.validate is not None and _due(step, hooks.validate_every, config.steps):
            state.validation.append((step + 1, float(hooks.validate(state.adapter.eval()))))
            state.adapter.train()
        if hooks.on_checkpoint is not None and _due(step, hooks.checkpoint_every, config.steps):
            hooks.on_checkpoint(save_state(state, identity_of(dims, config, seed)))
    return state.result()


def _due(step: int, every: int, steps: int) -> bool:
    return step + 1 == steps or (every > 0 and (step + 1) % every == 0)


def _start(dims: Sequence[int], config: TrainConfig, seed: int, device: torch.device, replica: Replica) -> TrainState:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapter = Adapter(dims, config.channels)
        if config.start_from_features:
            adapter.start_from_features()
    adapter = adapter.to(device).train()
    trained = [p for p in adapter.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=config.learning_rate, weight_decay=config.weight_decay)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=config.steps + 1)
    return TrainState(adapter, replica.wrap(adapter), optimizer, scheduler)


def _batches(
    pairs: LabelledPairs, dims: Sequence[int], config: TrainConfig, seed: int, first: int, replica: Replica
) -> Iterator[tuple[list[PairSample], dict[str, list[Tensor]]]]:
    """Samples and image inputs of each step from ``first`` on; the next step's are read while the present one computes."""

    def load(step: int) -> tuple[list[PairSample], dict[str, list[Tensor]]]:
        mine = pairs.pairs_of_step(seed, step, config.pairs_per_step)[replica.rank :: replica.world]
        samples = pairs.sample(seed, step, mine, config.labels_per_pair)
        inputs = {}
        for image_id in dict.fromkeys(i for s in samples for i in (s.source_id, s.target_id)):
            features = pairs.features(image_id)
            check_dims(dims, feature_dims(features), image_id)
            inputs[image_id] = native_input(features)
        _check_grids(inputs)
        return samples, inputs

    with ThreadPoolExecutor(1) as reader:
        ahead = deque([reader.submit(load, first)] if first < config.steps else [])
        for step in range(first, config.steps):
            batch = ahead.popleft().result()
            if step + 1 < config.steps:
                ahead.append(reader.submit(load, step + 1))
            yield batch


def _check_grids(inputs: dict[str, list[Tensor]]) -> None:
    grids = {image_id: [tuple(x.shape[2:]) for x in parts] for image_id, parts in inputs.items()}
    first = next(iter(grids))
    for image_id, found in grids.items():
        if found != grids[first]:
            raise FeatureError(
                f"{image_id} has sources on grids of {found} cells, {first} on {grids[first]}; describe all images with one recipe"
            )


def _step(
    state: TrainState,
    config: TrainConfig,
    seed: int,
    step: int,
    pairs: LabelledPairs,
    samples: list[PairSample],
    inputs: dict[str, list[Tensor]],
    replica: Replica,
) -> StepRecord:
    device = state.adapter.mixing_weights.device
    dropped = [_dropout([x.to(device) for x in parts], config.dropout, f"{seed}/{step}/{name}") for name, parts in inputs.items()]
    sources = [torch.cat(parts) for parts in zip(*dropped, strict=True)]
    side = pairs.features(samples[0].source_id).letterbox.side
    maps = dict(zip(inputs, unit_length(state.model(sources, (side, side))), strict=True))
    losses = torch.stack([_pair_losses(s, maps, state.adapter.logit_scale, config, seed, step) for s in samples])

    # Each worker fills its own rows, so that after summing all of them see all pairs, and all of them stop at the same one.
    everyone = torch.zeros(config.pairs_per_step, 2, device=device)
    everyone[replica.rank :: replica.world] = losses.detach()
    everyone = replica.total(everyone)
    bad = (~torch.isfinite(everyone).all(dim=1)).nonzero().flatten().tolist()
    if bad:
        names = pairs.pairs_of_step(seed, step, config.pairs_per_step)
        raise DivergenceError(_diverged("loss", step, names[bad[0]]), state.result())

    state.optimizer.zero_grad(set_to_none=True)
    losses.sum(dim=1).mean().backward()
    norm = torch.nn.utils.clip_grad_norm_(state.adapter.parameters(), math.inf)
    if not torch.isfinite(norm):
        raise DivergenceError(_diverged("gradient", step, ", ".join(s.pair_id for s in samples)), state.result())
    rate = float(state.scheduler.get_last_lr()[0])
    state.optimizer.step()
    state.scheduler.step()
    sparse, dense = everyone.mean(dim=0).tolist()
    return StepRecord(step + 1, sparse + dense, sparse, dense, rate)


def _diverged(what: str, step: int, pair: str) -> str:
    return (
        f"training diverged at step {step + 1}: the {what} of pair {pair} is not finite; "
        "look at the features of its images, or lower train.learning_rate. The adapter from before this step is kept"
    )


def _pair_losses(
    sample: PairSample, maps: dict[str, Tensor], logit_scale: Tensor, config: TrainConfig, seed: int, step: int
) -> Tensor:
    """Sparse and dense loss (2,) of one pair."""
    source_map, target_map = maps[sample.source_id], maps[sample.target_id]
    device, dtype = source_map.device, source_map.dtype
    source_cells = torch.from_numpy(sample.source_cells).to(device)
    target_cells = torch.from_numpy(sample.target_cells).to(device)
    source = source_map.flatten(1)[:, source_cells].T
    target = target_map.flatten(1)[:, target_cells].T
    jitter = generator(seed, step, sample.pair_id, "noise").normal(0.0, config.noise, (2, *sample.target_xy.shape))
    dense = dense_loss(source, target_map, torch.from_numpy(sample.target_xy + jitter[0]).to(device, dtype))
    if config.both_ways:
        dense = (dense + dense_loss(target, source_map, torch.from_numpy(sample.source_xy + jitter[1]).to(device, dtype))) / 2
    if config.negatives == "map":
        forward = map_loss(source, target_map, logit_scale, source_cells, target_cells)
        sparse = (forward + map_loss(target, source_map, logit_scale, target_cells, source_cells)) / 2
    else:
        sparse = sparse_loss(source, target, logit_scale, source_cells, target_cells)
    return torch.stack([sparse, dense])


def _dropout(parts: list[Tensor], probability: float, name: str) -> list[Tensor]:
    """Input dropout whose masks depend on ``name`` alone, so that they are the same on every worker and after resuming."""
    if probability == 0:
        return parts
    device = parts[0].device
    random = torch.Generator(device).manual_seed(zlib.crc32(name.encode()))
    kept = [torch.rand(x.shape, generator=random, device=device) >= probability for x in parts]
    return [x * keep / (1 - probability) for x, keep in zip(parts, kept, strict=True)]

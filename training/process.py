"""One process's part in a training: it fits its share, and the first one writes checkpoints, curves and adapters. Knows no Ray."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from sc3d.errors import ConfigError, Sc3dError
from training.adapter import Adapter, decode_adapter, encode_adapter
from training.checkpoint import StepRecord, ValidationRecord, finished_result
from training.job import TrainingData, TrainJob
from training.loop import Clock, DivergenceError, Hooks, Replica, fit
from training.trackers import Curves, open_trackers


def work(job: TrainJob, replica: Replica, device: torch.device) -> Sc3dError | None:
    """Fit this process's share, from the job's checkpoint if there is one.

    Returns:
        An error that all processes meet at the same step, which is not to be retried; None when the adapter is finished.

    Raises:
        FeatureError, InputError, SchemaError, StoreError: what the training set is made of cannot be used.
    """
    rank, world = replica.rank, replica.world
    data = job.make_data()
    checkpoint = job.run.read_bytes(job.checkpoint_file) if job.run.exists(job.checkpoint_file) else None
    validation = data.validation
    hooks = Hooks(
        validate=None if validation is None else lambda adapter: validation.score(adapter, rank, world, replica.total),
        validate_every=job.validate_every,
    )
    initial = None if job.initial is None else decode_adapter(job.initial, "train.initial")
    dims, clock = data.pairs.feature_dims, Clock()
    try:
        if rank > 0:
            fit(data.pairs, dims, job.config, job.seed, None, checkpoint, hooks, device, replica, initial, clock)
            return None
        with _outlets(job, data, checkpoint, clock) as outlets:
            hooks = dataclasses.replace(
                hooks,
                on_validation=outlets.add_validation,
                on_best=outlets.keep_best,
                on_checkpoint=outlets.keep_checkpoint,
                checkpoint_every=job.checkpoint_every,
                checkpoint_seconds=job.checkpoint_seconds,
            )
            result = fit(
                data.pairs, dims, job.config, job.seed, outlets.add_step, checkpoint, hooks, device, replica, initial, clock
            )
    except (DivergenceError, ConfigError) as error:
        return error
    job.run.write_bytes(job.adapter_file, encode_adapter(result.adapter, data.pairs.source_names, job.recipe))
    return None


@contextmanager
def _outlets(job: TrainJob, data: TrainingData, checkpoint: bytes | None, clock: Clock) -> Iterator[Outlets]:
    first = len(finished_result(checkpoint).history) if checkpoint is not None else 0
    curves = Curves(open_trackers(job, first), job.config.steps, clock)
    try:
        yield Outlets(job, data.pairs.source_names, curves, job.on_step)
    finally:
        curves.close()


@dataclass(frozen=True)
class Outlets:
    """What the first worker does with what happens: files in the run folder, curves, and who wants to know of each step."""

    job: TrainJob
    source_names: Sequence[str]
    curves: Curves
    on_step: Callable[[StepRecord], None] | None

    def add_step(self, record: StepRecord) -> None:
        self.curves.add_step(record)
        if self.on_step is not None:
            self.on_step(record)

    def add_validation(self, record: ValidationRecord) -> None:
        self.curves.add_validation(record)

    def keep_best(self, by: str, adapter: Adapter, record: ValidationRecord) -> None:
        scores = {name: float(value) for name, value in record._asdict().items()}
        self.job.run.write_bytes(self.job.best_file(by), encode_adapter(adapter, self.source_names, self.job.recipe, scores))

    def keep_checkpoint(self, data: bytes) -> None:
        self.curves.flush()
        self.job.run.write_bytes(self.job.checkpoint_file, data)

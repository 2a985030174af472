"""The contract of every model: what a stateful actor requires, provides and needs, and how its failures become reject rows.

An :class:`Actor` is built once a process and then maps rows. A row is a plain dictionary: manifest columns at first, and whatever
the actors so far have provided. :func:`run_actors` drives a sequence of actors over rows inside one process: one bad row becomes a
:class:`~sc3d.records.Reject` with its reason and never takes its batch along; running out of GPU memory halves the batch and tries again.
"""

from __future__ import annotations

import gc
import logging
import sys
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from sc3d.config import RunConfig
from sc3d.config_view import values_of, view_of
from sc3d.display import without_secrets
from sc3d.errors import ConfigError, Sc3dError, concerns_the_run
from sc3d.records import Reject

logger = logging.getLogger(__name__)

Row = dict[str, Any]

# CUDA, HIP and Metal; cuBLAS and cuDNN, which allocate for themselves; torch's own CPU allocator.
_FULL = ("out of memory", "_alloc_failed", "allocation_failed", "can't allocate memory", "not enough memory")


_MEMORY_ADVICE = (
    "The memory is too little even for one record: give its process more of a GPU with ray.pools.{0}.num_gpus, or a larger one"
)


@dataclass(frozen=True)
class Resources:
    """What one actor process needs from Ray. Actors with equal ``environment`` and no GPU share one process (pipelines.runner.worker)."""

    num_cpus: float = 1.0
    num_gpus: float = 0.0
    custom: Mapping[str, float] = field(default_factory=dict)
    environment: str | None = None


class Actor(ABC):
    """A model behind the common contract. Subclasses load their weights in ``__init__`` and implement :meth:`process`.

    Class attributes:
        requires: row keys that must be present -> their meaning.
        provides: row keys that :meth:`process` returns -> their meaning.
        version: name and version of the algorithm, for recipes: another one makes everything again, another name of the class nothing.
        options: the options of the configuration that it reads, as ``stage`` or ``stage.option``. It sees no others.
        weights: the options that name its weights -> the files of them that it reads.
        resources: what one process of it needs.
        batch_size: rows given to :meth:`process_batch` at once.
    """

    requires: ClassVar[Mapping[str, str]]
    provides: ClassVar[Mapping[str, str]]
    version: ClassVar[str]
    options: ClassVar[tuple[str, ...]] = ()
    weights: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    resources: ClassVar[Resources] = Resources()
    batch_size: ClassVar[int] = 1

    def __init__(self, config: RunConfig) -> None:
        self.config = view_of(config, (*self.reads(config), *self.weights))

    @classmethod
    def reads(cls, config: RunConfig) -> Sequence[str]:
        """The options that it reads under this configuration: :attr:`options`, where that does not depend on others."""
        return cls.options

    @classmethod
    def made_of(cls, config: RunConfig) -> dict[str, Any]:
        """What its results follow from beside the rows, for recipes: version, options, and what identifies the weights.

        Raises:
            WeightsError: the weights cannot be identified.
        """
        return {
            "version": cls.version,
            "options": values_of(config, cls.reads(config)),
            "weights": _identities(config, cls.weights),
        }

    @classmethod
    def needs(cls, config: RunConfig) -> Resources:
        """What one process of it needs under this configuration."""
        return cls.resources

    @abstractmethod
    def process(self, row: Row) -> Row:
        """Return the provided keys of one row. Raise :class:`~sc3d.errors.Sc3dError` when the row cannot be processed."""

    def process_batch(self, rows: Sequence[Row]) -> list[Row]:
        """Return the provided keys of several rows. Models that gain from batches override this."""
        return [self.process(row) for row in rows]


def _identities(config: RunConfig, weights: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    if not weights:
        return {}
    if config.models.variant == "tiny":
        return dict.fromkeys(weights, "tiny, random")
    from actors.weights import weights_identity

    sources = values_of(config, list(weights))
    return {option: weights_identity(sources[option] or "", config.models.cache, files) for option, files in weights.items()}


def check_actors(actors: Sequence[type[Actor]], given: Iterable[str]) -> None:
    """Check before a run that each actor's ``requires`` is given or provided by an earlier one.

    Raises:
        ConfigError: names the actor and the keys that nobody provides.
    """
    have = set(given)
    for actor in actors:
        if not hasattr(actor, "version"):
            raise ConfigError(f"{actor.__name__} declares no version, such as 'mine-1', which names its algorithm in recipes")
        missing = {k: v for k, v in actor.requires.items() if k not in have}
        if missing:
            wanted = ", ".join(f"{k} ({v})" for k, v in missing.items())
            raise ConfigError(f"{actor.__name__} needs {wanted}, which no earlier actor provides")
        have |= set(actor.provides)


@dataclass
class Outcome:
    """A row that went through all actors, or the reject that stopped it. ``seconds`` is the time spent on it."""

    row: Row
    reject: Reject | None = None
    seconds: float = 0.0


Observer = Callable[[str, str, int, float], None]
"""Told of each batch that a model has mapped: stage, name of the actor, rows, seconds."""


def run_actors(
    actors: Sequence[Actor], rows: Sequence[Row], id_key: str, stage: str, observe: Observer = lambda *_: None
) -> list[Outcome]:
    """Drive ``rows`` through ``actors`` in order, in this process. The result has one outcome a row, in the same order."""
    outcomes = [Outcome(dict(row)) for row in rows]
    for actor in actors:
        alive = [o for o in outcomes if o.reject is None]
        for start in range(0, len(alive), actor.batch_size):
            _run_batch(actor, alive[start : start + actor.batch_size], id_key, stage, observe)
    return outcomes


def _run_batch(actor: Actor, batch: Sequence[Outcome], id_key: str, stage: str, observe: Observer) -> None:
    started = time.perf_counter()
    try:
        provided = actor.process_batch([{key: o.row[key] for key in actor.requires} for o in batch])
        if len(provided) != len(batch):
            raise RuntimeError(f"{type(actor).__name__} returned {len(provided)} rows for {len(batch)}")
    except KeyboardInterrupt:  # Ray cancels a task by it
        raise
    except BaseException as error:  # whatever a model raises concerns its rows, not the run; some leave by exit()
        if isinstance(error, Exception) and concerns_the_run(error):
            raise
        if len(batch) == 1:
            if not isinstance(error, Sc3dError):
                # Not as exc_info: what a model says may hold the addresses of its row.
                trace = without_secrets("".join(traceback.format_exception(error)))
                logger.warning("%s failed on %s\n%s", type(actor).__name__, batch[0].row[id_key], trace)
            outcome = batch[0]
            outcome.seconds += time.perf_counter() - started
            advice = ". " + _MEMORY_ADVICE.format(type(actor).__name__) if is_out_of_memory(error) else ""
            kind = "exit" if isinstance(error, SystemExit) else type(error).__name__
            reason = (str(error) or kind) if isinstance(error, Exception) else f"left by {kind}({error})"
            outcome.reject = Reject(
                str(outcome.row[id_key]), stage, type(error).__name__, f"{type(actor).__name__}: {reason}{advice}"
            )
            return
        if out_of_memory := is_out_of_memory(error):
            logger.warning("%s: out of memory on %d rows, halving the batch", type(actor).__name__, len(batch))
    else:
        seconds = time.perf_counter() - started
        _provide(actor, batch, provided, stage, id_key, seconds)
        observe(stage, type(actor).__name__, len(batch), seconds)
        return
    # Only now is the exception gone, and with it the frames of the model and the tensors in them.
    if out_of_memory:
        free_memory()
    # Halving finds one bad row among n with about 2 log n calls.
    middle = len(batch) // 2
    for part in (batch[:middle], batch[middle:]):
        _run_batch(actor, part, id_key, stage, observe)


def _provide(actor: Actor, batch: Sequence[Outcome], provided: Sequence[Row], stage: str, id_key: str, seconds: float) -> None:
    share = seconds / len(batch)
    for outcome, new in zip(batch, provided, strict=True):
        missing = set(actor.provides) - set(new)
        if missing:
            outcome.reject = Reject(
                str(outcome.row[id_key]), stage, "ContractError", f"{type(actor).__name__} did not provide {sorted(missing)}"
            )
        outcome.row.update(new)
        outcome.seconds += share


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, says that the memory of the GPU or of the machine is full."""
    while error is not None:
        text = str(error).lower()
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or any(sign in text for sign in _FULL):
            return True
        error = error.__cause__ or error.__context__
    return False


def free_memory() -> None:
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        # Other actors may share the GPU: what the halves do not need is theirs.
        torch.cuda.empty_cache()

"""One experiment of Ray Tune: started or restored, followed from the driver, and read out."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import BasicVariantGenerator, ConcurrencyLimiter

from sc3d.errors import PreflightError, Sc3dError
from sc3d.parsed import TABLE_BYTES, parsed_json
from training.checkpoint import ValidationRecord
from training.search import Curve, Search, Trial, batch_name
from training.space import Choice, Range, decoded, encoded
from training.trial import curve_file, train_trial
from training.trial_resources import resources
from training.tune_state import tune_state

_KEPT_OF = 3
_TRIES_AGAIN = 1
"""How often a trial whose process died is tried again. It goes on from its checkpoint, so failing for its own fault costs only a step."""

_SETTINGS = {
    # A second Ctrl-C is not needed, and the first one is not swallowed: what was saved last is what a restored search goes on from.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "5",
    # The newer output prints boxes at any verbosity.
    "RAY_AIR_NEW_OUTPUT": "0",
}


@dataclass
class _Driver:
    """What the callback and the stopper need of this process. They are saved with the experiment, so they cannot hold it themselves."""

    spec: Search
    deadline: float
    on_trial: Callable[[Trial], None]
    outcome: list[Trial] = field(default_factory=list)


_driver: ContextVar[_Driver | None] = ContextVar("driver of a search", default=None)


class _Follower(tune.Callback):
    """Tells the driver of each trial that has ended, and of all of them at the end."""

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._tell(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._tell(trial)

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        if (driver := _driver.get()) is not None:
            found = [_outcome(driver.spec, trial) for trial in sorted(trials, key=_place)]
            driver.outcome = [trial for trial in found if trial.curve or trial.error]

    def _tell(self, trial: Any) -> None:
        if (driver := _driver.get()) is not None:
            driver.on_trial(_outcome(driver.spec, trial))


def _place(trial: Any) -> int:
    """Which trial of its experiment it is, from 0. Tune's list is in another order once a trial was tried again, which puts it last."""
    return int(trial.experiment_tag.partition("_")[0])


class _OutOfTime(tune.Stopper):
    """Ends the experiment at the driver's deadline."""

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        driver = _driver.get()
        return driver is not None and time.monotonic() > driver.deadline


def run_batch(
    spec: Search, number: int, trials: int, earlier: Sequence[Trial], seconds: float, on_trial: Callable[[Trial], None] | None
) -> list[Trial]:
    """Run ``trials`` trials as batch ``number``, or what is left of it. ``earlier``: what optuna can learn from.

    Returns:
        The trials that have ended or begun; fewer than ``trials`` when the time is up.
    """
    driver = _Driver(spec, time.monotonic() + seconds, on_trial or (lambda trial: None))
    token = _driver.set(driver)
    try:
        with _quietly():
            _tuner(spec, number, trials, earlier).fit()
    finally:
        _driver.reset(token)
    return driver.outcome


def _tuner(spec: Search, number: int, trials: int, earlier: Sequence[Trial]) -> tune.Tuner:
    trainable = tune.with_resources(partial(_trial, spec), resources(spec))
    name, state = batch_name(number), tune_state(spec.run, spec.batch_folder(number))
    if _is_restorable(state / name):
        return tune.Tuner.restore(str(state / name), trainable, resume_unfinished=True)
    settings = tune.RunConfig(
        name=name,
        storage_path=str(state),
        failure_config=tune.FailureConfig(max_failures=_TRIES_AGAIN),
        callbacks=[_Follower()],
        stop=_OutOfTime(),
        verbose=0,
    )
    how = tune.TuneConfig(
        metric="pck",
        mode="max",
        search_alg=_search_algorithm(spec, number, earlier),
        scheduler=_scheduler(spec),
        num_samples=trials,
        # A trial with workers of its own ends with its process: a driver that is used again would keep them.
        reuse_actors=spec.workers == 0,
    )
    return tune.Tuner(trainable, param_space={n: _domain(d) for n, d in spec.space.items()}, tune_config=how, run_config=settings)


def _is_restorable(folder: Path) -> bool:
    """Whether an experiment was killed after its trials were first written down; before that there is nothing to go on from."""
    return any(folder.glob("experiment_state-*.json"))


def _domain(domain: Choice | Range) -> Any:
    if isinstance(domain, Choice):
        # Places of values rather than values: those may be of any kind, for any search algorithm.
        return tune.choice(list(range(len(domain.values))))
    if isinstance(domain.low, int) and isinstance(domain.high, int):
        return (tune.lograndint if domain.log else tune.randint)(domain.low, domain.high + 1)
    return (tune.loguniform if domain.log else tune.uniform)(domain.low, domain.high)


def _search_algorithm(spec: Search, number: int, earlier: Sequence[Trial]) -> Any:
    first = [encoded(spec.space, spec.first)] if spec.first is not None and not earlier else None
    seed = spec.seed + number
    if spec.method == "random":
        return BasicVariantGenerator(max_concurrent=spec.concurrent, points_to_evaluate=first, random_state=seed)
    if find_spec("optuna") is None:
        raise PreflightError("sweep.method = optuna, but optuna is not installed: pip install 'sc3d[search]', or use random")
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    known = [(encoded(spec.space, trial.settings), trial.pck) for trial in earlier if trial.pck is not None]
    points, rewards = ([p for p, _ in known], [v for _, v in known]) if known else (first, None)
    chosen = OptunaSearch(metric="pck", mode="max", seed=seed, points_to_evaluate=points, evaluated_rewards=rewards)
    return ConcurrencyLimiter(chosen, max_concurrent=spec.concurrent)


def _scheduler(spec: Search) -> TrialScheduler:
    if not spec.early_stopping or spec.validate_every >= spec.steps:
        return FIFOScheduler()
    return ASHAScheduler(time_attr="step", max_t=spec.steps, grace_period=spec.validate_every, reduction_factor=_KEPT_OF)


def _trial(spec: Search, config: dict[str, Any]) -> None:
    """A trial, in its process."""
    folder = f"{spec.trials_folder}/{tune.get_context().get_trial_id()}"
    job = spec.make_job(decoded(spec.space, config), folder)
    train_trial(job, spec.workers, spec.validate_every, tune.report)


def _outcome(spec: Search, trial: Any) -> Trial:
    name = curve_file(f"{spec.trials_folder}/{trial.trial_id}")
    data = spec.run.read_bytes(name, TABLE_BYTES) if spec.run.exists(name) else b"[]"
    rows: Curve = parsed_json(Curve, data, f"{spec.run.uri}/{name}")
    curve = tuple(ValidationRecord(*row) for row in rows)
    error = _reason(trial) if trial.status == "ERROR" else None
    return Trial(trial.trial_id, decoded(spec.space, trial.config), curve, error)


def _reason(trial: Any) -> str:
    error = trial.get_pickled_error() or trial.get_error()
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        # Ray's errors are of the type of their cause too, so the innermost one is what was raised.
        error = getattr(error, "cause", None) or error.__cause__
    if not seen:
        return "its process died; the logs of Ray say how"
    if isinstance(seen[-1], Sc3dError):
        return str(seen[-1])
    lines = [line.strip() for line in str(seen[0]).splitlines() if line.strip()]
    return lines[-1] if lines else type(seen[0]).__name__


@contextmanager
def _quietly() -> Iterator[None]:
    """Tune's own messages are for its own progress; what matters is told by whoever searches."""
    before: Mapping[str, str | None] = {name: os.environ.get(name) for name in _SETTINGS}
    loggers = [logging.getLogger(name) for name in ("ray.tune", "ray.train")]
    levels = [logger.level for logger in loggers]
    os.environ.update(_SETTINGS)
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

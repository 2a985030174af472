"""A grid of settings on Ray Tune: each trial evaluates one setting, and actors are kept between trials, since starting them costs more."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ray import tune

from sc3d.errors import Sc3dError

Settings = Mapping[str, Any]


class _Progress(tune.Callback):
    """Tells the calling process of each finished trial. Tune pickles its callbacks to be able to restore; this one stays at home."""

    def __init__(self, on_trial: Callable[[], None] | None = None) -> None:
        self._on_trial = on_trial

    def __reduce__(self) -> tuple[type[_Progress], tuple[()]]:
        return _Progress, ()

    def on_trial_complete(self, *_: Any, **__: Any) -> None:
        """Count the trial."""
        if self._on_trial is not None:
            self._on_trial()


def sweep(
    settings: Sequence[Settings], evaluate: Callable[[Settings], Mapping[str, Any]], on_trial: Callable[[], None]
) -> list[dict[str, Any]]:
    """Evaluate every setting; the results are in the order of ``settings``.

    Args:
        settings: plain values.
        evaluate: called in a worker with one setting; returns plain values.
        on_trial: called in this process after each finished trial.

    Raises:
        Sc3dError: a trial failed; its error is the cause.
    """
    with tempfile.TemporaryDirectory() as scratch:  # Tune insists on records of its own; only the results count here
        tuner = tune.Tuner(
            lambda trial: {"result": dict(evaluate(settings[trial["index"]]))},
            param_space={"index": tune.grid_search(list(range(len(settings))))},
            tune_config=tune.TuneConfig(reuse_actors=True),
            run_config=tune.RunConfig(storage_path=scratch, verbose=0, callbacks=[_Progress(on_trial)]),
        )
        results = tuner.fit()
    if results.errors:
        raise Sc3dError(
            f"{len(results.errors)} of {len(settings)} trials failed; the first: {results.errors[0]}"
        ) from results.errors[0]
    finished = [results[i] for i in range(len(results))]
    found = {one.config["index"]: one.metrics["result"] for one in finished if one.config is not None and one.metrics is not None}
    return [found[index] for index in range(len(settings))]

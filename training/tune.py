"""Ray Tune over trainings: each trial is a training with other settings, scored by its PCK on validation pairs as it goes.

Each batch of a search is an experiment of Ray Tune: one that was cut short is restored on the machine where it ran
(:mod:`training.tune_state`), its trials going on from their own checkpoints in the run folder; when it is finished, everything of it but
its outcome is deleted.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable

from sc3d.store import RunFolder
from training.search import Search, Trial, finish_batch, finished_batches, finished_trials
from training.tune_state import forget_tune_state


def search(spec: Search, on_trial: Callable[[Trial], None] | None = None) -> list[Trial]:
    """Run the trials that are missing, or go on where an earlier call was cut short. Ray must be running.

    Args:
        spec: the search.
        on_trial: called in this process with each trial that has ended.

    Returns:
        All trials, of earlier calls too. Failed ones are among them.

    Raises:
        PreflightError: the cluster cannot give a trial what it needs, or optuna is not installed.
    """
    # Not before: Ray reads the settings of its session when it is imported.
    from training.tune_batch import run_batch

    started = time.monotonic()
    done = finished_trials(spec.run, spec.folder)
    while len(done) < spec.trials:
        left = math.inf if spec.seconds is None else spec.seconds - (time.monotonic() - started)
        if left <= 0:
            break
        number = len(finished_batches(spec.run, spec.folder))
        found = run_batch(spec, number, spec.trials - len(done), done, left, on_trial)
        finish_batch(spec, number, found)
        forget_tune_state(spec.run, spec.batch_folder(number))
        _tidy(spec.run, spec.batch_folder(number))
        _tidy(spec.run, spec.trials_folder)
        if not found:
            break
        done += found
    return done


def _tidy(run: RunFolder, folder: str) -> None:
    for name in run.names(folder):
        run.delete(name)
    if run.is_local:
        shutil.rmtree(run.path(folder), ignore_errors=True)

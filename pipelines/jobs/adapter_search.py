"""Train adapters with many settings, on labels made anew from the stored matches -> ``sweeps/adapter-<recipe>/`` and ``best-adapter.yaml``.

No image is touched and nothing is matched again: a trial applies its thresholds to the matches of its weights, in its own process.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import yaml
from rich.console import Console

from cluster.session import RaySession
from pipelines.jobs import sweep
from pipelines.stages.describe import DescribeStage
from pipelines.jobs.label_source import category_of
from pipelines.folder.manifest import IMAGES, PAIRS
from pipelines.stages.match import MatchStage
from pipelines.runner.progress import Progress, Task
from pipelines.report.search import ADAPTER, BEST_ADAPTER, usage, write_page
from pipelines.jobs.search_space import WEIGHTS, match_command, matched_weights, present_settings, search_space, with_settings
from pipelines.jobs.train import feature_reader, validation_pairs
from sc3d.artefacts import Artefacts
from sc3d.config import RunConfig
from sc3d.errors import ConfigError, FeatureError, InputError, StoreError
from sc3d.lease import RunLease
from sc3d.matching.thresholds import apply_thresholds
from sc3d.records import Labels, Matches
from sc3d.report.search import settings_text
from sc3d.schema import to_table
from sc3d.shards import recipe_of
from sc3d.store import RunFolder
from training.adapter import encode_adapter, load_adapter
from training.checkpoint import counted_options
from training.data import LabelledPairs
from training.job import TrainingData, TrainJob
from training.label_set import COLUMNS, LabelSet
from training.tune import Choice, Search, Space, Trial, finished_trials, search
from training.validation import Validation

BEST = BEST_ADAPTER


def run(config: RunConfig, console: Console | None = None) -> list[dict[str, Any]]:
    """Try settings until ``sweep.trials`` of them have been trained with or the time is up, and write the best one as YAML.

    A search that was cut short goes on where it was; one that is finished only gets the trials that it lacks.

    Returns:
        One row a trial: settings, pck, steps, error; best first, failed ones last.

    Raises:
        ConfigError: the space names an option that there is not, or weights that are not matched.
        InputError: there are no annotated validation pairs, no matches, or every trial has failed.
        PreflightError: the cluster has no room for a trial, or optuna is not installed.
    """
    console = console or Console(highlight=False, soft_wrap=True)
    _check_data(config)
    space, folder = search_space(config), RunFolder(config.run)
    plan = plan_search(config, space)
    if WEIGHTS not in space:
        console.print(_about_weights(config), markup=False)
    with RunLease(folder), RaySession(config.ray) as ray, Progress() as progress:
        there = len(finished_trials(folder, plan.folder))
        task = progress.start("search", max(plan.trials, there), done=there)
        if there < plan.trials:
            ray.start()
            # Not before: Ray reads the settings of its session when it is imported.
            from training.tune_batch import room

            concurrent, gpus = room(config.train.workers, config.sweep.trial_gpus)
            plan = dataclasses.replace(plan, concurrent=min(concurrent, config.ray.workers), gpus=gpus)
        trials = search(plan, Teller(task, progress).tell)
        task.finish()
    rows = rank_trials(trials)
    folder.write_json(ADAPTER, {"rows": rows, "steps": plan.steps, "space": _plain(space), "folder": plan.folder})
    if all(row["pck"] is None for row in rows):
        reasons = (
            "; ".join(dict.fromkeys(row["error"] for row in rows if row["error"])) or "the time was up before the first validation"
        )
        raise InputError(f"no trial of {len(rows)} has a result: {reasons}")
    best = best_options(rows[0]["settings"])
    folder.write_bytes(BEST, yaml.safe_dump(best, sort_keys=False).encode())
    _print(rows, config, console)
    console.print(f"page: {write_page(folder)}", markup=False)
    return rows


def plan_search(config: RunConfig, space: Space) -> Search:
    """The search of a configuration. What its trials' numbers depend on names its folder; how many they are and how they are chosen
    does not, so that more can be added."""
    wanted, stage = config.sweep, MatchStage(config)
    steps = wanted.trial_steps or max(1, config.train.steps // 10)
    initial = None if config.train.initial is None else encode_adapter(load_adapter(Path(config.train.initial).expanduser()))
    fixed = trial_config(config, {}, steps)
    fingerprint: Mapping[str, Any] = {
        "matches": stage.recipe,
        "shards": hashlib.sha256("\n".join(_files(fixed, stage.artefacts)).encode()).hexdigest(),
        "thresholds": [config.label.tau_cc, config.label.tau_geo],
        "categories": list(config.dataset.categories),
        "train": counted_options(fixed.train),
        "initial": None if initial is None else hashlib.sha256(initial).hexdigest(),
        "seed": config.seed,
        "space": _plain(space),
        "validations": wanted.validations,
    }
    return Search(
        make_job=partial(_trial_job, config, steps, initial),
        space=space,
        run=stage.run,
        folder=f"sweeps/adapter-{recipe_of('adapter search', fingerprint)}",
        steps=steps,
        first=present_settings(config, space),
        seed=config.seed,
        validations=wanted.validations,
        trials=wanted.trials,
        seconds=None if wanted.hours is None else 3600 * wanted.hours,
        method=wanted.method,
        early_stopping=wanted.early_stopping,
        workers=config.train.workers,
    )


def trial_config(config: RunConfig, settings: Mapping[str, Any], steps: int) -> RunConfig:
    """What a trial is trained with."""
    chosen = with_settings(config, settings)
    train = dataclasses.replace(
        chosen.train, steps=steps, validate_every=1, validation_pairs=config.sweep.pairs_per_category, trackers=()
    )
    return dataclasses.replace(chosen, train=train)


def _trial_job(config: RunConfig, steps: int, initial: bytes | None, settings: Mapping[str, Any], folder: str) -> TrainJob:
    chosen = trial_config(config, settings, steps)
    return TrainJob(partial(trial_data, chosen), chosen.train, chosen.seed, RunFolder(chosen.run), folder, initial=initial)


def trial_data(config: RunConfig) -> TrainingData:
    """The labels that the thresholds of ``config`` make of the matches of its weights, and the annotated validation pairs.

    Raises:
        InputError: no match passes the thresholds, or no validation pair is annotated.
        FeatureError: a matched image is not described with the present features.
    """
    artefacts = MatchStage(config).artefacts
    labels = relabelled(config, artefacts)
    described = DescribeStage(config).artefacts.catalogue().ids
    lost = set(labels.image_ids) - set(described.to_pylist())
    if lost:
        raise FeatureError(f"{len(lost)} matched images, among them {min(lost)}, have no features of the present recipe")
    features = feature_reader(config)
    pairs, held_out = validation_pairs(config, labels, described)
    if held_out or not pairs:
        raise InputError(_NO_PAIRS.format(config.run))
    trained = LabelledPairs(labels, features, config.ray.cache_mb * 2**20)
    return TrainingData(trained, Validation(pairs, trained.features, config.train, config.seed))


def relabelled(config: RunConfig, artefacts: Artefacts) -> LabelSet:
    """The labels that ``sc3d label`` would write with these thresholds, as training reads them, from the matches of ``artefacts``.

    One file of matches is in memory at a time; what training needs goes to an unnamed file, as with labels.

    Raises:
        InputError: no pair has a label.
    """
    scratch = Path(config.train.cache or "~/.cache/sc3d/training").expanduser()
    try:
        scratch.mkdir(parents=True, exist_ok=True)
        handle, path = tempfile.mkstemp(prefix="relabelled-", dir=scratch)
        try:
            schema = to_table(Labels, []).select(COLUMNS).schema.remove_metadata()
            with os.fdopen(handle, "wb") as stream, pa.ipc.new_file(stream, schema) as writer:
                for name in _files(config, artefacts):
                    rows = [apply_thresholds(row, config.label) for row in artefacts.run.read_records(Matches, name)]
                    writer.write_table(to_table(Labels, rows).select(COLUMNS).replace_schema_metadata(None))
            table = pa.ipc.open_file(pa.memory_map(path)).read_all()
        finally:
            Path(path).unlink()
    except OSError as error:
        raise StoreError(f"cannot keep labels in {scratch}: {error.strerror or error}; is there space? See train.cache") from None
    return LabelSet(table)


def _files(config: RunConfig, artefacts: Artefacts) -> list[str]:
    wanted = config.dataset.categories
    return [name for name in artefacts.files() if not wanted or category_of(name) in wanted]


_NO_PAIRS = (
    "{} has no annotated validation pairs with features; the adapter level judges trials by them, "
    "so it needs a data set with keypoints"
)


def _check_data(config: RunConfig) -> None:
    """Find out before anything starts what would fail every trial."""
    folder, stage = RunFolder(config.run), MatchStage(config)
    if config.train.labels is not None:
        raise ConfigError(
            "the adapter level makes labels from the run's own matches; leave train.labels out, or search with sc3d train"
        )
    if not _files(config, stage.artefacts):
        raise InputError(
            f"{folder.uri} holds no matches of this configuration, so there are no labels to search on; run sc3d label first"
        )
    if not (folder.exists(IMAGES) and folder.exists(PAIRS)):
        raise InputError(_NO_PAIRS.format(config.run))
    pairs, wanted = sweep.validation_pairs(config), config.dataset.categories
    if wanted and not any(pair.category in wanted for pair in pairs):
        raise InputError(_NO_PAIRS.format(config.run))
    workers, pairs_per_step = config.train.workers, config.train.pairs_per_step
    if workers and pairs_per_step % workers:
        raise ConfigError(f"train.pairs_per_step = {pairs_per_step} cannot be shared evenly by {workers} workers")


def _about_weights(config: RunConfig) -> str:
    """How the weights could be searched too."""
    match = config.match
    there = [weights for weights in matched_weights(config) if weights != (match.alpha, match.beta)]
    if there:
        return (
            f"gamma stays at {match.gamma:.3g}; other matches that are there: sweep.space with {WEIGHTS} [alpha, beta] of {there}"
        )
    rest = match.alpha + match.beta
    gamma = 1 / 3 if match.gamma < 1 / 4 else 1 / 6
    other = (match.alpha / rest * (1 - gamma), match.beta / rest * (1 - gamma)) if rest else (1 / 2, 1 / 3)
    return (
        f"gamma stays at {match.gamma:.3g}: labels of other weights need matches with them. To search it too, match with others first, "
        f"for example: {match_command(config, other)}"
    )


def _plain(space: Space) -> dict[str, Any]:
    return {name: list(one.values) if isinstance(one, Choice) else dataclasses.asdict(one) for name, one in space.items()}


class Teller:
    """Says how each trial went, and counts it."""

    def __init__(self, task: Task, progress: Progress) -> None:
        self._task, self._progress = task, progress
        self._best: float | None = None

    def tell(self, trial: Trial) -> None:
        """A trial has ended."""
        self._task.advance(1, int(trial.error is not None))
        where = settings_text(trial.settings)
        if trial.error is not None:
            self._progress.say(f"  failed: {where}: {trial.error}")
        elif trial.pck is not None:
            better = self._best is None or trial.pck > self._best
            self._best = trial.pck if better else self._best
            note = "  (best so far)" if better else ""
            self._progress.say(f"  PCK {100 * trial.pck:.1f} % after {trial.curve[-1].step} steps: {where}{note}")


def rank_trials(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """A row a trial: the best PCK first, then those without a result, then failed ones."""

    def order(trial: Trial) -> tuple[bool, bool, float]:
        return trial.error is not None, trial.pck is None, -(trial.pck or 0.0)

    return [
        {
            "trial": trial.trial_id,
            "settings": {name: list(value) if isinstance(value, tuple) else value for name, value in trial.settings.items()},
            "pck": trial.pck,
            "steps": trial.curve[-1].step if trial.curve else 0,
            "curve": [list(record) for record in trial.curve],
            "error": trial.error,
        }
        for trial in sorted(trials, key=order)
    ]


def best_options(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Settings as the options of a run, for ``--config``."""
    options: dict[str, dict[str, Any]] = {}
    for name, value in settings.items():
        stage, _, option = name.partition(".")
        options.setdefault(stage, {}).update(
            {"alpha": value[0], "beta": value[1]}
            if name == WEIGHTS
            else {option: list(value) if isinstance(value, tuple) else value}
        )
    return options


def _print(rows: Sequence[Mapping[str, Any]], config: RunConfig, console: Console) -> None:
    good = [row for row in rows if row["pck"] is not None]
    console.print(f"best of {len(good)} trials, PCK@0.10:", style="bold", markup=False)
    for row in good[:5]:
        console.print(f"  {row['pck']:6.1%} after {row['steps']:,} steps: {settings_text(row['settings'])}", markup=False)
    failed = [row for row in rows if row["error"]]
    if failed:
        console.print(f"{len(failed)} trials failed; their reasons are on the page", markup=False)
    console.print(f"use it: {usage(RunFolder(config.run), BEST, ('label', 'train'))}", markup=False)

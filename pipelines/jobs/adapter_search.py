"""Train adapters with many settings, on labels made anew from the stored matches -> ``sweeps/adapter-<recipe>/`` and ``best-adapter.yaml``.

No image is touched and nothing is matched again: a trial applies its thresholds to the matches of its weights, in its own process.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import yaml

from pipelines.folder.manifest import IMAGES, PAIRS
from pipelines.jobs.job import Job
from pipelines.jobs.search_space import match_command, matched_weights, search_space
from pipelines.report.search import BEST_ADAPTER, FOUND_ADAPTER, usage, write_page
from pipelines.runner.progress import Line, Progress
from pipelines.stages.adapter import feature_reader, initial_adapter, scratch_folder, slot_weights, validation_pairs
from pipelines.stages.describe import DescribeStage
from pipelines.stages.match import MatchStage
from pipelines.stages.sweep import swept_pairs
from sc3d.artefacts import Catalogue
from sc3d.config import RunConfig
from sc3d.console import PlainConsole
from sc3d.errors import ConfigError, FeatureError, InputError
from sc3d.matching.thresholds import apply_thresholds
from sc3d.records import Labels, Matches
from sc3d.report.search import settings_text
from sc3d.schema import from_table, to_table
from sc3d.shards import recipe_of
from sc3d.store import RunFolder
from training.checkpoint import counted_options
from training.data import LabelledPairs
from training.job import TrainingData, TrainJob
from training.label_set import LabelSet
from training.search import Search, Trial, finished_trials, rank_trials
from training.settings import WEIGHTS, best_options, present_settings, with_settings
from training.space import Choice, Space
from training.tune import search
from training.validation import Validation


def run(config: RunConfig, console: PlainConsole | None = None) -> RunFolder:
    """Try settings until ``sweep.trials`` of them have been trained with or the time is up, and write the best one as YAML.

    A search that was cut short goes on where it was; one that is finished only gets the trials that it lacks. ``sweeps/adapter.json`` has
    one row a trial: settings, pck, steps, error; best first, failed ones last.

    Raises:
        ConfigError: the space names an option that there is not, or weights that are not matched.
        InputError: there are no annotated validation pairs, no matches, or every trial has failed.
        PreflightError: the cluster has no room for a trial, or optuna is not installed.
    """
    console = console or PlainConsole(soft_wrap=True)
    with Job(config, "search") as job:
        config, folder = job.config, job.folder
        _check_data(config)
        space = search_space(config)
        described = describe_search(config, space)
        job.begin()
        if WEIGHTS not in space:
            console.print(_about_weights(config))
        there = len(finished_trials(folder, described.folder))
        line = job.progress.start("search", max(described.trials, there), done=there)
        if there < described.trials:
            job.ray.start()
            # Not before: Ray reads the settings of its session when it is imported.
            from training.trial_resources import room

            concurrent, gpus = room(config.train.workers, config.sweep.trial_gpus)
            described = dataclasses.replace(described, concurrent=min(concurrent, job.ray.workers), gpus=gpus)
        trials = search(described, Teller(line, job.progress).tell)
        line.finish()
        rows = rank_trials(trials)
        folder.write_json(
            FOUND_ADAPTER, {"rows": rows, "steps": described.steps, "space": _plain(space), "folder": described.folder}
        )
        if all(row["pck"] is None for row in rows):
            reasons = (
                "; ".join(dict.fromkeys(row["error"] for row in rows if row["error"]))
                or "the time was up before the first validation"
            )
            raise InputError(f"no trial of {len(rows)} has a result: {reasons}")
        best = best_options(rows[0]["settings"])
        folder.write_bytes(BEST_ADAPTER, yaml.safe_dump(best, sort_keys=False).encode())
        page = write_page(folder)
    _print(rows, config, console)
    console.print(f"page: {page}")
    return folder


def describe_search(config: RunConfig, space: Space) -> Search:
    """The search of a configuration. What its trials' numbers depend on names its folder; how many they are and how they are chosen
    does not, so that more can be added."""
    wanted, stage = config.sweep, MatchStage(config)
    steps = wanted.trial_steps or max(1, config.train.steps // 10)
    initial = initial_adapter(config)
    fixed = trial_config(config, {}, steps)
    fingerprint: Mapping[str, Any] = {
        "matches": stage.recipe,
        "rows": _matches(fixed).fingerprint(),
        "thresholds": [config.label.tau_cc, config.label.tau_geo, config.label.min_agreement],
        "categories": list(config.dataset.categories),
        "train": counted_options(fixed.train),
        "initial": None if initial is None else hashlib.sha256(initial).hexdigest(),
        "seed": config.seed,
        "space": _plain(space),
        "validations": wanted.validations,
    }
    return Search(
        make_job=partial(_trial_job, stage.run, config, steps, initial),
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


def _trial_job(
    run: RunFolder, config: RunConfig, steps: int, initial: bytes | None, settings: Mapping[str, Any], folder: str
) -> TrainJob:
    chosen = trial_config(config, settings, steps)
    return TrainJob(partial(trial_data, chosen), chosen.train, chosen.seed, run, folder, initial=initial)


def trial_data(config: RunConfig) -> TrainingData:
    """The labels that the thresholds of ``config`` make of the matches of its weights, and the annotated validation pairs.

    Raises:
        InputError: no match passes the thresholds, or no validation pair is annotated.
        FeatureError: a matched image is not described with the present features.
    """
    # One file of matches is in memory at a time; what training needs goes to an unnamed file, as with labels.
    labels = LabelSet.read(relabelled(config), scratch_folder(config))
    described = DescribeStage(config).catalogue().ids
    lost = set(labels.image_ids) - set(described.to_pylist())
    if lost:
        raise FeatureError(f"{len(lost)} matched images, among them {min(lost)}, have no features of the present recipe")
    features = feature_reader(config)
    pairs, held_out = validation_pairs(config, labels, described)
    if held_out or not pairs:
        raise InputError(_NO_PAIRS.format(config.run))
    trained = LabelledPairs(labels, features, config.ray.cache_mb * 2**20, slot_weights=slot_weights(config))
    return TrainingData(trained, Validation(pairs, trained.features, config.train, config.seed))


def relabelled(config: RunConfig) -> Iterator[pa.Table]:
    """The labels that ``sc3d label`` would write with these thresholds."""
    for table in _matches(config).tables():
        yield to_table(Labels, [apply_thresholds(row, config.label) for row in from_table(Matches, table)])


def _matches(config: RunConfig) -> Catalogue:
    """The matches of a configuration that count, of its categories."""
    return MatchStage(config).catalogue().within(config.dataset.categories)


_NO_PAIRS = (
    "{} has no annotated validation pairs with features; the adapter level judges trials by them, "
    "so it needs a data set with keypoints"
)


def _check_data(config: RunConfig) -> None:
    """Find out before anything starts what would fail every trial."""
    folder = RunFolder(config.run)
    if config.train.labels is not None:
        raise ConfigError(
            "the adapter level makes labels from the run's own matches; leave train.labels out, or search with sc3d train"
        )
    matches = _matches(config)
    matches.refuse_damaged()
    if not len(matches):
        raise InputError(
            f"{folder.uri} holds no matches of this configuration, so there are no labels to search on; run sc3d label first"
        )
    if not (folder.exists(IMAGES) and folder.exists(PAIRS)):
        raise InputError(_NO_PAIRS.format(config.run))
    pairs, wanted = swept_pairs(config), config.dataset.categories
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

    def __init__(self, line: Line, progress: Progress) -> None:
        self._line, self._progress = line, progress
        self._best: float | None = None

    def tell(self, trial: Trial) -> None:
        """A trial has ended."""
        self._line.advance(1, int(trial.error is not None))
        where = settings_text(trial.settings)
        if trial.error is not None:
            self._progress.say(f"  failed: {where}: {trial.error}")
        elif trial.pck is not None:
            better = self._best is None or trial.pck > self._best
            self._best = trial.pck if better else self._best
            note = "  (best so far)" if better else ""
            self._progress.say(f"  PCK {100 * trial.pck:.1f} % after {trial.curve[-1].step} steps: {where}{note}")


def _print(rows: Sequence[Mapping[str, Any]], config: RunConfig, console: PlainConsole) -> None:
    good = [row for row in rows if row["pck"] is not None]
    console.print(f"best of {len(good)} trials, PCK@0.10:", style="bold")
    for row in good[:5]:
        console.print(f"  {row['pck']:6.1%} after {row['steps']:,} steps: {settings_text(row['settings'])}")
    failed = [row for row in rows if row["error"]]
    if failed:
        console.print(f"{len(failed)} trials failed; their reasons are on the page")
    console.print(f"use it: {usage(RunFolder(config.run), BEST_ADAPTER, ('label', 'train'))}")

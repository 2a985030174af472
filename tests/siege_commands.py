"""The commands that a siege disturbs (:mod:`siege`), and the rows that each of them makes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.jobs.adapter_search import describe_search
from pipelines.jobs.search_space import search_space
from pipelines.runner.stage import Stage
from pipelines.stages.adapter import train_job
from pipelines.stages.compare import CompareStage, labelled_by
from pipelines.stages.evaluate import evaluate_stages
from pipelines.stages.judge import JudgeStage
from pipelines.stages.label import LabelStage
from pipelines.stages.registry import chain_to
from pipelines.stages.sweep import SweepStage
from sc3d.config import RunConfig
from sc3d.store import RunFolder
from training.adapter import decode_adapter
from training.search import finished_trials

LABELLING = "2d-cycle"
"""What ``compare`` compares with."""
_SAID_OF_TIME = {"seconds"}

Rows = Mapping[str, Sequence[Mapping[str, Any]]]
"""Id -> all rows of it."""


@dataclass(frozen=True)
class Command:
    """A command under siege. ``made``: name -> the rows that it has made; ``options``: by which there is enough to do."""

    made: Callable[[RunConfig], dict[str, Rows]]
    options: Sequence[str] = ()


def options_of(data: Path, command: str) -> list[str]:
    """The options of every run of a siege of a command, but for the folder."""
    small = [
        "dataset.kind=toys",
        "pairs.targets=2",
        "max_reject_fraction=0.5",
        "train.steps=2",
        "train.channels=32",
        "ray.workers=2",
    ]
    few = ["evaluate.max_pairs_per_category=2", "evaluate.methods=[copy-position,zero-shot]"]
    return [f"dataset.root={json.dumps(str(data))}", *few, *small, *COMMANDS[command].options]


def rows_of(stages: Iterable[Stage]) -> dict[str, Rows]:
    """Stage and recipe -> all rows in files that count, whether they are counted once or not; without times."""
    found: dict[str, Rows] = {}
    for stage in stages:
        rows: dict[str, list[dict[str, Any]]] = {}
        for name in stage.artefacts.files():
            for record in stage.run.read_records(stage.record, name):
                row = {key: value for key, value in vars(record).items() if key not in _SAID_OF_TIME}
                rows.setdefault(str(row[stage.key]), []).append(row)
        found[f"{stage.name} {stage.artefacts.recipe}"] = rows
    return found


def _labels(config: RunConfig) -> dict[str, Rows]:
    return rows_of(kind(config) for kind in chain_to(config, LabelStage.name))


def _adapter(config: RunConfig) -> dict[str, Rows]:
    job = train_job(config)
    state = decode_adapter(job.run.read_bytes(job.adapter_file)).state_dict()
    return {job.adapter_file: {name: [{"values": tensor.numpy()}] for name, tensor in state.items()}}


def _compared(config: RunConfig) -> dict[str, Rows]:
    compared = labelled_by(config, LABELLING)
    return {**rows_of([CompareStage(compared)]), **_adapter(compared)}


def _trials(config: RunConfig) -> dict[str, Rows]:
    rows: dict[str, list[dict[str, Any]]] = {}
    folder = describe_search(config, search_space(config)).folder
    for trial in finished_trials(RunFolder(config.run), folder):
        rows.setdefault(json.dumps(trial.settings), []).append({"curve": np.array(trial.curve), "error": trial.error})
    return {folder: rows}


COMMANDS: Mapping[str, Command] = {
    "label": Command(_labels),
    "train": Command(_adapter, ["train.steps=40", "train.workers=2", "train.pairs_per_step=2"]),
    "evaluate": Command(
        lambda config: rows_of([*evaluate_stages(config), JudgeStage(config)]), ["evaluate.max_pairs_per_category=20"]
    ),
    "compare": Command(_compared, ["train.steps=40"]),
    "sweep": Command(lambda config: rows_of([SweepStage(config)]), ["sweep.steps=4"]),
    "tune": Command(_trials, ["sweep.trials=3", "sweep.trial_steps=9", "sweep.space={train.noise: {low: 0.1, high: 1.0}}"]),
}


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two rows are the same to the last bit."""
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)

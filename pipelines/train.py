"""labels + features -> adapter -> ``adapters/<recipe>/``."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

from pipelines.describe import DescribeStage
from pipelines.match import LabelStage
from pipelines.progress import Progress
from pipelines.stage import StageSummary
from pipelines.timings import record_summary
from sc3d.config import RunConfig
from sc3d.errors import InputError
from sc3d.records import Labels
from sc3d.shards import recipe_of
from sc3d.store import RunFolder
from training.adapter import encode_adapter
from training.data import LabelledPairs
from training.train import train

CACHE_BYTES = 1024 * 2**20


def adapter_folder(config: RunConfig) -> str:
    """Folder of the adapter that belongs to a configuration and to the label shards that are there."""
    labels = LabelStage(config)
    shards = hashlib.sha256("\n".join(labels.artefacts.files()).encode()).hexdigest()
    fingerprint: Mapping[str, Any] = {
        "labels": labels.recipe,
        "shards": shards,
        "seed": config.seed,
        "train": {k: v for k, v in dataclasses.asdict(config.train).items() if k != "workers"},
    }
    return f"adapters/{recipe_of('train', fingerprint)}"


def adapter_file(config: RunConfig) -> str:
    """Name of the trained adapter."""
    return f"{adapter_folder(config)}/adapter.safetensors"


def run(config: RunConfig) -> RunFolder:
    """Train the adapter on the run's labels, unless the one of this configuration is there already.

    Raises:
        InputError: no pair has a label.
        Sc3dError: training diverged; the last good adapter is not kept as the result.
    """
    folder = RunFolder(config.run)
    name = adapter_file(config)
    with Progress() as progress:
        done = folder.exists(name)
        task = progress.start("train", config.train.steps, done=config.train.steps if done else 0)
        if not done:
            labels: list[Labels] = LabelStage(config).artefacts.catalogue().read_all()
            describe = DescribeStage(config)
            if not any(one.n_kept for one in labels):
                raise InputError(
                    f"{config.run} has no labels to train on; run 'sc3d label', or loosen label.tau_geo and label.tau_cc"
                )
            pairs = LabelledPairs(labels, describe.read_features, CACHE_BYTES)
            result = train(pairs, config.train, config.seed, on_step=lambda _: task.advance(1))
            folder.write_json(f"{adapter_folder(config)}/history.json", {"steps": [step._asdict() for step in result.history]})
            folder.write_bytes(name, encode_adapter(result.adapter, pairs.source_names(), describe.recipe))
        seconds = task.finish()
    steps = config.train.steps
    record_summary(folder, StageSummary("train", steps, 0 if done else steps, 0, seconds))
    return folder

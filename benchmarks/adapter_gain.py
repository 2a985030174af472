"""What an adapter adds to its features, and where: PCK of both at 0.10, 0.05 and 0.01 on unseen toys of mixed build and pose.

Run with ``python -m benchmarks.adapter_gain [--seeds 41] [--trainings 3] [--steps 150] [--option KEY=VALUE]``; a part of
``python -m benchmarks truth``. Toys are labelled as ``sc3d label`` does it; adapters are trained and judged in this process. The features'
figures and the adapter's are of the same pairs, read out alike: the window soft-argmax as the run has it, per image.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import row
from pipelines.folder.manifest import read_images, read_pairs
from pipelines.jobs import label
from pipelines.jobs.demo import DEFAULTS, HELD_OUT_SEED
from pipelines.stages.adapter import training_data
from pipelines.stages.describe import DescribeStage
from sc3d.config import RunConfig
from sc3d.config_file import load_config
from sc3d.datasets.toys import ToysConfig, generate_toys
from sc3d.datasets.toys.catalogue import MIXED
from sc3d.evaluation.methods import METHODS, weights_of
from sc3d.evaluation.pck import WINDOW, pck, score_pair
from sc3d.evaluation.readout import CellDescriptors
from sc3d.features import Features
from sc3d.records import SPLITS
from sc3d.store import RunFolder
from training.adapter import Adapter
from training.loop import fit

BENCH = "truth"
ALPHAS = (0.10, 0.05, 0.01)
IMAGES = {"trn": 12, "val": 0, "test": 8}

Describer = Callable[[Features], CellDescriptors]
Label = Callable[[RunConfig], object]


def run(
    seeds: Sequence[int] = (41,),
    trainings: int = 3,
    steps: int = 150,
    options: Mapping[str, str] | None = None,
    label_run: Label = label.run,
) -> Iterator[dict[str, Any]]:
    """Yield the features' PCK, the adapter's, and the difference, as means over seeds of toys and of training, and its spread over both.

    Args:
        seeds: each draws its own toys.
        trainings: adapters a seed of toys.
        steps: of each training.
        options: of the run, by name; empty: the light profile and its preset.
        label_run: what labels the run.
    """
    gains, features = [], []
    for seed in seeds:
        with tempfile.TemporaryDirectory(prefix="sc3d-gain-") as folder:
            config = _labelled(Path(folder), seed, steps, options or {}, label_run)
            plain = _scores(config, lambda one, config=config: _zero_shot(one, config))  # type: ignore[misc]
            features.append(plain)
            gains += [_scores(config, lambda one, a=a: _adapted(one, a)) - plain for a in _trained(config, trainings)]  # type: ignore[misc]
    count = len(gains)
    for alpha, values, before in zip(ALPHAS, np.array(gains).T, np.mean(features, axis=0), strict=True):
        name = f"adapter minus features at {alpha:.2f}"
        yield row(BENCH, f"features: PCK@{alpha:.2f}, mixed toys", float(before), "%", "higher", n=len(seeds))
        yield row(BENCH, name, float(values.mean()), "points", "higher", n=count)
        if count > 1:
            yield row(BENCH, f"{name}, spread", float(values.std(ddof=1)), "points", "lower", n=count)


def _labelled(folder: Path, seed: int, steps: int, options: Mapping[str, str], label_run: Label) -> RunConfig:
    pairs = dict.fromkeys(SPLITS, 40)
    generate_toys(
        folder / "toys", ToysConfig(tuple(MIXED), IMAGES, pairs, seed=seed, held_out_seed=seed + HELD_OUT_SEED, mixed=True)
    )
    places = {"run": str(folder / "run"), "dataset.root": str(folder / "toys"), "seed": str(seed)}
    training = {"train.steps": str(steps), "train.validate_every": "0", "train.cache": str(folder / "cache")}
    config = load_config(None, [f"{name}={value}" for name, value in {**places, **training, **options}.items()], DEFAULTS)
    label_run(config)
    return config


def _trained(config: RunConfig, trainings: int) -> Iterator[Adapter]:
    data = training_data(config)
    for number in range(trainings):
        yield fit(data.pairs, data.pairs.feature_dims, config.train, config.seed + number).adapter


def _zero_shot(features: Features, config: RunConfig) -> CellDescriptors:
    return CellDescriptors.of_features(features, weights_of(METHODS["zero-shot"], config))


def _adapted(features: Features, adapter: Adapter) -> CellDescriptors:
    flat = dataclasses.replace(features, shape=None, surface=None)
    return CellDescriptors.of_map(adapter.describe(flat), features.letterbox)


def _scores(config: RunConfig, describe: Describer) -> np.ndarray:
    """PCK (3,) in per cent at :data:`ALPHAS` on the test pairs, per image."""
    run, stage = RunFolder(config.run), DescribeStage(config)
    images = {image.image_id: image for image in read_images(run)}
    described = set(stage.catalogue().ids.to_pylist())
    wanted = [p for p in read_pairs(run, labelled=False) if p.split == SPLITS[-1] and {p.source_id, p.target_id} <= described]
    ids = {image_id for pair in wanted for image_id in (pair.source_id, pair.target_id)}
    with torch.no_grad():
        cells = {image_id: describe(stage.read_features(image_id)) for image_id in sorted(ids)}
    scored = [
        record
        for pair in wanted
        for record in score_pair(
            images[pair.source_id], images[pair.target_id], (cells[pair.source_id], cells[pair.target_id]), config.evaluate
        )
        if record.method == WINDOW
    ]
    return np.array([100 * pck(scored, alpha)[0] for alpha in ALPHAS])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adapter_gain", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[41], help="of the toys")
    parser.add_argument("--trainings", type=int, default=3, help="adapters a seed of toys")
    parser.add_argument("--steps", type=int, default=150, help="of training")
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE", help="of the run, as train.preset=3d-sc")
    chosen = parser.parse_args()
    for line in run(chosen.seeds, chosen.trainings, chosen.steps, dict(one.split("=", 1) for one in chosen.option)):
        print(json.dumps(line), flush=True)

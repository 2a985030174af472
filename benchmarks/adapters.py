"""Adapters trained on labels of three kinds of meshes, on the light profile: template meshes, inflated masks, and the toys' own meshes.

Run with ``python -m benchmarks.adapters [--images 18] [--steps 300] [--seeds 3] [--seed 7] [--meshes template inflate auto]``; a quarter of
an hour a kind of mesh on two cores, so it is left out of ``python -m benchmarks``. Four rigid categories; the template is another instance;
test toys come from another seed than the labelled ones. The seeds are those of training. One JSON line a figure.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import row
from benchmarks.ablation import mean_and_spread, pck_of, train_seeds
from benchmarks.light import RIGID, SEED
from pipelines.jobs import evaluate, label
from pipelines.jobs.demo import DEFAULTS, HELD_OUT_SEED
from pipelines.report.metrics import METRICS_FILE
from pipelines.stages.label import label_catalogue
from sc3d.config import RunConfig
from sc3d.config_file import load_config
from sc3d.datasets.toys import ToysConfig, generate_toys

BENCH = "adapters"
MESHES = {"template": "template meshes", "inflate": "inflated masks", "auto": "the toys' own meshes"}
ALPHAS = (0.1, 0.05)
_OPTIONS = {"template": ("reconstruct.template=toys",)}


def run(
    images: int = 18, steps: int = 300, seeds: int = 3, seed: int = SEED, meshes: Sequence[str] = tuple(MESHES)
) -> Iterator[dict[str, Any]]:
    """Yield mean and spread of each kind of mesh, and the zero-shot features once."""
    with tempfile.TemporaryDirectory(prefix="sc3d-adapters-") as folder:
        counts = {"trn": images, "val": 2, "test": 6}
        generate_toys(Path(folder) / "toys", ToysConfig(RIGID, counts, seed=seed, held_out_seed=seed + HELD_OUT_SEED))
        for index, mesh in enumerate(meshes):
            config = _config(Path(folder), mesh, steps, seed)
            label.run(config)
            kept = np.concatenate([table["n_kept"].to_numpy() for table in label_catalogue(config).tables(["n_kept"])])
            yield row(BENCH, f"labels a pair, {MESHES[mesh]}", float(np.mean(kept)), "labels", "higher", n=len(kept))
            methods = train_seeds(config, MESHES[mesh], seeds)
            yield from _scores(config, methods, MESHES[mesh], with_features=index == 0)


def _config(folder: Path, mesh: str, steps: int, seed: int) -> RunConfig:
    places = (f"run={folder / mesh}", f"dataset.root={folder / 'toys'}", "profile=light", f"seed={seed}")
    chosen = (f"reconstruct.mesh={mesh}", *_OPTIONS.get(mesh, ()), f"train.steps={steps}")
    return load_config(None, [*places, *chosen], DEFAULTS)


def _scores(config: RunConfig, methods: Sequence[str], name: str, with_features: bool) -> Iterator[dict[str, Any]]:
    settings = dataclasses.replace(config.evaluate, methods=("zero-shot", *methods), filter_pairs=0)
    pck = evaluate.run(dataclasses.replace(config, evaluate=settings)).read_json(METRICS_FILE)["pck"]
    for alpha in ALPHAS:
        features = pck_of(pck, "zero-shot", "all", "image", alpha)
        if with_features:
            yield row(BENCH, f"zero-shot: PCK@{alpha:.2f}, per image", features, "%", "higher")
        values = [pck_of(pck, method.partition("=")[0], "all", "image", alpha) for method in methods]
        yield from mean_and_spread(BENCH, f"adapter, {name}: PCK@{alpha:.2f}, per image", values, ("zero-shot", features))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adapters", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=18, help="labelled toys a category")
    parser.add_argument("--steps", type=int, default=300, help="of training")
    parser.add_argument("--seeds", type=int, default=3, help="of training")
    parser.add_argument("--seed", type=int, default=SEED, help="of the toys")
    parser.add_argument("--meshes", nargs="+", choices=MESHES, default=list(MESHES), metavar="MESH")
    options = parser.parse_args()
    for line in run(options.images, options.steps, options.seeds, options.seed, options.meshes):
        print(json.dumps(line), flush=True)

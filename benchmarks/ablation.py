"""What each part of the labels adds, on the demo's toys: adapters trained on labels made in other ways, as in table 3 of 3D-SC.

Run with ``python -m benchmarks.ablation [--run runs/demo] [--seeds 3]`` after ``sc3d demo``; some minutes a seed. The labels of a row
follow from the features; the seeds are those of training (first weights, order of the pairs, draws of labels, noise). It is left out of
``python -m benchmarks``. Prints a table and, with ``--json``, one line a figure.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import row
from cluster.session import RaySession
from pipelines.folder.configuration import stored_values
from pipelines.folder.manifest import read_pair_items
from pipelines.jobs import evaluate
from pipelines.report.metrics import METRICS_FILE
from pipelines.runner.progress import Progress
from pipelines.runner.run import run_graph
from pipelines.stages.adapter import train_job
from pipelines.stages.compare import CompareStage, labelled_by
from sc3d.config import RunConfig
from sc3d.config_file import parse_config
from sc3d.evaluation.labellings import LABELLINGS

ROWS = ("2d", "2d-cycle", "2d-cycle-geodesic", "3d", "3d-cycle", "3d-cycle-geodesic")
UNCAPPED = "3d-cycle-geodesic, all labels of a pair"
READOUT = "window soft-argmax"

_ALL = 100_000


def run(uri: str = "runs/demo", seeds: int = 3, rows: Sequence[str] = (*ROWS, UNCAPPED)) -> Iterator[dict[str, Any]]:
    """Train and evaluate on a copy of a finished demo, and yield mean and spread of PCK@0.10 of each row."""
    with tempfile.TemporaryDirectory(prefix="sc3d-ablation-", dir=Path(uri).resolve().parent) as folder:
        copy = Path(folder) / "run"
        shutil.copytree(uri, copy, copy_function=os.link)
        config = parse_config({**stored_values(uri), "run": str(copy)}, uri)
        methods = {name: _train(config, name, seeds) for name in rows}
        yield from _scores(config, methods)


def _train(config: RunConfig, name: str, seeds: int) -> list[str]:
    """The methods of the adapters that are trained on a row's labels, one a seed."""
    chosen = labelled_by(config, name.partition(",")[0])
    if name == UNCAPPED:
        chosen = dataclasses.replace(chosen, train=dataclasses.replace(chosen.train, labels_per_pair=_ALL))
    stage = CompareStage(chosen)
    items = read_pair_items(stage.run)
    with RaySession(config.ray) as ray, Progress() as progress:
        run_graph([stage], items, progress, ray)
    return train_seeds(chosen, name, seeds)


def train_seeds(config: RunConfig, name: str, seeds: int) -> list[str]:
    """Train one adapter a seed on the labels of a configuration; returns them as methods of ``evaluate``."""
    with RaySession(config.ray) as ray, Progress() as progress:
        ray.start()
        # Not before: Ray reads the settings of the session when it is imported.
        from training.train import train

        methods = []
        for seed in range(seeds):
            job = train_job(config)
            job = dataclasses.replace(job, seed=config.seed + seed, folder=f"{job.folder}-{seed}")
            task = progress.start(f"{name}, {seed}", config.train.steps)
            train(dataclasses.replace(job, on_step=lambda _, task=task: task.advance(1)))  # type: ignore[misc]
            task.finish()
            methods.append(f"{name.replace(',', ' ')} {seed}=adapter:{job.run.path(job.adapter_file)}")
    return methods


def _scores(config: RunConfig, methods: dict[str, list[str]]) -> Iterator[dict[str, Any]]:
    chosen = ["zero-shot", *(method for found in methods.values() for method in found)]
    settings = dataclasses.replace(config.evaluate, methods=tuple(chosen), filter_pairs=0)
    pck = evaluate.run(dataclasses.replace(config, evaluate=settings)).read_json(METRICS_FILE)["pck"]
    for subset in ("all", "geo-aware"):
        for average in ("image", "keypoint"):
            for name, found in {"zero-shot": ["zero-shot="], **methods}.items():
                labels = [method.partition("=")[0] for method in found]
                values = [pck_of(pck, label, subset, average) for label in labels]
                yield from mean_and_spread("ablation", f"{name}: PCK@0.10 of {subset} points, per {average}", values)


def mean_and_spread(
    bench: str, figure: str, values: Sequence[float], beside: tuple[str, float] | None = None
) -> Iterator[dict[str, Any]]:
    """The mean of percentages of several seeds, and their standard deviation if there are several; ``beside``: what it is compared with."""
    mean, (name, other) = float(np.mean(values)), beside or ("", 0.0)
    versus, ratio = (f"{name}: {other:.1f} %", mean / other) if other else (None, None)
    yield row(bench, figure, mean, "%", "higher", versus, ratio, len(values))
    if len(values) > 1:
        yield row(bench, f"{figure}, spread", float(np.std(values, ddof=1)), "%", "lower", n=len(values))


def pck_of(pck: Sequence[dict[str, Any]], label: str, subset: str, average: str, alpha: float = 0.1) -> float:
    """PCK in per cent of the method whose name begins so, window soft-argmax, from the metrics of a run."""
    wanted = {"subset": subset, "average": average, "alpha": alpha}
    return 100 * float(
        next(
            one["value"]
            for one in pck
            if one["method"].startswith(label)
            and one["method"].endswith(READOUT)
            and all(one[key] == value for key, value in wanted.items())
        )
    )


def as_table(rows: Sequence[dict[str, Any]]) -> str:
    """The figures as a Markdown table."""
    values = {one["figure"]: one["value"] for one in rows}
    columns = [(subset, average) for subset in ("all", "geo-aware") for average in ("image", "keypoint")]
    lines = ["| labels | " + " | ".join(f"{subset}, per {average}" for subset, average in columns) + " | published |"]
    lines.append("|---" * (len(columns) + 2) + "|")
    for name in ("zero-shot", *ROWS, UNCAPPED):
        if f"{name}: PCK@0.10 of all points, per image" not in values:
            continue
        cells = []
        for subset, average in columns:
            figure = f"{name}: PCK@0.10 of {subset} points, per {average}"
            spread = values.get(f"{figure}, spread")
            cells.append(f"{values[figure]:.1f}" + (f" +- {spread:.1f}" if spread is not None else ""))
        published = LABELLINGS[name].published if name in LABELLINGS else None
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {published or ''} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablation", description=__doc__)
    parser.add_argument("--run", default="runs/demo", help="a finished demo")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", nargs="+", choices=(*ROWS, UNCAPPED), default=[*ROWS, UNCAPPED], metavar="ROW")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = list(run(options.run, options.seeds, options.rows))
    if options.json:
        for line in found:
            print(json.dumps(line))
    else:
        print(as_table(found), file=sys.stdout)

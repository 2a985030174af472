"""Class shapes (SemAlign3D) beside the features and adapters that they compete with, on toys that none of them has seen.

Run with ``python -m benchmarks.class_shapes [--seeds 41] [--images 24] [--categories car chair] [--option KEY=VALUE] [--json]``. All is
done as ``sc3d label``, ``train``, ``compare keypoints`` and ``evaluate`` do it. Depth is that of the posed meshes of the run.

Seeds 41 to 43 are for development. **61 to 63 are held out: they may be run once, for a claim, and never to choose anything.**
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import row
from pipelines.folder.manifest import read_images
from pipelines.jobs import compare, evaluate, label, train
from pipelines.jobs.demo import DEFAULTS, HELD_OUT_SEED
from pipelines.stages.evaluate import EvaluateStage, evaluate_stages
from pipelines.stages.fit import FitStage
from pipelines.stages.represent import RepresentStage
from sc3d.class_shapes.rotations import angles_between, best_rotation
from sc3d.config import RunConfig
from sc3d.config_file import load_config
from sc3d.datasets.toys import ToysConfig, generate_toys, toy_truth
from sc3d.datasets.toys.truth import ToyTruth
from sc3d.evaluation.pck import ALL, GEO_AWARE, WINDOW, PckPair, pck
from sc3d.geometry.camera import camera_azimuth
from sc3d.pair_ids import split_pair_id
from sc3d.store import RunFolder

BENCH = "class shapes"
SEEDS = (41,)
CATEGORIES = ("aeroplane", "car", "chair", "quadruped")
METHODS = {
    "zero-shot": "zero-shot",
    "adapter": "3D-SC adapter",
    "labels-keypoints": "supervised adapter",
    "semalign3d": "class shape",
    "semalign3d-unannotated": "class shape, unannotated",
}
"""Method of evaluation -> what figures call it."""
ALPHAS = (0.10, 0.05, 0.01)
TURNS = ((0, 45), (45, 90), (90, 181))
"""Differences of viewpoint in degrees that are told apart."""
NEAR = (15, 30)


def run(
    seeds: Sequence[int] = SEEDS,
    images: int = 24,
    categories: Sequence[str] = CATEGORIES,
    options: Mapping[str, str] | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield the PCK of each method, over all seeds, by viewpoint and on look-alikes, then poses, then seconds.

    Args:
        seeds: each draws its own toys and is a run of its own; several give a spread.
        images: to learn from, a category; half as many are matched.
        options: of the run, by name.
    """
    found = []
    for seed in seeds:
        with tempfile.TemporaryDirectory(prefix="sc3d-shapes-") as folder:
            found.append(_Measured(_evaluated(Path(folder), seed, images, categories, options or {})))
    for method, name in METHODS.items():
        for subset, of in ((ALL, ""), (GEO_AWARE, ", look-alikes")):
            for alpha in ALPHAS:
                values = np.array([100 * pck(one.pairs[method], alpha, subset=subset)[0] for one in found])
                figure = f"PCK {name}{of}" + (f" at {alpha:.2f}" if alpha != ALPHAS[0] else "")
                yield row(BENCH, figure, float(values.mean()), "%", "higher", n=len(values))
                if len(values) > 1:
                    yield row(BENCH, f"{figure}, spread", float(values.std(ddof=1)), "points", "lower", n=len(values))
        for low, high in TURNS:
            chosen = [pair for one in found for pair in one.pairs[method] if low <= one.turn(pair) < high]
            yield row(BENCH, f"PCK {name}, turned {low} to {high}", 100 * pck(chosen, ALPHAS[0])[0], "%", "higher", n=len(chosen))
    for method in ("semalign3d", "semalign3d-unannotated"):
        errors = np.concatenate([one.pose_errors(method) for one in found])
        for near in NEAR:
            figure = f"pose within {near}" + (", unannotated" if method != "semalign3d" else "")
            yield row(BENCH, figure, 100 * float((errors < near).mean()), "%", "higher", n=len(errors))
    shapes, fits = (np.concatenate([one.seconds(kind) for one in found]) for kind in (RepresentStage, FitStage))
    yield row(BENCH, "seconds a category", float(shapes.mean()), "s", "lower", n=len(shapes))
    yield row(BENCH, "seconds an image", float(fits.mean()), "s", "lower", n=len(fits))


def _evaluated(folder: Path, seed: int, images: int, categories: Sequence[str], options: Mapping[str, str]) -> RunConfig:
    """A run that every method was evaluated on."""
    methods = {"evaluate.methods": json.dumps(list(METHODS))}
    config = draw_toys(folder, seed, images, categories, {**methods, **options})
    label.run(config)
    train.run(config)
    compare.run(config, "keypoints")
    evaluate.run(config)
    return config


def draw_toys(folder: Path, seed: int, images: int, categories: Sequence[str], options: Mapping[str, str]) -> RunConfig:
    """Toys of a seed, and the configuration of a run on them: ``images`` a category to learn from, half as many to match."""
    counts = {"trn": images, "val": 0, "test": images // 2}
    pairs = {"trn": 10 * images, "val": 0, "test": 60}
    toys = ToysConfig(tuple(categories), counts, pairs, seed=seed, held_out_seed=seed + HELD_OUT_SEED)
    generate_toys(folder / "toys", toys)
    places = {"run": str(folder / "run"), "dataset.root": str(folder / "toys"), "seed": str(seed)}
    work = {"evaluate.filter_pairs": "0", "evaluate.max_pairs_per_category": "60", "train.cache": str(folder / "cache")}
    return load_config(None, [f"{name}={value}" for name, value in {**places, **work, **options}.items()], DEFAULTS)


class _Measured:
    """What a finished run tells, beside the truth of its toys. ``pairs``: method -> its scores by the read-out with a window."""

    def __init__(self, config: RunConfig) -> None:
        stages = {stage.method.name: stage for stage in evaluate_stages(config)}
        self.pairs = {name: window_scores(stage) for name, stage in stages.items()}
        truths = {image.image_id: str(image.truth_path) for image in read_images(RunFolder(config.run))}
        self._truth = cache(lambda image_id: toy_truth(truths[image_id]))
        self._fits = {
            name: (stage.other(FitStage).known.read_all(), stage) for name, stage in stages.items() if stage.method.carried
        }
        self._shapes = stages["semalign3d"].other(FitStage).other(RepresentStage).known.read_all()
        self._turns = {pair.pair_id: self._turn_of(pair.pair_id) for pair in self.pairs["zero-shot"]}
        self._errors = {name: self._pose_errors(name) for name in self._fits}

    def turn(self, pair: PckPair) -> float:
        """By how many degrees the viewpoints of a pair differ."""
        return self._turns[pair.pair_id]

    def _turn_of(self, pair_id: str) -> float:
        seen = [camera_azimuth(one.pose.R, one.pose.t) for one in map(self._truth, split_pair_id(pair_id))]
        return float(abs((seen[0] - seen[1] + 180) % 360 - 180))

    def pose_errors(self, method: str) -> np.ndarray:
        """Degrees between the found and the true rotation of each image."""
        return self._errors[method]

    def _pose_errors(self, method: str) -> np.ndarray:
        fits, stage = self._fits[method]
        represent = stage.other(FitStage).other(RepresentStage)
        errors = []
        for category in sorted({fit.category for fit in fits}):
            mine = [fit for fit in fits if fit.category == category]
            truths = [self._truth(fit.image_id) for fit in mine]
            found, true = np.stack([fit.rotation for fit in mine]), np.stack([one.pose.R for one in truths])
            to_canonical = _gauge(represent, category, truths, true.transpose(0, 2, 1) @ found)
            errors.append(np.degrees(angles_between(found @ to_canonical.T, true)))
        return np.concatenate(errors)

    def seconds(self, kind: type[RepresentStage] | type[FitStage]) -> np.ndarray:
        """Seconds of each category, or of each image, of the supervised class shapes."""
        rows = self._shapes if kind is RepresentStage else self._fits["semalign3d"][0]
        return np.array([one.seconds for one in rows])


def _gauge(represent: RepresentStage, category: str, truths: Sequence[ToyTruth], turns: np.ndarray) -> np.ndarray:
    """The rotation (3, 3) from a class shape's own frame to the canonical one: by its keypoints where they are those of the toys, else the
    one of ``turns`` (n, 3, 3), from image to image, that most others are near to."""
    shape = represent.read_shape(category)
    if represent.whole.represent.landmarks == "annotated":
        return best_rotation(shape.keypoints, np.mean([one.keypoints for one in truths], axis=0)[shape.ids])
    apart = np.degrees(angles_between(turns[:, None], turns[None]))
    return np.asarray(turns[(apart < NEAR[0]).sum(axis=1).argmax()])


def window_scores(stage: EvaluateStage) -> list[PckPair]:
    """What a method was scored with by the read-out with a window."""
    return [one for score in stage.known.read_all() for one in score.predictions() if one.method.endswith(WINDOW)]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.class_shapes", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), help="of the toys; each is a run")
    parser.add_argument("--images", type=int, default=24, help="to learn from, a category")
    parser.add_argument("--categories", nargs="+", default=list(CATEGORIES), help="of the toys")
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE", help="of the run, as represent.hypotheses=8")
    parser.add_argument("--json", action="store_true", help="one JSON line a figure instead of text")
    chosen = parser.parse_args(arguments)
    options = dict(one.split("=", 1) for one in chosen.option)
    for line in run(chosen.seeds, chosen.images, chosen.categories, options):
        text = json.dumps(line) if chosen.json else f"{line['figure']:55} {line['value']:>8} {line['unit']}  n={line['n']}"
        print(text, file=sys.stdout, flush=True)


if __name__ == "__main__":
    main()

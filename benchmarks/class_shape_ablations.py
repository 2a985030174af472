"""What each part of a class shape is worth: terms of its energy, depth, hypotheses, images to learn from, the features' own say.

Run with ``python -m benchmarks.class_shape_ablations [--seeds 41] [--images 24] [--categories car chair] [--json]``, on the toys of
:mod:`benchmarks.class_shapes`; each line is the PCK@0.10 of ``semalign3d``. A term is switched off in the fits alone: class shapes are the
same. The depth of meshes is true but for the toys' disturbance of it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import row
from benchmarks.class_shapes import CATEGORIES, SEEDS, draw_toys, window_scores
from pipelines.folder.manifest import read_pairs
from pipelines.jobs import evaluate, label
from pipelines.stages.evaluate import EvaluateStage, ScoreActor, evaluate_stages
from pipelines.stages.fit import FitStage
from pipelines.stages.methods import ImageCells
from pipelines.stages.represent import RepresentStage
from sc3d.class_shapes.alignment import AlignmentSchedule, align
from sc3d.class_shapes.carry import aligned_image
from sc3d.class_shapes.energy import EnergyWeights
from sc3d.class_shapes.observation import unit_rows
from sc3d.config import RunConfig
from sc3d.config_file import load_config, to_values
from sc3d.evaluation.pck import WINDOW, PckPair, pck
from sc3d.store import RunFolder

BENCH = "class shape ablations"
ALPHA = 0.10
METHOD = "semalign3d"
VARIANTS: Mapping[str, Mapping[str, str]] = {
    "as it is": {},
    "class shape alone": {"evaluate.direct": "false"},
    "without the poses of meshes": {"represent.poses": "false"},
    "monocular-like depth": {"represent.depth": "toys"},
    **{f"{count} hypotheses": {"represent.hypotheses": str(count)} for count in (4, 8, 32, 64)},
    **{f"{count} images": {"represent.images": str(count)} for count in (5, 10)},
}
"""What lines call a variant -> its options; as it is: 16 hypotheses, meshes' depth, all images."""
TERMS = tuple(name for name in asdict(EnergyWeights()) if name != "pose")


def run(seeds: Sequence[int] = SEEDS, images: int = 24, categories: Sequence[str] = CATEGORIES) -> Iterator[dict[str, Any]]:
    """Yield the PCK of the features, of each variant, and without each term, as the mean over seeds."""
    found: dict[str, list[float]] = {}
    for seed in seeds:
        with tempfile.TemporaryDirectory(prefix="sc3d-ablations-") as folder:
            config = draw_toys(Path(folder), seed, images, categories, {"evaluate.methods": json.dumps(["zero-shot", METHOD])})
            label.run(config, until="describe")
            for name, scores in _scores(config):
                found.setdefault(name, []).append(100 * pck(scores, ALPHA)[0])
    for name, values in found.items():
        yield row(BENCH, name, float(np.mean(values)), "%", "higher", n=len(values))


def _scores(config: RunConfig) -> Iterator[tuple[str, list[PckPair]]]:
    for name, options in VARIANTS.items():
        other = load_config(None, [f"{option}={value}" for option, value in options.items()], to_values(config))
        evaluate.run(other)
        stages = {stage.method.name: stage for stage in evaluate_stages(other)}
        if not options:
            yield "features alone", window_scores(stages["zero-shot"])
        yield name, window_scores(stages[METHOD])
    stage = next(stage for stage in evaluate_stages(config) if stage.method.name == METHOD)
    for term in TERMS:
        yield f"without {term}", _without(stage, term)


def _without(stage: EvaluateStage, term: str) -> list[PckPair]:
    """The scores of fits whose energy lacks a term."""
    fits = stage.other(FitStage)
    schedule = AlignmentSchedule(hypotheses=stage.whole.represent.hypotheses, weights=replace(EnergyWeights(), **{term: 0.0}))
    pairs = [pair for pair in read_pairs(RunFolder(stage.whole.run), labelled=False) if pair.pair_id in stage.known]
    ids = sorted({image_id for pair in pairs for image_id in (pair.source_id, pair.target_id)})
    fits.read_ahead(ids)
    shape_of, actor = cache(fits.other(RepresentStage).read_shape), ScoreActor(stage.whole)

    def fitted(image_id: str, category: str, cells: ImageCells) -> ImageCells:
        shape, descriptors = shape_of(category), cells.descriptors
        alignment = align(shape, fits.observed.get(image_id).observation, schedule, fits.whole.seed)
        return cells._replace(aligned=aligned_image(shape, alignment, descriptors.letterbox, unit_rows(descriptors.flat())))

    found: dict[str, ImageCells] = {}
    scores: list[PckPair] = []
    for pair in pairs:
        whole = {"pair_id": pair.pair_id, "category": pair.category, "split": pair.split, **stage.gather(pair)}
        for image_id, side in ((pair.source_id, "source"), (pair.target_id, "target")):
            if image_id not in found:
                found[image_id] = fitted(image_id, pair.category, whole[side])
            whole[side] = found[image_id]
        scores += [one for one in actor.process(whole)["record"].predictions() if one.method.endswith(WINDOW)]
    return scores


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.class_shape_ablations", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), help="of the toys; each is a run")
    parser.add_argument("--images", type=int, default=24, help="to learn from, a category")
    parser.add_argument("--categories", nargs="+", default=list(CATEGORIES), help="of the toys")
    parser.add_argument("--json", action="store_true", help="one JSON line a figure instead of text")
    chosen = parser.parse_args(arguments)
    for line in run(chosen.seeds, chosen.images, chosen.categories):
        print(
            json.dumps(line) if chosen.json else f"{line['figure']:30} {line['value']:>8} {line['unit']}",
            file=sys.stdout,
            flush=True,
        )


if __name__ == "__main__":
    main()

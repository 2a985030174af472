"""The light profile on toys: PCK of its features; templates: which way they face, wrong labels beside inflated masks, foreign ones refused.

Run with ``python -m benchmarks.light [--images 24] [--pairs 36] [--seed 7] [--categories ...] [--foreign 5]``; one JSON line a figure. Toys
are drawn from seeds that nothing was developed on; each category's template is another instance, with its pose found automatically.
A label is wrong as in the filter table: PCK@0.1 at annotated points. In one process, without Ray.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from actors.base import Row
from actors.light.frames import frame_describer
from actors.light.network import Lite0
from benchmarks import row
from benchmarks.light_toys import (
    BOX,
    Collection,
    Counts,
    Toys,
    features_of,
    first_with,
    flat_features,
    image_actors,
    is_sure,
    timed,
)
from pipelines.jobs.templates import framed_photos
from pipelines.stages.reconstruct import image_row
from sc3d.config import RunConfig
from sc3d.datasets.toys import CATEGORIES
from sc3d.datasets.toys.template import toy_template
from sc3d.evaluation.filter_quality import ALPHA
from sc3d.evaluation.methods import METHODS, weights_of
from sc3d.evaluation.pck import box_size, common_keypoints
from sc3d.evaluation.readout import CellDescriptors, cell_to_square, guided, window_soft_argmax
from sc3d.geometry.camera import camera_azimuth
from sc3d.geometry.templates.choose import choose_template
from sc3d.matching.template_prior import PosedTemplate
from sc3d.records import Pair

BENCH = "light"
RIGID = ("aeroplane", "bus", "car", "chair")
# The thresholds, the weights and the options were chosen on toys of the seed 901.
SEED = 7
RIGHT_DEGREES = 30.0


def run(
    images: int = 24,
    pairs: int = 36,
    seed: int = SEED,
    categories: Sequence[str] = CATEGORIES,
    foreign: int = 5,
) -> Iterator[dict[str, Any]]:
    """Yield one row a figure; the four rigid categories together, and every category by itself."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        toys = Toys(Path(folder), categories, images, pairs, seed)
        yield from _zero_shot(toys)
        yield from _labels(toys)
        yield from _foreign(toys, foreign)


def _zero_shot(toys: Toys) -> Iterator[dict[str, Any]]:
    """PCK@0.10 of the 2D features as they are, window soft-argmax, the mean over pairs: of both profiles, and of copying the position."""
    found: dict[str, float] = {}
    for profile in ("offline", "light"):
        config = toys.config("inflate", f"profile={profile}")
        reconstruct, describe = image_actors(config)
        at, shape = first_with(reconstruct, "vertices"), first_with(describe, "shape")
        rows, seconds = timed([*reconstruct[:at], *describe[1:shape]], [image_row(image) for image in toys.images.values()])
        weights = {"sd": config.match.alpha, "dino": config.match.beta}
        features = {one["image_id"]: flat_features(one) for one in rows}
        for name, chosen in {profile: weights, "copy the position": {"position": 1.0}}.items():
            ready = {image_id: CellDescriptors.of_features(one, chosen) for image_id, one in features.items()}
            found[name] = 100 * float(np.mean([_share_found(toys, pair, ready) for pair in toys.pairs]))
        yield row(BENCH, f"seconds a photo, mask and 2D features, {profile}", seconds, "s", "lower", n=len(rows))
    for name, value in found.items():
        ratio = value / found["offline"] if name == "light" else None
        versus = f"offline: {found['offline']:.1f} %" if ratio else None
        yield row(BENCH, f"PCK zero-shot {name}, toys", value, "%", "higher", versus, ratio, len(toys.pairs))


Guide = Callable[[Pair, np.ndarray, np.ndarray], np.ndarray | None]
"""Of a pair, cells of the source and their similarities: these with a prior, or ``None`` without one."""


def _share_found(toys: Toys, pair: Pair, ready: Mapping[str, CellDescriptors], guide: Guide | None = None) -> float:
    """The share of a pair's common keypoints that are found to within a tenth of the target's box."""
    source, target = ready[pair.source_id], ready[pair.target_id]
    image = toys.images[pair.target_id]
    _, source_xy, target_xy = common_keypoints(toys.images[pair.source_id], image)
    source_cells = source.letterbox.cells_of(source_xy)
    similarity = source.similarity(source_cells, target)
    found = guide(pair, source_cells, similarity) if guide is not None else None
    similarity = similarity if found is None else found
    cells = window_soft_argmax(similarity, target.letterbox.side)
    xy = target.letterbox.to_image(cell_to_square(cells, target.letterbox))
    assert image.bbox is not None
    return float((np.linalg.norm(xy - target_xy, axis=1) < ALPHA * box_size(image.bbox)).mean())


def template_shares(toys: Toys, category: str, rows: Sequence[Row], config: RunConfig) -> dict[str, list[float]]:
    """What is found of each annotated pair of a category by the features, by the template, and by both, as ``evaluate`` does it: photos
    with unsure poses are matched without the prior. With all poses, too."""
    features = {one["image_id"]: features_of(one) for one in rows}
    sure = {one["image_id"] for one in rows if is_sure(one)}
    every = {image_id: PosedTemplate.of_features(one) for image_id, one in features.items()}
    some = {image_id: template if image_id in sure else None for image_id, template in every.items()}
    shares: dict[str, list[float]] = {}
    for name in ("zero-shot", "light-template", "template"):
        method = METHODS[name]
        ready = {i: CellDescriptors.of_features(one, weights_of(method, config)) for i, one in features.items()}
        for kind, posed in {"": some, ", all photos": every}.items():
            guide = partial(_guided, posed, config.evaluate.template_prior, method.prior == "alone") if method.prior else None
            pairs = [pair for pair in toys.pairs_of([category]) if pair.source_id in ready and pair.target_id in ready]
            shares[name + kind] = [_share_found(toys, pair, ready, guide) for pair in pairs]
    return shares


def _guided(
    posed: Mapping[str, PosedTemplate | None],
    weight: float,
    by_itself: bool,
    pair: Pair,
    cells: np.ndarray,
    similarity: np.ndarray,
) -> np.ndarray | None:
    return guided(similarity, cells, (posed[pair.source_id], posed[pair.target_id]), weight, by_itself)


def _template_pck(shares: Mapping[str, Mapping[str, list[float]]], prefix: str = "") -> Iterator[dict[str, Any]]:
    """PCK@0.10 with a template's poses as a prior, of :func:`template_shares` of some categories."""

    def mean(name: str) -> float:
        return 100 * float(np.mean([share for one in shares.values() for share in one[name]]))

    n = sum(len(one["zero-shot"]) for one in shares.values())
    if not n:
        return
    alone = mean("zero-shot")
    yield row(BENCH, f"{prefix}PCK zero-shot light, rigid toys", alone, "%", "higher", n=n)
    for kind in ("", ", all photos"):
        for name, figure in {"template": "PCK template alone", "light-template": "PCK light-template"}.items():
            value = mean(name + kind)
            versus, ratio = f"zero-shot: {alone:.1f} %", value / alone if alone else None
            yield row(BENCH, f"{prefix}{figure}{kind}, toys", value, "%", "higher", versus, ratio, n)


def _labels(toys: Toys) -> Iterator[dict[str, Any]]:
    gaps: dict[str, np.ndarray] = {}
    margins: dict[str, np.ndarray] = {}
    totals: dict[tuple[str, str, str], Counts] = {}
    seconds: list[tuple[float, float]] = []
    shares: dict[str, dict[str, list[float]]] = {}
    posed, inflated = toys.config("template"), toys.config("inflate")
    prior = toys.config("template", f"match.template_prior={posed.evaluate.template_prior}")
    for category in toys.categories:
        photos = Collection(toys, category)
        rows, after, posing = photos.with_meshes(posed, toy_template(category))
        seconds.append((photos.seconds + after, posing))
        if category in RIGID:
            shares[category] = template_shares(toys, category, rows, posed)
        found = np.array([camera_azimuth(one["rotation"], one["translation"]) for one in rows])
        truth = np.array([toys.azimuth(one["image_id"]) for one in rows])
        gaps[category] = np.abs((found - truth + 180) % 360 - 180)
        margins[category] = np.array([one["confidence"] for one in rows])
        ready = photos.described(posed, rows)
        sure = {one["image_id"] for one in rows if is_sure(one)}
        kinds = {
            "template": {image_id: image for image_id, image in ready.items() if image_id in sure},
            "template, all photos": ready,
            "template with the prior": photos.described(prior, [one for one in rows if one["image_id"] in sure]),
            "inflated": photos.described(inflated, photos.with_meshes(inflated)[0]),
        }
        for kind, images in kinds.items():
            for name, counts in photos.counts(images, inflated if kind == "inflated" else posed).items():
                totals[category, kind, name] = counts
        yield from _yaw([category], gaps, margins, f"{category}: ")
        yield from _wrong([category], totals, f"{category}: ")
    rigid = [category for category in gaps if category in RIGID]
    yield from _yaw(rigid, gaps, margins)
    yield from _wrong(rigid, totals)
    yield from _template_pck(shares)
    n = sum(len(one) for one in gaps.values())
    yield row(BENCH, "seconds a photo, one core", float(np.mean([both for both, _ in seconds])), "s", "lower", n=n)
    yield row(BENCH, "seconds a photo, one core, pose alone", float(np.mean([one for _, one in seconds])), "s", "lower", n=n)


def _yaw(
    categories: Sequence[str], gaps: Mapping[str, np.ndarray], margins: Mapping[str, np.ndarray], prefix: str = ""
) -> Iterator[dict[str, Any]]:
    if not categories:
        return
    right = np.concatenate([gaps[category] <= RIGHT_DEGREES for category in categories])
    surest = np.argsort(-np.concatenate([margins[category] for category in categories]), kind="stable")
    half = right[surest[: max(len(right) // 2, 1)]]
    yield row(BENCH, f"{prefix}yaw within 30, templates", 100 * right.mean(), "%", "higher", n=len(right))
    yield row(BENCH, f"{prefix}yaw within 30, templates, the surer half", 100 * half.mean(), "%", "higher", n=len(half))


def _wrong(categories: Sequence[str], totals: Mapping[tuple[str, str, str], Counts], prefix: str = "") -> Iterator[dict[str, Any]]:
    def total(kind: str, name: str) -> Counts:
        return sum((totals.get((category, kind, name), Counts()) for category in categories), Counts())

    asked = [("template", tau) for tau in ("0.05", "0.1")] + [("template, all photos", tau) for tau in ("0.05", "0.1")]
    asked += [
        ("template with the prior", "0.05"),
        ("inflated", "0.05"),
        ("inflated", "none"),
        ("inflated", "cycle"),
        ("inflated", BOX),
    ]
    inflated = total("inflated", "0.05")
    for kind, name in asked:
        found = total(kind, name)
        if not found.pairs:
            continue
        figure = f"{kind}, {name}" if name[0] == "0" else {"none": "no filter", "cycle": "cycle", BOX: "position in the box"}[name]
        if found.judged:
            versus = None if kind == "inflated" else f"inflated, 0.05: {inflated.share:.1f} %"
            ratio = inflated.share / found.share if versus and found.wrong and inflated.judged else None
            yield row(BENCH, f"{prefix}wrong labels, {figure}", found.share, "%", "lower", versus, ratio, found.judged)
        yield row(BENCH, f"{prefix}labels a pair, {figure}", found.kept / found.pairs, "labels", "higher", n=found.pairs)


def _foreign(toys: Toys, most: int) -> Iterator[dict[str, Any]]:
    """Templates of other categories: how many are refused, of all and of those whose labels are no better than without a filter."""
    describe = frame_describer(Lite0.from_package())
    config = toys.config("template")
    least = config.reconstruct.min_template_fit
    rigid = [category for category in toys.categories if category in RIGID]
    own: list[bool] = []
    # Refused, and harmful.
    others: list[tuple[bool, bool]] = []
    for category in rigid:
        photos, framed = Collection(toys, category), framed_photos(config, toys.of(category), describe)
        template = toy_template(category)
        assert template is not None
        own.append(choose_template([template], framed, describe, least).fits)
        for other in _spread([name for name in CATEGORIES if name != category], most):
            foreign = toy_template(other)
            assert foreign is not None
            fits = choose_template([foreign], framed, describe, least).fits
            ready = photos.described(config, [one for one in photos.with_meshes(config, foreign)[0] if is_sure(one)])
            found = photos.counts(ready, config)
            harmful = bool(found) and found["0.05"].share >= found["none"].share
            others.append((not fits, harmful))
    if others:
        refused = [one for one, _ in others]
        yield row(BENCH, "foreign templates refused", 100 * float(np.mean(refused)), "%", "higher", n=len(others))
        taken = sum(harmful and not refused for refused, harmful in others)
        figure = "foreign templates that are taken and make labels no better than without a filter"
        yield row(BENCH, figure, taken, "templates", "lower", n=len(others))
    if harmful_refused := [one for one, harmful in others if harmful]:
        figure = "foreign templates refused, of those with labels no better than without a filter"
        yield row(BENCH, figure, 100 * float(np.mean(harmful_refused)), "%", "higher", n=len(harmful_refused))
    if own:
        yield row(BENCH, "templates of the category accepted", 100 * float(np.mean(own)), "%", "higher", n=len(own))


def _spread(names: Sequence[str], most: int) -> list[str]:
    """At most so many names, from all over the list."""
    return [names[int(index)] for index in np.linspace(0, len(names) - 1, min(most, len(names)))]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.light", description="Template meshes on toys.")
    parser.add_argument("--images", type=int, default=24, help="toys a category")
    parser.add_argument("--pairs", type=int, default=36, help="annotated pairs a category")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--categories", nargs="+", choices=CATEGORIES, default=CATEGORIES, metavar="CATEGORY")
    parser.add_argument("--foreign", type=int, default=5, help="foreign templates a rigid category")
    options = parser.parse_args()
    for line in run(options.images, options.pairs, options.seed, options.categories, options.foreign):
        print(json.dumps(line), flush=True)

"""Labels, transfers and orientation against dense truth, on toys of mixed build and pose and on sample meshes; and what training adds.

Run with ``python -m benchmarks.truth [--seeds 41 42 43] [--images 6] [--targets 3] [--profile light] [--mesh true] [--option KEY=VALUE]
[--meshes FOLDER] [--parts labels] [--json]``. Every label that a run keeps is judged, not only those at keypoints
(:mod:`sc3d.datasets.toys.judge`).

Seeds 41 to 43 are for development. **51 to 53 and, of cycles, 61 to 63 are held out: they may be run once, for a claim, and never to choose
anything.**
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from actors.offline.disturb import disturb, seeded_generator
from benchmarks import adapter_gain, cycles, orientation, row
from benchmarks.labelled_toys import LabelledToys, label_toys
from benchmarks.meshes import SAMPLES
from benchmarks.placed_samples import FAMILIES, placed_samples
from pipelines.stages.label import label_catalogue
from sc3d.datasets.toys.catalogue import MIXED
from sc3d.datasets.toys.judge import judge_labels, share_over_pairs
from sc3d.datasets.toys.meshing import mesh_toy
from sc3d.datasets.toys.places import PlacedMesh, places_of
from sc3d.geometry.camera import Pose
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.registration.reference import choose_references
from sc3d.geometry.registration.registrable import Registrable, registrable
from sc3d.geometry.registration.warp import places, warp
from sc3d.geometry.shape_descriptors import shape_descriptors
from sc3d.matching.search import VertexIndex

BENCH, ALL = "truth", "mixed toys"
SEEDS = (41,)
NEAR = 0.05
PARTS = ("transfers", "orientation", "labels", "cycles", "adapter")

MeshTransfer = Callable[[Mesh, Mesh], np.ndarray]
"""Source and target mesh -> for each vertex of the source (V,) the corresponding vertex of the target."""


def nearest_descriptor(source: Mesh, target: Mesh) -> np.ndarray:
    """The transfer ``nearest`` at all vertices: the nearest spectral descriptor by cosine."""
    return _index(target).nearest(_index(source).descriptors().numpy())


@lru_cache(maxsize=64)
def _index(mesh: Mesh) -> VertexIndex:
    return VertexIndex(shape_descriptors(mesh))


def registrations(meshes: Sequence[PlacedMesh]) -> list[MeshTransfer]:
    """The transfer ``registration`` of a category at all vertices, once for each of its references."""
    named = {f"{number:04}": one.mesh for number, one in enumerate(meshes)}
    prepared = {mesh: registrable(mesh) for mesh in named.values()}

    def through(reference: Registrable) -> MeshTransfer:
        found = {mesh: places(one, warp(one, reference)) for mesh, one in prepared.items()}
        trees = {mesh: cKDTree(values) for mesh, values in found.items()}
        return lambda source, target: np.asarray(trees[target].query(found[source])[1])

    return [through(prepared[named[name]]) for name in choose_references(named)]


def transfer_within(meshes: Sequence[PlacedMesh], transfer: MeshTransfer, near: float = NEAR) -> list[tuple[int, int]]:
    """For each ordered pair of meshes, how many vertices have a partner on the target, and how many of them the transfer takes to within
    ``near`` of it, in diagonals of the target."""
    counts = []
    for source, target in permutations(meshes, 2):
        partner = target.find(source.places)
        known = np.isfinite(partner).all(axis=1)
        found = target.mesh.vertices[transfer(source.mesh, target.mesh)]
        error = np.linalg.norm(found - partner, axis=1)[known] / target.mesh.diagonal
        counts.append((int(known.sum()), int((error < near).sum())))
    return counts


def mixed_meshes(category: str, seed: int, count: int) -> list[PlacedMesh]:
    """So many mixed toys of a category, their surfaces disturbed as the offline profile does it, in the right pose."""
    meshes = []
    for index in range(count):
        toy = MIXED[category].build(np.random.default_rng([seed, zlib.crc32(category.encode()), index]))
        made = mesh_toy(toy)
        places = places_of(toy, made.own(made.vertices))
        assert places is not None
        pose = Pose(np.eye(3), np.array([0.0, 0.0, 3.0]), 1.0)
        rough = disturb(made.vertices, pose, 0.0, seeded_generator(seed, f"{category}/{index}")).vertices
        meshes.append(PlacedMesh(Mesh(rough, made.faces), places))
    return meshes


@dataclass(frozen=True)
class PairCounts:
    """Labels of a pair: ``kept``; ``judged``, those of which the truth is known; of these, wrong at 0.10, at 0.05, and by part."""

    category: str
    kept: int
    judged: int
    wrong: int
    wrong_005: int
    wrong_part: int


def label_counts(toys: LabelledToys) -> list[PairCounts]:
    """Judge the labels that a run keeps."""
    counts = []
    for pair in label_catalogue(toys.config).read_all():
        judged = judge_labels(toys.toy(pair.source_id), toys.toy(pair.target_id), pair.source_xy, pair.target_xy)
        wrong = (judged.wrong(0.10), judged.wrong(0.05), judged.wrong_part)
        counts.append(PairCounts(pair.category, len(judged.known), int(judged.known.sum()), *wrong))
    return counts


def run(
    seeds: Sequence[int] = SEEDS,
    images: int = 6,
    targets: int = 3,
    shapes: int = 4,
    options: Mapping[str, str] | None = None,
    meshes: str | Path = SAMPLES,
    parts: Sequence[str] = PARTS,
) -> Iterator[dict[str, Any]]:
    """Yield one row a figure: of transfers alone, of orientation, of the labels of a run, first all categories and seeds, then each by
    itself, of what cycles say of them, and of adapters.

    Args:
        seeds: each draws its own toys.
        images, targets: toys a category, and targets a source, of the run.
        shapes: toys a category whose meshes the transfer takes to each other.
        options: of the run, by name; empty: the light profile.
        meshes: folder of sample meshes; left out where it is absent.
        parts: those of :data:`PARTS` that are measured.
    """
    if "transfers" in parts:
        yield from _transfers(seeds, shapes)
        yield from _samples(Path(meshes))
    if "orientation" in parts:
        yield from orientation.run(seeds)
    if {"labels", "cycles"} & set(parts):
        yield from _of_runs(seeds, images, {"pairs.targets": str(targets), **(options or {})}, parts)
    if "adapter" in parts:
        yield from adapter_gain.run(seeds, options=options)


def _of_runs(seeds: Sequence[int], images: int, options: Mapping[str, str], parts: Sequence[str]) -> Iterator[dict[str, Any]]:
    found: dict[int, list[PairCounts]] = {}
    compared: list[cycles.Compared] = []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            toys = label_toys(Path(folder), seed, images, options)
            if "labels" in parts:
                found[seed] = label_counts(toys)
            if "cycles" in parts:
                compared += cycles.compare(toys)
    yield from _labels_of_runs(found)
    yield from cycles.figures(compared)


def _labels_of_runs(found: Mapping[int, Sequence[PairCounts]]) -> Iterator[dict[str, Any]]:
    pairs = [one for counts in found.values() for one in counts]
    yield from _labels(ALL, pairs)
    for category in MIXED:
        yield from _labels(f"{ALL}, {category}", [one for one in pairs if one.category == category])
    if len(found) > 1:
        for seed, counts in found.items():
            yield from _labels(f"{ALL}, seed {seed}", counts)


def _transfers(seeds: Sequence[int], shapes: int) -> Iterator[dict[str, Any]]:
    counts = {category: _counts([mixed_meshes(category, seed, shapes) for seed in seeds]) for category in MIXED}
    yield from _within(
        ALL, [one for ours, _ in counts.values() for one in ours], [one for _, plain in counts.values() for one in plain]
    )
    for category, (ours, plain) in counts.items():
        yield from _within(f"{ALL}, {category}", ours, plain)


def _samples(folder: Path) -> Iterator[dict[str, Any]]:
    if not folder.is_dir():
        print(f"no sample meshes: {folder} is not there", file=sys.stderr)
    for family in FAMILIES:
        if meshes := placed_samples(folder, family):
            yield from _within(f"sample {family}", *_counts([meshes]))


def _counts(groups: Sequence[Sequence[PlacedMesh]]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """What registrations and what the nearest descriptors bring to the right place, of groups of meshes, pair by pair."""
    ours = [one for meshes in groups for transfer in registrations(meshes) for one in transfer_within(meshes, transfer)]
    return ours, [one for meshes in groups for one in transfer_within(meshes, nearest_descriptor)]


def _within(name: str, counts: Sequence[tuple[int, int]], plain: Sequence[tuple[int, int]]) -> Iterator[dict[str, Any]]:
    """The mean over the references, and beside it the nearest descriptors."""
    known, near = zip(*counts, strict=True)
    if not sum(known):
        return
    yield from _spread(f"transfer within {NEAR:g}, {name}", share_over_pairs(near, known), "higher", sum(known))
    nearest = 100 * sum(near for _, near in plain) / sum(known for known, _ in plain)
    yield row(
        BENCH, f"transfer within {NEAR:g}, {name}, nearest descriptor", nearest, "%", "higher", n=sum(known for known, _ in plain)
    )


def _labels(name: str, pairs: Sequence[PairCounts]) -> Iterator[dict[str, Any]]:
    if not pairs:
        return
    judged = [one.judged for one in pairs]
    yield row(BENCH, f"labels a pair, {name}", float(np.mean([one.kept for one in pairs])), "labels", "higher", n=len(pairs))
    if not sum(judged):
        return
    known = 100 * sum(judged) / sum(one.kept for one in pairs)
    yield row(BENCH, f"labels with a known truth, {name}", known, "%", "higher", n=sum(one.kept for one in pairs))
    yield from _spread(f"wrong labels, {name}", share_over_pairs([one.wrong for one in pairs], judged), "lower", sum(judged))
    yield from _spread(
        f"wrong labels, {name}, 0.05", share_over_pairs([one.wrong_005 for one in pairs], judged), "lower", sum(judged)
    )
    yield from _spread(f"wrong part, {name}", share_over_pairs([one.wrong_part for one in pairs], judged), "lower", sum(judged))


def _spread(figure: str, share: tuple[float, float, float], better: str, n: int) -> Iterator[dict[str, Any]]:
    """The figure, and its 95 % interval over pairs."""
    for name, value in zip(("", ", low end of 95 % over pairs", ", high end of 95 % over pairs"), share, strict=True):
        yield row(BENCH, f"{figure}{name}", value, "%", better, n=n)


def options_of(profile: str, mesh: str, given: Sequence[str]) -> dict[str, str]:
    """The run's options from those of the command line."""
    meshes: dict[str, dict[str, str]] = {"true": {}, "template": {"reconstruct.mesh": "template", "reconstruct.template": "toys"}}
    return {"profile": profile, **meshes[mesh], **dict(one.split("=", 1) for one in given)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.truth", description="Labels and transfers against dense truth.")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="of the toys; 51 to 53 are held out")
    parser.add_argument("--images", type=int, default=6, help="toys a category that are labelled")
    parser.add_argument("--targets", type=int, default=3, help="targets a source")
    parser.add_argument("--shapes", type=int, default=4, help="toys a category whose meshes are taken to each other")
    parser.add_argument("--profile", choices=("light", "offline"), default="light")
    parser.add_argument(
        "--mesh", choices=("true", "template"), default="true", help="the toys' own meshes, disturbed, or templates"
    )
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE", help="of the run, as match.transfer=nearest")
    parser.add_argument("--meshes", default=SAMPLES, help="folder of sample meshes")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what is measured; all by default")
    parser.add_argument("--json", action="store_true", help="accepted for the sake of python -m benchmarks; lines are always JSON")
    chosen = parser.parse_args()
    wanted = options_of(chosen.profile, chosen.mesh, chosen.option)
    for line in run(chosen.seeds, chosen.images, chosen.targets, chosen.shapes, wanted, chosen.meshes, chosen.parts):
        print(json.dumps(line), flush=True)

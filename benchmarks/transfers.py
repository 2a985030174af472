"""Predictions across meshes: wrong labels at equal kept labels on held-out toys, and time a pair.

Run with ``python -m benchmarks.transfers [--run FOLDER]``; one JSON line a figure. Without a run folder, small toys of all categories are
generated and described first, in this process. Every transfer keeps, in each category, as many labels as the nearest descriptor does at
the default thresholds: its own geodesic threshold is set for that. FPR is the share of wrong ones (PCK@0.1) among the annotated keypoints
that are kept; how many those are is printed with it, since a few keypoints decide a category.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from benchmarks import row
from pipelines.folder.configuration import stored_values
from pipelines.folder.images import ImageManifest
from pipelines.folder.manifest import read_pairs
from pipelines.jobs import label
from pipelines.stages.describe import DescribeStage
from pipelines.stages.pairs import PreparedImages
from pipelines.stages.verifying import described_images
from sc3d.config import LabelConfig, RunConfig, TransferName
from sc3d.config_file import parse_config
from sc3d.datasets.toys import ToysConfig, generate_toys
from sc3d.errors import InputError
from sc3d.evaluation.filter_quality import judge
from sc3d.matching.candidates import find_candidates
from sc3d.matching.described import Described
from sc3d.matching.explain import explain_pair
from sc3d.matching.filters import keep_cycle
from sc3d.matching.transfer import Transfer, transfer_of
from sc3d.matching.verify import verify_matches
from sc3d.records import ImageRecord, Pair
from sc3d.store import RunFolder

IMAGES = {"trn": 6, "val": 0, "test": 6}
"""Toys of each category; the ``trn`` ones only give the orientation's consensus something to compare with."""
CACHE_MB = 1024
TRANSFERS: tuple[TransferName, ...] = get_args(TransferName)
THRESHOLDS = LabelConfig()
BENCH, ALL = "transfers", "all categories"


@dataclass(frozen=True)
class Quality:
    """Number of ``kept`` candidates at the threshold ``tau``; of the ``judged`` keypoints among them, ``wrong`` ones."""

    tau: float
    kept: int
    judged: int
    wrong: int

    @property
    def fpr(self) -> float:
        """Share of wrong keypoints in per cent; NaN if none was judged."""
        return 100 * self.wrong / self.judged if self.judged else float("nan")


@dataclass(frozen=True)
class Outcome:
    """The candidates of some pairs under one transfer.

    ``errors`` (N,) geodesic errors, ``inf`` where the cycle already rejects; ``judged`` (J,) errors of those at annotated keypoints and
    ``correct`` (J,) whether they are right; ``seconds`` (P,) that verifying all candidates of each pair took.
    """

    errors: np.ndarray
    judged: np.ndarray
    correct: np.ndarray
    seconds: np.ndarray

    def quality(self, tau: float) -> Quality:
        """What a threshold on the geodesic error keeps."""
        kept = self.judged <= tau
        return Quality(tau, int((self.errors <= tau).sum()), int(kept.sum()), int((kept & ~self.correct).sum()))

    def keeping(self, count: int) -> Quality:
        """The quality at the threshold that keeps ``count`` candidates: more where several have the same error, fewer if there are not
        so many within the geodesic balls."""
        finite = np.sort(self.errors[np.isfinite(self.errors)])
        return self.quality(float(finite[min(count, len(finite)) - 1]) if count and len(finite) else -1.0)


def join(outcomes: Iterable[Outcome]) -> Outcome:
    """The candidates of all ``outcomes`` together."""
    parts = list(outcomes)
    return Outcome(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("errors", "judged", "correct", "seconds"))
    )


def make_run(folder: Path) -> RunConfig:
    """Describe small toys of all categories in a run folder of their own."""
    generate_toys(folder / "toys", ToysConfig(images=IMAGES))
    values = {
        "run": str(folder / "run"),
        "match": {"transfer": "registration"},
        "dataset": {"kind": "toys", "root": str(folder / "toys")},
    }
    config = parse_config(values)
    label.run(config, until=DescribeStage.name)
    return config


def held_out_pairs(config: RunConfig) -> dict[str, list[Pair]]:
    """The annotated test pairs of a run whose images are described, by category.

    Raises:
        InputError: there are none.
    """
    described = DescribeStage(config).catalogue()
    pairs: dict[str, list[Pair]] = {}
    for pair in sorted(read_pairs(RunFolder(config.run), labelled=False), key=lambda p: p.pair_id):
        if pair.split == "test" and pair.source_id in described and pair.target_id in described:
            pairs.setdefault(pair.category, []).append(pair)
    if not pairs:
        raise InputError(f"{config.run} has no described test pairs with keypoints; make them with: sc3d demo --run {config.run}")
    return pairs


def compare(config: RunConfig) -> Iterator[dict[str, Any]]:
    """Judge every transfer on the held-out pairs of a run, and yield one row a figure."""
    pairs = held_out_pairs(config)
    # With all that any transfer needs.
    match = dataclasses.replace(config.match, transfer="registration")
    config = dataclasses.replace(config, match=match)
    images = described_images(DescribeStage(config), match, CACHE_MB)
    yield from _preparing(images, sorted({i for members in pairs.values() for p in members for i in (p.source_id, p.target_id)}))
    records = ImageManifest(RunFolder(config.run))
    outcomes: dict[str, dict[str, Outcome]] = {}
    for name in TRANSFERS:
        transfer = transfer_of(name)
        outcomes[name] = {c: join(judge_pair(p, images, records, transfer) for p in members) for c, members in pairs.items()}
        outcomes[name][ALL] = join(list(outcomes[name].values()))
    for category in (*pairs, ALL):
        yield from _qualities(category, {name: outcomes[name][category] for name in TRANSFERS})
    plain = float(outcomes["nearest"][ALL].seconds.mean())
    for transfer_name, found in outcomes.items():
        mean, n = float(found[ALL].seconds.mean()), len(found[ALL].seconds)
        versus = None if transfer_name == "nearest" else f"nearest: {1e3 * plain:.1f} ms"
        ratio = plain / mean if versus else None
        yield row(BENCH, f"{transfer_name}: verifying all candidates of a pair", 1e3 * mean, "ms", "lower", versus, ratio, n)


def judge_pair(pair: Pair, images: PreparedImages[Described], records: Mapping[str, ImageRecord], transfer: Transfer) -> Outcome:
    """The candidates of a pair that pass the cycle, with the errors that a transfer gives them."""
    source, target = images.get(pair.source_id), images.get(pair.target_id)
    candidates = find_candidates(source, target)
    start = time.perf_counter()
    verify_matches(source, target, candidates.source_rows, candidates.target_rows, transfer)
    seconds = time.perf_counter() - start
    explanation = explain_pair(source, target, THRESHOLDS, transfer)
    rows, correct = judge(explanation, source.letterbox, (records[pair.source_id], records[pair.target_id]))
    errors = np.where(keep_cycle(explanation, THRESHOLDS), explanation.geodesic_error, np.float32(np.inf))
    return Outcome(errors, errors[rows], correct, np.array([seconds]))


def _preparing(images: PreparedImages[Described], image_ids: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Time of what each transfer computes once an image. It is kept, so that predictions are timed without it."""
    surfaces = [mesh for mesh in (images.get(image_id).mesh for image_id in image_ids) if mesh is not None]
    start = time.perf_counter()
    for mesh in surfaces:
        _ = mesh.landmarks
    between = time.perf_counter()
    for mesh in surfaces:
        _ = mesh.spectral
    for name, seconds in (("transport", between - start), ("functional_map", time.perf_counter() - between)):
        yield row(BENCH, f"{name}: preparing an image", 1e3 * seconds / len(surfaces), "ms", "lower", n=len(surfaces))


def _qualities(category: str, outcomes: Mapping[str, Outcome]) -> Iterator[dict[str, Any]]:
    nearest = outcomes["nearest"].quality(THRESHOLDS.tau_geo)
    for name, outcome in outcomes.items():
        found = nearest if name == "nearest" else outcome.keeping(nearest.kept)
        if not found.judged:
            continue
        figure = f"{category}, {name}: wrong of {found.judged} keypoints, {found.kept} labels up to {found.tau:.3f}"
        ratio = nearest.wrong / nearest.judged * found.judged / found.wrong if nearest.judged and found.wrong else None
        alternative = None if name == "nearest" or not nearest.judged else f"nearest: {nearest.fpr:.2f} %"
        yield row(BENCH, figure, found.fpr, "%", "lower", alternative, None if alternative is None else ratio, found.judged)


def run(folder: str | None = None) -> Iterator[dict[str, Any]]:
    """Compare on the run in ``folder``, or on toys made for it."""
    if folder is not None:
        yield from compare(parse_config({**stored_values(folder), "run": folder}, folder))
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield from compare(make_run(Path(temporary)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.transfers", description="Predictions across meshes on held-out toys."
    )
    parser.add_argument("--run", help="a run folder with described toys; none: they are made")
    for line in run(parser.parse_args().run):
        print(json.dumps(line), flush=True)

"""annotated pairs + features (+ adapter) -> PCK and filter quality -> ``scores/`` and ``report/metrics.json``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from actors.base import Actor, Row
from cluster.session import RaySession
from pipelines.describe import DescribeStage
from pipelines.execute import run_stage
from pipelines.label import EVERY_STAGE
from pipelines.manifest import read_pairs
from pipelines.match import DescribedImages, pair_row
from pipelines.progress import Progress
from pipelines.reconstruct import OrientStage, ReconstructStage
from pipelines.stage import Stage
from pipelines.timings import read_summaries, record_summary
from pipelines.train import train_job
from sc3d.cache import ByteCache
from sc3d.config import MatchConfig, RunConfig
from sc3d.datasets.keypoint_groups import keypoint_groups
from sc3d.evaluation.filter_quality import filter_quality, summarise
from sc3d.evaluation.pck import score_pair
from sc3d.evaluation.scores import PairScore
from sc3d.evaluation.tables import filter_rows, pck_rows
from sc3d.features import Features
from sc3d.matching.fusion import fuse, group_descriptors
from sc3d.matching.tiles import plan_pair_shards
from sc3d.records import ImageRecord, Orientation, Pair, Reconstruction
from sc3d.schema import column_meanings
from sc3d.shards import Shard
from sc3d.store import RunFolder
from training.adapter import decode_adapter

METRICS = "report/metrics.json"

_IMAGE_PAIR = {
    **column_meanings(Pair),
    "source": "the source image, prepared for matching",
    "target": "the target image, prepared for matching",
    "source_flat": "the source image, prepared for matching without 3D descriptors",
    "target_flat": "the target image, prepared for matching without 3D descriptors",
    "annotations": "manifest rows of both images",
    "maps": "method -> descriptor maps of both images",
    "groups": "look-alike keypoints of the category",
}


class ScoreActor(Actor):
    """Judges the filters on the candidates of a pair, and predicts its keypoints by every method."""

    requires = _IMAGE_PAIR
    provides = {"score": "predictions and counts"}

    @classmethod
    def fingerprint(cls, config: RunConfig) -> Mapping[str, Any]:
        return {"version": "score-1"}

    def process(self, row: Row) -> Row:
        label, evaluate = self.config.label, self.config.evaluate
        annotations = row["annotations"]
        judged = [
            *filter_quality(row["source_flat"], row["target_flat"], annotations, label, "2D"),
            *filter_quality(row["source"], row["target"], annotations, label, "2D + 3D"),
        ]
        boxes = (row["source"].letterbox, row["target"].letterbox)
        predictions = [
            score
            for method, (source, target) in row["maps"].items()
            for score in score_pair(annotations[0], annotations[1], source, target, boxes, evaluate, row["groups"], method)
        ]
        return {"score": PairScore.of(row["pair_id"], row["category"], row["split"], predictions, judged)}


class EvaluateStage(Stage):
    """Filter counts and keypoint predictions of each annotated pair."""

    name = "evaluate"
    folder = "scores"
    record = PairScore
    key = "pair_id"
    by_category = True
    upstream = (DescribeStage,)
    given = _IMAGE_PAIR

    def actors(self) -> Sequence[type[Actor]]:
        return (ScoreActor,)

    def settings(self) -> Mapping[str, Any]:
        evaluate, match, label = self.config.evaluate, self.config.match, self.config.label
        return {
            "readout": [evaluate.window, evaluate.temperature],
            "weights": [match.alpha, match.beta],
            "thresholds": [label.tau_cc, label.tau_geo],
            "transfer": match.transfer,
            "adapter": self.adapter_file,
        }

    @property
    def shard_size(self) -> int:
        return self.config.ray.pairs_per_shard

    def plan(self, items: pa.Table) -> list[Shard]:
        return plan_pair_shards(items, self.shard_size)

    @cached_property
    def adapter_file(self) -> str | None:
        """The trained adapter of this configuration, if there is one."""
        name = train_job(self.config).adapter_file
        return name if self.run.exists(name) else None

    @cached_property
    def _maps(self) -> DescriptorMaps:
        # Three caches share what an actor may have; a map is as large as both kinds of described images.
        return DescriptorMaps(self.config, self.adapter_file, self.config.ray.cache_mb // 2)

    @cached_property
    def _images(self) -> tuple[DescribedImages, DescribedImages]:
        match, quarter = self.config.match, self.config.ray.cache_mb // 4
        return DescribedImages(self.config, match, quarter), DescribedImages(self.config, without_3d(match), quarter)

    @cached_property
    def _pairs(self) -> dict[str, Pair]:
        return {pair.pair_id: pair for pair in read_pairs(self.run, labelled=False)}

    def load(self, shard: Shard) -> Iterator[Row]:
        return (self._row(self._pairs[pair_id]) for pair_id in shard.ids)

    def _row(self, pair: Pair) -> Row:
        full, flat = self._images
        row = pair_row(pair, full)
        if "error" in row:
            return row
        records = self.images
        sides: tuple[ImageRecord, ImageRecord] = (records[pair.source_id], records[pair.target_id])
        source_maps, target_maps = self._maps.get(pair.source_id), self._maps.get(pair.target_id)
        return {
            **row,
            "source_flat": flat.get(pair.source_id),
            "target_flat": flat.get(pair.target_id),
            "annotations": sides,
            "maps": {method: (source_maps[method], target_maps[method]) for method in source_maps},
            "groups": keypoint_groups(Path(self.config.dataset.root), pair.category).repeated,
        }

    def finish(self, row: Row, seconds: float) -> PairScore:
        score: PairScore = row["score"]
        return score


class DescriptorMaps:
    """The descriptor maps (C, side, side) of an image: fused 2D features as they are, and the adapter's."""

    def __init__(self, config: RunConfig, adapter_file: str | None, cache_mb: int) -> None:
        self._describe = DescribeStage(config)
        self._weights = {"sd": config.match.alpha, "dino": config.match.beta}
        run = self._describe.run
        self._adapter = decode_adapter(run.read_bytes(adapter_file), adapter_file) if adapter_file else None
        self._cache: ByteCache[str, dict[str, np.ndarray]] = ByteCache(self._load, _bytes_of, cache_mb * 2**20)

    def get(self, image_id: str) -> dict[str, np.ndarray]:
        """Method -> map of an image."""
        return self._cache.get(image_id)

    def _load(self, image_id: str) -> dict[str, np.ndarray]:
        features = self._describe.read_features(image_id)
        maps = {"zero-shot": zero_shot_map(features, self._weights)}
        if self._adapter is not None:
            maps["adapter"] = self._adapter.describe(features)
        return maps


def _bytes_of(maps: Mapping[str, np.ndarray]) -> int:
    return sum(one.nbytes for one in maps.values())


def zero_shot_map(features: Features, weights: Mapping[str, float]) -> np.ndarray:
    """The fused 2D features at every cell, background included: (C, side, side) float32, unit length."""
    side = features.letterbox.side
    flat = dataclasses.replace(features, shape=None, surface=None)
    fused = fuse(group_descriptors(flat, np.arange(side * side)), weights)
    return np.ascontiguousarray(fused.numpy().T).reshape(-1, side, side)


def without_3d(match: MatchConfig) -> MatchConfig:
    """The same fusion of the 2D features alone."""
    total = match.alpha + match.beta
    return dataclasses.replace(match, alpha=match.alpha / total, beta=match.beta / total)


def run(config: RunConfig) -> dict[str, Any]:
    """Evaluate the annotated pairs of a run and write ``report/metrics.json``, which is returned.

    Raises:
        InputError: the data set's annotations cannot be used.
    """
    stage = EvaluateStage(config)
    pairs = read_pairs(stage.run, labelled=False)
    with RaySession(config.ray) as ray, Progress() as progress:
        items = [(pair.category, pair.pair_id) for pair in pairs]
        record_summary(stage.run, run_stage(stage, items, progress, ray))
    wanted = {pair.pair_id for pair in pairs}
    scores = [score for score in stage.artefacts.catalogue().read_all() if score.pair_id in wanted]
    metrics = collect_metrics(config, scores)
    stage.run.write_json(METRICS, metrics)
    return metrics


def collect_metrics(config: RunConfig, scores: Sequence[PairScore]) -> dict[str, Any]:
    """The machine-readable half of the report: filters, pck, alignment, yaw, stages."""
    test = [score for score in scores if score.split == "test"]
    predictions = [p for score in test for p in score.predictions()]
    stages = (*(stage.name for stage in EVERY_STAGE), "train", "evaluate")
    reconstructions = ReconstructStage(config).artefacts.catalogue().read_all()
    orientations = OrientStage(config).artefacts.catalogue().read_all()
    return {
        "filters": filter_rows(summarise(score.filter_counts() for score in test)),
        "pck": pck_rows(predictions, config.dataset.kind, config.evaluate.alphas),
        "alignment": alignment_metrics(reconstructions),
        "yaw": yaw_metrics(reconstructions, orientations),
        "stages": read_summaries(RunFolder(config.run), stages),
    }


def alignment_metrics(reconstructions: Sequence[Reconstruction]) -> dict[str, Any]:
    """Number of reconstructions and their mean silhouette IoU before and after alignment."""
    if not reconstructions:
        return {"n": 0, "iou_before": None, "iou_after": None}
    before, after = (float(np.mean([getattr(r, name) for r in reconstructions])) for name in ("iou_before", "iou_after"))
    return {"n": len(reconstructions), "iou_before": before, "iou_after": after}


def yaw_metrics(reconstructions: Sequence[Reconstruction], orientations: Sequence[Orientation]) -> dict[str, Any]:
    """Meshes that were turned; of the simulated misturns, how many there were and how many of them were undone; uncertain votes."""
    injected = {r.image_id: r.injected_turn for r in reconstructions}
    misturned = [o for o in orientations if injected.get(o.image_id, -1) > 0]
    return {
        "turned": sum(o.turn != 0 for o in orientations),
        "injected": len(misturned),
        "undone": sum((injected[o.image_id] + o.turn) % 360 == 0 for o in misturned),
        "wrongly_turned": sum(o.turn != 0 and injected.get(o.image_id, -1) == 0 for o in orientations),
        "uncertain": sum(o.uncertain for o in orientations),
    }

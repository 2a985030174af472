"""annotated pairs + descriptors -> predicted keypoints -> ``scores/``, the quality of filters -> ``filters/``, and their tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import pyarrow as pa

from actors.base import Actor, Row
from cluster.session import RaySession
from pipelines.stages.describe import DescribeStage
from pipelines.stages.methods import MethodImages, adapter_identity, check_method, method_config, trained_adapter
from pipelines.runner.run import run_stage
from pipelines.stages.judge import JudgeStage, judged_pairs
from pipelines.folder.manifest import read_pairs
from pipelines.stages.match import IMAGE_READS
from pipelines.report.metrics import METRICS, collect_metrics, write_metrics
from pipelines.stages.mirror import MirrorStage
from pipelines.runner.progress import Progress
from pipelines.runner.stage import Stage, StageSummary
from pipelines.runner.timings import record_summary
from sc3d.config import RunConfig
from sc3d.datasets.keypoint_groups import KeypointGroups
from sc3d.errors import is_of_the_store
from sc3d.evaluation.flip import counterparts, descriptor_distance, mirrored_pixels
from sc3d.evaluation.methods import Method, method_of, methods_of, named, resolve, weights_of
from sc3d.evaluation.pck import common_keypoints, outside_image, read_cells, score_cells
from sc3d.evaluation.protocols import Unit, protocol_of, unit_of
from sc3d.evaluation.scores import PairScore
from sc3d.matching.tiles import plan_pair_shards
from sc3d.records import ImageRecord, Pair
from sc3d.schema import column_meanings
from sc3d.shards import Shard

__all__ = ["METRICS", "EvaluateStage", "evaluate_stages", "method_names", "run"]

_ANNOTATED_PAIR = {
    **column_meanings(Pair),
    "source": "descriptors and foreground of the source image",
    "target": "descriptors and foreground of the target image",
    "mirrored": "those of the mirrored source, or None without adaptive flip",
    "annotations": "manifest rows of both images",
    "groups": "repeated and mirrored keypoints of the category",
}


class ScoreActor(Actor):
    """Predicts the keypoints of a pair by one method and every readout, and measures how far off they are."""

    requires = _ANNOTATED_PAIR
    provides = {"score": "predictions and distances"}

    @classmethod
    def fingerprint(cls, config: RunConfig) -> Mapping[str, Any]:
        return {"version": "score-2"}

    @cached_property
    def _name_and_unit(self) -> tuple[str, Unit]:
        return method_name(self.config), unit_of(self.config)

    def process(self, row: Row) -> Row:
        source, target = row["annotations"]
        key = (row["pair_id"], row["category"], row["split"])
        ids, source_xy, target_xy = common_keypoints(source, target)
        if len(ids) == 0:
            return {"score": PairScore.of(*key, ())}
        boxes = (row["source"].descriptors.letterbox, row["target"].descriptors.letterbox)
        similarity = row["source"].descriptors.similarity(boxes[0].cells_of(source_xy), row["target"].descriptors)
        cells = read_cells(similarity, boxes[1].side, self.config.evaluate)
        flipped = row["mirrored"] is not None and self._flip(row, ids, cells)
        outside = int((outside_image(source_xy, boxes[0]) | outside_image(target_xy, boxes[1])).sum())
        predictions = score_cells(source, target, cells, boxes[1], row["groups"].repeated, *self._name_and_unit)
        return {"score": PairScore.of(*key, predictions, outside, flipped)}

    def _flip(self, row: Row, ids: Any, cells: dict[str, Any]) -> bool:
        """Take the predictions of the mirrored source, where it is closer to the target, of the points that it shows too."""
        source: ImageRecord = row["annotations"][0]
        own, mirrored, target = row["source"], row["mirrored"], row["target"]
        if source.keypoint_ids is None or source.keypoint_xy is None:
            return False
        theirs = counterparts(ids, source.keypoint_ids, row["groups"].mirrored)
        usable = theirs >= 0
        kind = self.config.evaluate.flip
        if kind == "none" or not usable.any():
            return False
        distances = [
            descriptor_distance(one.descriptors, target.descriptors, kind, (one.foreground, target.foreground))
            for one in (own, mirrored)
        ]
        if not distances[1] < distances[0]:
            return False
        box = mirrored.descriptors.letterbox
        xy = mirrored_pixels(source.keypoint_xy[theirs[usable]], box.width)
        similarity = mirrored.descriptors.similarity(box.cells_of(xy), target.descriptors)
        for readout, found in read_cells(similarity, box.side, self.config.evaluate).items():
            cells[readout][usable] = found
        return True


class EvaluateStage(Stage):
    """The keypoints of each annotated pair, predicted by the one method of its configuration (see :func:`evaluate_stages`)."""

    name = "evaluate"
    folder = "scores"
    record = PairScore
    key = "pair_id"
    by_category = True
    upstream = (DescribeStage,)
    given = _ANNOTATED_PAIR

    def actors(self) -> Sequence[type[Actor]]:
        return (ScoreActor,)

    @cached_property
    def method(self) -> Method:
        """What predicts."""
        return method_of(self.config.evaluate.methods[0])

    @property
    def label(self) -> str:
        """What tables call its method."""
        return method_name(self.config)

    @property
    def flips(self) -> bool:
        """Whether mirror images are looked at too."""
        return self.method.is_zero_shot and self.config.evaluate.flip != "none"

    def settings(self) -> Mapping[str, Any]:
        evaluate = self.config.evaluate
        return {
            "method": self.label,
            "weights": weights_of(self.method, self.config),
            "adapter": adapter_identity(self.method, self.config),
            "readout": [evaluate.window, evaluate.temperature, evaluate.masking],
            "unit": unit_of(self.config),
            "flip": [evaluate.flip, MirrorStage(self.config).recipe] if self.flips else None,
        }

    @property
    def shard_size(self) -> int:
        return self.config.ray.pairs_per_shard

    @property
    def shards_per_task(self) -> int:
        # Tiles that follow each other share images, which only a process that gets both of them profits from.
        return 8

    def plan(self, items: pa.Table) -> list[Shard]:
        return plan_pair_shards(items, self.shard_size)

    def counters(self) -> Mapping[str, int]:
        return {IMAGE_READS: self._images.reads + (self._mirrored.reads if self.flips else 0)}

    @cached_property
    def _images(self) -> MethodImages:
        cache = self.config.ray.cache_mb
        return MethodImages(self.method, self.config, DescribeStage(self.config), cache // 2 if self.flips else cache)

    @cached_property
    def _mirrored(self) -> MethodImages:
        return MethodImages(self.method, self.config, MirrorStage(self.config), self.config.ray.cache_mb // 2)

    @cached_property
    def _pairs(self) -> dict[str, Pair]:
        return {pair.pair_id: pair for pair in read_pairs(self.run, labelled=False)}

    def load(self, shard: Shard) -> Iterator[Row]:
        groups = groups_of(self.config, shard.category)
        for pair in (self._pairs[pair_id] for pair_id in shard.ids):
            row: Row = {field.name: getattr(pair, field.name) for field in dataclasses.fields(pair)}
            row |= {"annotations": (self.images[pair.source_id], self.images[pair.target_id]), "groups": groups}
            try:
                row |= {"source": self._images.get(pair.source_id), "target": self._images.get(pair.target_id)}
                row["mirrored"] = self._mirrored.get(pair.source_id) if self.flips else None
            except Exception as error:  # an unreadable feature file concerns this pair, not the run
                if is_of_the_store(error):
                    raise
                row["error"] = error
            yield row

    def finish(self, row: Row, seconds: float) -> PairScore:
        score: PairScore = row["score"]
        return score


def method_name(config: RunConfig) -> str:
    """What tables call the one method of a stage's configuration."""
    method = method_of(config.evaluate.methods[0])
    return named(method, resolve(method, config)[1])


def groups_of(config: RunConfig, category: str) -> KeypointGroups:
    """The repeated and mirrored keypoints of a category; none for data sets that do not say."""
    return protocol_of(config.dataset.kind).groups_of(config.dataset.root, category)


def method_names(config: RunConfig) -> tuple[str, ...]:
    """The methods that a configuration evaluates; those of the default: the run's features, and its adapter if one was trained."""
    if config.evaluate.methods:
        return config.evaluate.methods
    return ("zero-shot", "adapter") if trained_adapter(config) else ("zero-shot",)


def evaluate_stages(config: RunConfig) -> list[EvaluateStage]:
    """A stage for each method, with the configuration that it reads. Each has a recipe of its own: one more method costs its own time.

    Raises:
        ConfigError: there is no such method, or two of them have one name.
    """
    texts = {method_of(text).name: text for text in method_names(config)}
    stages = []
    for method in methods_of(method_names(config)):
        resolved = method_config(method, config)
        alone = dataclasses.replace(resolved.evaluate, methods=(texts[method.name],))
        stages.append(EvaluateStage(dataclasses.replace(resolved, evaluate=alone)))
    return stages


def run(config: RunConfig) -> dict[str, Any]:
    """Evaluate the annotated pairs of a run and write ``report/metrics.json``, ``pck.csv`` and ``pck.tex``; the first is returned.

    Raises:
        InputError: the data set's annotations cannot be used.
        ConfigError: a method is unknown, or the run lacks its features or its adapter.
    """
    stages, pairs = evaluate_stages(config), read_pairs(JudgeStage(config).run, labelled=False)
    images = {image for pair in pairs for image in (pair.source_id, pair.target_id)}
    for stage in stages:
        check_method(stage.method, config, images)
    with RaySession(config.ray) as ray, Progress() as progress:
        done = []
        for stage in stages:
            progress.say(f"  method {stage.label}")
            if stage.flips:
                sources = sorted({(pair.category, pair.source_id) for pair in pairs})
                done.append(run_stage(MirrorStage(stage.config), sources, progress, ray))
            done.append(run_stage(stage, _items(pairs), progress, ray))
        judged = judged_pairs(pairs, config.evaluate.filter_pairs)
        if judged:
            done.append(run_stage(JudgeStage(config), _items(judged), progress, ray))
    record_summary(stages[0].run, _together(done, len(pairs)))
    metrics = collect_metrics(config, stages, pairs, judged)
    write_metrics(stages[0].run, metrics)
    return metrics


def _items(pairs: Sequence[Pair]) -> list[tuple[str, str]]:
    return [(pair.category, pair.pair_id) for pair in pairs]


def _together(done: Sequence[StageSummary], pairs: int) -> StageSummary:
    """The stages of an evaluation as one: what it took, over all methods."""
    return StageSummary(
        stage=EvaluateStage.name,
        items=pairs,
        computed=max((one.computed for one in done), default=0),
        rejects=max((one.rejects for one in done), default=0),
        seconds=sum(one.seconds for one in done),
    )

"""annotated validation pairs + features -> counts of every setting of weights and thresholds -> ``sweeps/``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

from actors.base import Actor, Row
from pipelines.folder.manifest import PAIRS, read_pairs
from pipelines.stages.describe import DescribeStage
from pipelines.stages.pairs import SIDES, PreparedImages
from pipelines.stages.verifying import VerifyingStage, verifiable_images
from sc3d.config import MatchConfig, RunConfig
from sc3d.errors import InputError
from sc3d.evaluation.protocols import unit_of
from sc3d.evaluation.setting_counts import SettingCounts, count_settings
from sc3d.evaluation.setting_pck import GroupDescriptors, count_points, describe_groups
from sc3d.evaluation.setting_rank import weight_grid
from sc3d.matching.weight_grid import GroupedImage
from sc3d.records import VALIDATION_SPLIT, Pair
from sc3d.store import RunFolder

_GATHERED = {
    **SIDES,
    "annotations": "manifest rows of both images",
    "weights": "the settings of the fusion weights",
    "descriptors": "groups of features of both images at all cells; None unless the objective is PCK",
    "unit": "what PCK's 0.1 is a share of; None unless the objective is PCK",
}
_READOUT = ("evaluate.window", "evaluate.temperature", "evaluate.masking")


class SweepActor(Actor):
    """Counts the kept labels and the judged keypoints of a pair under every setting."""

    requires: ClassVar[Mapping[str, str]] = {"pair_id": "id", "category": "of both images", **_GATHERED}
    provides: ClassVar[Mapping[str, str]] = {
        "record": "kept labels, judged keypoints and wrong ones of every setting; right keypoints of every weights if asked for"
    }
    version: ClassVar[str] = "sweep-1"
    options: ClassVar[tuple[str, ...]] = ("sweep.tau_cc", "sweep.tau_geo")

    @classmethod
    def reads(cls, config: RunConfig) -> Sequence[str]:
        """How keypoints are read off matters for PCK alone."""
        return *cls.options, *(_READOUT if config.sweep.objective == "pck" else ())

    def process(self, row: Row) -> Row:
        """Count one pair."""
        sweep, weights, annotations = self.config.sweep, row["weights"], row["annotations"]
        counts = count_settings(row["source"], row["target"], annotations, weights, sweep.tau_cc, sweep.tau_geo)
        points = None
        if row["descriptors"] is not None:
            source, target = row["descriptors"]
            points = count_points(source, target, annotations, weights, self.config.evaluate, row["unit"])
        return {"record": SettingCounts(row["pair_id"], row["category"], counts.reshape(-1, 3), points)}


class SweepStage(VerifyingStage):
    """Counts of every setting on annotated pairs."""

    name = "sweep"
    folder = "sweeps"
    record = SettingCounts
    annotated = True
    options = ("match.transfer", "match.template_prior", "match.tau_reprojection", "sweep.objective")
    slots = (SweepActor,)
    gathers = _GATHERED
    command = "sweep"

    def reads(self) -> Sequence[str]:
        return *self.options, *(("evaluate.unit", "dataset.kind") if self._finds_pck else ())

    def identities(self) -> Mapping[str, Any]:
        return {"weights": [[setting.alpha, setting.beta] for setting in self._weights]}

    @cached_property
    def _weights(self) -> list[MatchConfig]:
        return weight_grid(self.whole.sweep.steps, self.whole.match)

    @property
    def _finds_pck(self) -> bool:
        return self.whole.sweep.objective == "pck"

    @cached_property
    def _images(self) -> PreparedImages[GroupedImage]:
        cache, match = self.whole.ray.cache_mb, self.config.match
        return verifiable_images(
            self.other(DescribeStage),
            lambda features, places: GroupedImage(features, match, places),
            match.transfer,
            cache // 2 if self._finds_pck else cache,
        )

    @cached_property
    def _descriptors(self) -> PreparedImages[GroupDescriptors]:
        return PreparedImages(self.other(DescribeStage), describe_groups, self.whole.ray.cache_mb // 2)

    def caches(self) -> Sequence[PreparedImages[Any]]:
        return (self._images,)

    def gather(self, pair: Pair) -> Row:
        source, target = self._images.both(pair)
        return {
            "source": source,
            "target": target,
            "annotations": self.annotations(pair),
            "weights": self._weights,
            "descriptors": self._descriptors.both(pair) if self._finds_pck else None,
            "unit": unit_of(self.config) if self._finds_pck else None,
        }


def is_annotated(config: RunConfig) -> bool:
    """Whether the plan has annotated validation pairs at all, or nothing was planned yet."""
    run = RunFolder(config.run)
    return not run.exists(PAIRS) or any(pair.split == VALIDATION_SPLIT for pair in read_pairs(run, labelled=False))


def swept_pairs(config: RunConfig) -> list[Pair]:
    """The annotated pairs that are searched on: the ``val`` split, at most ``sweep.pairs_per_category`` of each category."""
    described = DescribeStage(config).catalogue()
    chosen: list[Pair] = []
    counts: dict[str, int] = {}
    for pair in sorted(read_pairs(RunFolder(config.run), labelled=False), key=lambda p: p.pair_id):
        usable = pair.split == VALIDATION_SPLIT and pair.source_id in described and pair.target_id in described
        if usable and counts.get(pair.category, 0) < config.sweep.pairs_per_category:
            counts[pair.category] = counts.get(pair.category, 0) + 1
            chosen.append(pair)
    if not chosen:
        raise InputError(f"{config.run} has no annotated validation pairs with features; a sweep needs a data set with keypoints")
    return chosen

"""annotated pairs + features -> how many candidates each filter keeps, and how many of them are wrong -> ``filters/``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import pyarrow as pa

from actors.base import Actor, Row
from pipelines.stages.agreeing import ALIGNED, AgreeingStage
from pipelines.stages.compare import CHAINED, NO_CHAIN, Chains, chain_identities, kept_matches
from pipelines.stages.describe import DescribeStage
from pipelines.stages.fit import FitStage
from pipelines.stages.orient import OrientStage
from pipelines.stages.pairs import SIDES, PreparedImages
from pipelines.stages.verifying import described_images
from sc3d.config import RunConfig
from sc3d.evaluation.filter_quality import COPY, FilterCounts, filter_quality, judge, unit_of_pair, without_3d
from sc3d.evaluation.labellings import Labelling, labelling_named
from sc3d.evaluation.protocols import unit_of
from sc3d.evaluation.scores import FilterScore
from sc3d.matching.described import Described
from sc3d.matching.filters import FILTERS
from sc3d.records import Pair

_GATHERED = {
    **SIDES,
    "source_flat": "the source image, prepared for matching without 3D descriptors",
    "target_flat": "the target image, prepared for matching without 3D descriptors",
    "annotations": "manifest rows of both images",
    "unit": "what PCK's 0.1 is a share of",
    **CHAINED,
    **ALIGNED,
}

_FLAT, _FULL = "2D", "2D + 3D"


class JudgeActor(Actor):
    """Judges all filters on the candidates of a pair, from 2D features and with the 3D descriptors."""

    requires: ClassVar[Mapping[str, str]] = {"pair_id": "id", "category": "of both images", "split": "val or test", **_GATHERED}
    provides: ClassVar[Mapping[str, str]] = {"record": "counts of each filter"}
    version: ClassVar[str] = "judge-1"
    options: ClassVar[tuple[str, ...]] = ("label.tau_cc", "label.tau_geo", "label.min_agreement", "evaluate.labellings")

    def process(self, row: Row) -> Row:
        """Judge the candidates of one pair."""
        label, annotations, unit = self.config.label, row["annotations"], row["unit"]
        judged = [
            *filter_quality(row["source_flat"], row["target_flat"], annotations, label, _FLAT, unit),
            *filter_quality(row["source"], row["target"], annotations, label, _FULL, unit),
            *(self._judge(labelling, row) for labelling in judged_labellings(self.config)),
        ]
        return {"record": FilterScore.of(row["pair_id"], row["category"], row["split"], judged)}

    def _judge(self, labelling: Labelling, row: Row) -> FilterCounts:
        sides = row if labelling.shape else {**row, "source": row["source_flat"], "target": row["target_flat"]}
        matches = kept_matches(labelling, sides, self.config)
        size = unit_of_pair(row["unit"], row["annotations"], row["target"].letterbox)
        rows, correct = judge(matches, row["source"].letterbox, row["annotations"], size)
        kind = _FULL if labelling.shape else _FLAT
        return FilterCounts(labelling.name, kind, len(matches.cosine), len(rows), int((~correct).sum()))


class JudgeStage(AgreeingStage):
    """Filter counts of annotated pairs."""

    name = "judge"
    folder = "filters"
    record = FilterScore
    annotated = True
    options = (
        "match.alpha",
        "match.beta",
        "match.transfer",
        "match.template_prior",
        "match.tau_reprojection",
        "evaluate.unit",
        "dataset.kind",
    )
    slots = (JudgeActor,)
    gathers = _GATHERED
    command = "evaluate"

    @classmethod
    def labellings(cls, config: RunConfig) -> Sequence[Labelling]:
        return judged_labellings(config)

    def end_inputs(self, ids: pa.Array) -> pa.Array:
        return self.other(FitStage).inputs_of(ids) if self.asks_class_shapes else super().end_inputs(ids)

    def identities(self) -> Mapping[str, Any]:
        chained = chain_identities(self.other(OrientStage)) if self._chains is not None else {}
        codes = [labelling.code for labelling in judged_labellings(self.whole)]
        return {"filters": [COPY, *FILTERS], "codes": codes, **chained}

    @cached_property
    def _chains(self) -> Chains | None:
        return Chains(self.whole) if any(labelling.chained for labelling in judged_labellings(self.whole)) else None

    @cached_property
    def _images(self) -> tuple[PreparedImages[Described], PreparedImages[Described]]:
        stage, match, half = self.other(DescribeStage), self.config.match, self.whole.ray.cache_mb // 2
        return described_images(stage, match, half), described_images(stage, without_3d(match), half)

    def caches(self) -> Sequence[PreparedImages[Described]]:
        return self._images

    def gather(self, pair: Pair) -> Row:
        full, flat = self._images
        (source, target), (source_flat, target_flat) = full.both(pair), flat.both(pair)
        return {
            "source": source,
            "target": target,
            "source_flat": source_flat,
            "target_flat": target_flat,
            "annotations": self.annotations(pair),
            "unit": unit_of(self.config),
            **(self._chains.of(pair, flat) if self._chains is not None else NO_CHAIN),
            **self.aligned(pair),
        }


def judged_labellings(config: RunConfig) -> list[Labelling]:
    """The labellings that are judged beside the filters, which are judged in any case."""
    return [labelling_named(name) for name in config.evaluate.labellings if name not in FILTERS]


def judged_pairs(pairs: Iterable[Pair], most: int) -> list[Pair]:
    """At most ``most`` pairs of each category and split, the same ones whatever the order: judging every pair of a large test set takes
    far longer than its PCK and tells little more."""
    groups: dict[tuple[str, str], list[Pair]] = {}
    for pair in pairs:
        groups.setdefault((pair.category, pair.split), []).append(pair)

    def drawn(pair: Pair) -> bytes:
        return hashlib.sha256(pair.pair_id.encode()).digest()

    return [pair for members in groups.values() for pair in sorted(members, key=drawn)[:most]]

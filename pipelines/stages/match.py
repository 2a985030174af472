"""features -> candidates with their evidence -> ``matches/``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from actors.base import Row
from pipelines.stages.describe import DescribeStage
from pipelines.stages.pairs import SIDES, PreparedImages
from pipelines.stages.verifying import VerifyingStage, described_images
from sc3d.matching.described import Described
from sc3d.records import Matches, Pair


class MatchStage(VerifyingStage):
    """All candidates of each pair up to the wide thresholds."""

    name = "match"
    folder = "matches"
    record = Matches
    options = ("match",)
    slots = ("match",)
    gathers = SIDES

    def gather(self, pair: Pair) -> Row:
        source, target = self._images.both(pair)
        return {"source": source, "target": target}

    @cached_property
    def _images(self) -> PreparedImages[Described]:
        return described_images(self.other(DescribeStage), self.config.match, self.whole.ray.cache_mb)

    def caches(self) -> Sequence[PreparedImages[Described]]:
        return (self._images,)

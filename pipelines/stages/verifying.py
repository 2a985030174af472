"""What all stages share that verify matches: images with their mesh side, registered where the transfer asks for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from pipelines.stages.describe import DescribeStage
from pipelines.stages.pairs import PairStage, PreparedImages
from pipelines.stages.register import RegisterStage, is_registered
from sc3d.config import MatchConfig, RunConfig, TransferName
from sc3d.features import Features
from sc3d.matching.described import Described

DescribedT = TypeVar("DescribedT", bound=Described)


class VerifyingStage(PairStage):
    """A stage of pairs whose matches both meshes have their say on."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        if self.asks_registrations():
            self.upstream = (*self.upstream, RegisterStage)

    def asks_registrations(self) -> bool:
        """Whether registrations have a say."""
        return is_registered(self.whole)


def verifiable_images(
    stage: DescribeStage,
    prepare: Callable[[Features, np.ndarray | None], DescribedT],
    transfer: TransferName,
    cache_mb: int,
) -> PreparedImages[DescribedT]:
    """The described images of a run for those who verify matches.

    Args:
        prepare: makes what a pair needs of an image: of its features, and of its registered places (R, V, 6) if the transfer asks for them.
    """
    if transfer != "registration":
        return PreparedImages(stage, lambda features: prepare(features, None), cache_mb)
    registered = stage.other(RegisterStage)

    def with_places(features: Features) -> DescribedT:
        one = registered.known.read([features.image_id])[features.image_id]
        return prepare(features, one.by_reference)

    return PreparedImages(stage, with_places, cache_mb, needed=[registered])


def described_images(stage: DescribeStage, match: MatchConfig, cache_mb: int) -> PreparedImages[Described]:
    """The described images of a run, prepared for matching."""
    return verifiable_images(stage, lambda features, places: Described(features, match, places), match.transfer, cache_mb)

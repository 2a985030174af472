"""What stages share that ask labellings: some of these ask class shapes that are fitted to both images of a pair."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import ClassVar

from actors.base import Row
from pipelines.stages.fit import FitStage
from pipelines.stages.pairs import PreparedImages
from pipelines.stages.verifying import VerifyingStage
from sc3d.class_shapes.carry import AlignedImage
from sc3d.config import RunConfig
from sc3d.evaluation.labellings import Labelling
from sc3d.evaluation.methods import METHODS, resolve
from sc3d.records import Pair

ALIGNED: Mapping[str, str] = {"aligned": "both images with the class shape in them, for labellings that ask it; else None"}


def unannotated(config: RunConfig) -> RunConfig:
    """The configuration with the class shapes that nobody annotated anything for."""
    return resolve(METHODS["semalign3d-unannotated"], config)[0]


class AgreeingStage(VerifyingStage):
    """A stage of pairs that asks labellings. Where one of them asks class shapes, these are the ones that nobody annotated anything for."""

    gathers: ClassVar[Mapping[str, str]] = ALIGNED

    def __init__(self, config: RunConfig) -> None:
        self.asks_class_shapes = any(labelling.carried for labelling in self.labellings(config))
        super().__init__(unannotated(config) if self.asks_class_shapes else config)
        if self.asks_class_shapes:
            self.upstream = (*self.upstream, FitStage)

    @classmethod
    @abstractmethod
    def labellings(cls, config: RunConfig) -> Sequence[Labelling]:
        """The labellings that it asks under a configuration.

        Raises:
            ConfigError: there is none of a name.
        """

    def aligned(self, pair: Pair) -> Row:
        """:data:`ALIGNED` of a pair.

        Raises:
            UpstreamError: the class shape was not fitted to one of the images.
        """
        return {"aligned": self._aligned.both(pair) if self.asks_class_shapes else None}

    @cached_property
    def _aligned(self) -> PreparedImages[AlignedImage]:
        return self.other(FitStage).aligned_images(self.whole.ray.cache_mb)

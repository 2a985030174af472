"""Matching a pair of described images: the actor of the match stage, on the CPU or on a GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar
from weakref import WeakKeyDictionary

from actors.base import Actor, Resources, Row
from sc3d.config import RunConfig
from sc3d.matching.described import Described
from sc3d.matching.device import DeviceImage, match_pairs
from sc3d.matching.label import match_pair


class MatchActor(Actor):
    """Candidates of a pair by fused cosine, and their cycle and bicyclic geodesic errors."""

    requires: ClassVar[Mapping[str, str]] = {
        "category": "the category of both images",
        "source": "the source image, prepared for matching",
        "target": "the target image, prepared for matching",
    }
    provides: ClassVar[Mapping[str, str]] = {"record": "the candidates with their evidence"}
    version: ClassVar[str] = "match-1"
    options: ClassVar[tuple[str, ...]] = ("match",)

    def process(self, row: Row) -> Row:
        """Match one pair."""
        return {"record": match_pair(row["source"], row["target"], row["category"], self.config.match)}


class MatchOnGpu(MatchActor):
    """The same on a GPU, which it shares with another: while one waits for its results the other computes."""

    resources: ClassVar[Resources] = Resources(num_gpus=0.5)
    batch_size: ClassVar[int] = 16
    device: ClassVar[str] = "cuda"

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        # An image leaves the device when the host's bounded cache drops it.
        self._on_device: WeakKeyDictionary[Described, DeviceImage] = WeakKeyDictionary()

    def process_batch(self, rows: Sequence[Row]) -> list[Row]:
        """Match several pairs, all of one category."""
        pairs = [(self._moved(row["source"]), self._moved(row["target"])) for row in rows]
        return [{"record": matches} for matches in match_pairs(pairs, rows[0]["category"], self.config.match)]

    def _moved(self, image: Described) -> DeviceImage:
        found = self._on_device.get(image)
        if found is None:
            found = self._on_device[image] = DeviceImage(image, self.device)
        return found

"""What each step computes on, prepared while the steps before it compute."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from sc3d.config import TrainConfig
from sc3d.pair_ids import split_pair_id
from training.adapter import check_dims, feature_dims, native_input
from training.data import LabelledPairs, PairSample
from training.objective import check_grids

_AHEAD = 2
_READERS = 4


@dataclass(frozen=True, eq=False)
class Batch:
    """One worker's share of a step: the labels of its pairs, the raw sources of each of their images, and the side of the grid."""

    samples: list[PairSample]
    inputs: dict[str, list[Tensor]]
    side: int


def batches(
    pairs: LabelledPairs, dims: Sequence[int], config: TrainConfig, seed: int, first: int, share: tuple[int, int]
) -> Iterator[tuple[int, Batch]]:
    """(step, batch) of each step from ``first`` on. The next two steps' are read meanwhile, several images at a time.

    Args:
        pairs: the training set.
        dims: channels of the adapter's sources.
        config: its steps, pairs a step and labels a pair.
        seed: of the order of pairs and the choice of labels.
        first: step to begin with.
        share: rank and number of the workers.

    Raises:
        FeatureError: an image with other sources than ``dims``, or on another grid than the rest of its step.
    """
    rank, world = share

    def read(image_id: str) -> list[Tensor]:
        features = pairs.features(image_id)
        check_dims(dims, feature_dims(features), image_id)
        return native_input(features)

    def load(step: int) -> Batch:
        mine = pairs.pairs_of_step(seed, step, config.pairs_per_step)[rank::world]
        draw = step if config.draws == "every_step" else 0
        images = list(dict.fromkeys(i for pair_id in mine for i in split_pair_id(pair_id)))
        inputs = dict(zip(images, readers.map(read, images), strict=True))
        check_grids(inputs)
        samples = pairs.sample(seed, draw, mine, config.labels_per_pair)
        return Batch(samples, inputs, pairs.features(samples[0].source_id).letterbox.side)

    with ThreadPoolExecutor(1) as loader, ThreadPoolExecutor(_READERS) as readers:
        last = config.steps
        ahead = deque(loader.submit(load, step) for step in range(first, min(first + _AHEAD, last)))
        for step in range(first, last):
            batch = ahead.popleft().result()
            if step + _AHEAD < last:
                ahead.append(loader.submit(load, step + _AHEAD))
            yield step, batch


def dropped(parts: list[Tensor], probability: float, name: str) -> list[Tensor]:
    """Input dropout whose masks depend on ``name`` alone, so that they are the same on every worker and after resuming."""
    if probability == 0:
        return parts
    device = parts[0].device
    random = torch.Generator(device).manual_seed(zlib.crc32(name.encode()))
    kept = (torch.rand(x.shape, generator=random, device=device) for x in parts)
    return [u.ge_(probability).mul_(1 / (1 - probability)).mul_(x) for u, x in zip(kept, parts, strict=True)]

"""How good an adapter is while it is trained: PCK and loss on pairs that it does not see.

The pairs are annotated ones where there are any, else labelled ones that are held out. PCK is the share of points whose window soft-argmax
lies within a tenth of the longer side of the target's box, as a mean over pairs.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sc3d.cache import ByteCache
from sc3d.config import TrainConfig
from sc3d.features import Features
from sc3d.pair_ids import split_pair_id
from training.adapter import Adapter, check_dims, feature_dims, native_input
from training.data import PairSample, generator
from training.losses import cell_similarity, predict_xy
from training.objective import embed, pair_losses

ALPHA = 0.1
WINDOW = 7
_MAP_BYTES = 2**29


class ValidationScore(NamedTuple):
    """Mean over the validation pairs: PCK at 0.10 in [0, 1], and the loss without noise and dropout."""

    pck: float
    loss: float


@dataclass(frozen=True, eq=False)
class ValidationPair:
    """Points (N, 2) that correspond, in pixels of both images; ``size``: longer side of the target object's box in pixels, if known."""

    pair_id: str
    source_xy: np.ndarray
    target_xy: np.ndarray
    size: float | None = None


class Validation:
    """Scores adapters on some pairs.

    Args:
        pairs: with at least one point each; without a ``size``, the target's extent is taken.
        features: image id -> features.
        config: the losses' settings.
        seed: of the choice of points for the loss, where there are more than are trained on.
    """

    def __init__(
        self, pairs: Sequence[ValidationPair], features: Callable[[str], Features], config: TrainConfig, seed: int = 0
    ) -> None:
        self._pairs = sorted(pairs, key=lambda pair: pair.pair_id)
        self._features = features
        self._config = config
        self._seed = seed

    def __len__(self) -> int:
        return len(self._pairs)

    @torch.no_grad()
    def score(
        self, adapter: Adapter, rank: int = 0, world: int = 1, total: Callable[[Tensor], Tensor] = lambda tensor: tensor
    ) -> ValidationScore:
        """The score of an adapter, on its device. In a data-parallel run every worker takes its share, and all get the same score.

        Raises:
            FeatureError: an image with other sources than the adapter's.
        """
        device = adapter.mixing_weights.device
        maps: ByteCache[str, Tensor] = ByteCache(
            lambda i: self._map(adapter, i), lambda m: m.numel() * m.element_size(), _MAP_BYTES
        )
        sums = torch.zeros(3, dtype=torch.float64, device=device)
        for pair in self._pairs[rank::world]:
            sums += torch.tensor([*self._score_pair(pair, adapter, maps), 1.0], dtype=torch.float64, device=device)
        right, loss, count = total(sums).tolist()
        return ValidationScore(right / count, loss / count)

    def _map(self, adapter: Adapter, image_id: str) -> Tensor:
        features = self._features(image_id)
        check_dims(adapter.feature_dims, feature_dims(features), image_id)
        device = adapter.mixing_weights.device
        parts = [part.to(device) for part in native_input(features)]
        return embed(adapter, {image_id: parts}, features.letterbox.side, self._config)[image_id]

    def _score_pair(self, pair: ValidationPair, adapter: Adapter, maps: ByteCache[str, Tensor]) -> tuple[float, float]:
        source_id, target_id = split_pair_id(pair.pair_id)
        source, target = self._features(source_id), self._features(target_id)
        sample = PairSample.of(pair.pair_id, pair.source_xy, pair.target_xy, source.letterbox, target.letterbox)
        pair_maps = {source_id: maps.get(source_id), target_id: maps.get(target_id)}
        cells = torch.from_numpy(sample.source_cells).to(adapter.mixing_weights.device)
        similarity = cell_similarity(pair_maps[source_id], cells, pair_maps[target_id])
        predicted = predict_xy(similarity, target.letterbox.side, window=WINDOW).cpu().numpy()
        size = target.extent if pair.size is None else pair.size
        allowed = ALPHA * size * target.letterbox.scale / target.letterbox.cell_size
        right = np.linalg.norm(predicted - sample.target_xy, axis=1) < allowed
        loss = pair_losses(self._some(sample), pair_maps, adapter.logit_scale, self._config).sum()
        return float(right.mean()), float(loss)

    def _some(self, sample: PairSample) -> PairSample:
        """At most as many points as a training step takes."""
        n, count = len(sample.source_cells), self._config.labels_per_pair
        return (
            sample
            if n <= count
            else sample.at(generator(self._seed, 0, sample.pair_id, "validation").choice(n, count, replace=False))
        )


def held_out_pairs(ids_by_category: Mapping[str, Sequence[str]], share: float, most: int) -> list[str]:
    """Which labelled pairs are held out for validation: a ``share`` of each category, at most ``most``. Follows from the ids alone."""
    chosen: list[str] = []
    for ids in ids_by_category.values():
        ordered = sorted(ids, key=lambda pair_id: (zlib.crc32(pair_id.encode()), pair_id))
        chosen += ordered[: min(round(share * len(ordered)), most)]
    return sorted(chosen)

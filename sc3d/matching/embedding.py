"""The global descriptor of an image: the mean of its foreground descriptors, slot by slot, fused with the weights of matching.

So the cosine of two images is the weighted mean of their slots' cosines, as it is for two cells (:mod:`sc3d.matching.fusion`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sc3d.config import MatchConfig
from sc3d.errors import FeatureError
from sc3d.features import Features
from sc3d.matching.fusion import group_descriptors, group_weights, normalise, renormalise
from sc3d.records import Embedding


def embed(features: Features) -> dict[str, np.ndarray]:
    """Slot -> the mean of its L2-normalised descriptors over the foreground cells, normalised again: (C,) float32.

    Raises:
        FeatureError: the image has no foreground cell.
    """
    cells = np.flatnonzero(features.foreground)
    if not len(cells):
        raise FeatureError(f"{features.image_id} has no foreground cell, so it is like no other image; check its mask")
    groups = group_descriptors(features, cells)
    return {group: normalise(values.mean(dim=0, keepdim=True))[0].numpy() for group, values in groups.items()}


def fuse_embeddings(embeddings: Sequence[Embedding], config: MatchConfig) -> np.ndarray:
    """Global descriptors (N, C) float32 of unit length.

    A slot that an image lacks is zero, and its weight goes to the image's others; an image that has none with a weight is a row of NaN.

    Raises:
        FeatureError: two images have different numbers of channels in a slot.
    """
    weights = group_weights(config)
    slices = _slices(embeddings, list(weights))
    fused = np.zeros((len(embeddings), max((s.stop for s in slices.values()), default=0)), np.float32)
    for row, one in zip(fused, embeddings, strict=True):
        try:
            kept = renormalise(weights, set(one.groups), one.image_id)
        except FeatureError:
            row[:] = np.nan
            continue
        parts = dict(zip(one.groups, np.split(one.values, np.cumsum(one.channels)[:-1]), strict=True))
        for group, weight in kept.items():
            row[slices[group]] = parts[group] * weight**0.5
    return fused


def _slices(embeddings: Sequence[Embedding], order: Sequence[str]) -> dict[str, slice]:
    channels: dict[str, int] = {}
    for one in embeddings:
        for group, count in zip(one.groups, one.channels.tolist(), strict=True):
            if channels.setdefault(group, count) != count:
                raise FeatureError(
                    f"{one.image_id}: slot '{group}' of {count} channels, {channels[group]} in other images; describe all with one recipe"
                )
    found, first = {}, 0
    for group in order:
        if group in channels:
            found[group] = slice(first, first + channels[group])
            first += channels[group]
    return found

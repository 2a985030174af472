"""Adapter training: pairs a second of the project's loop, beside the loop of DIY-SC's design on the same files.

Run with ``python -m benchmarks training``. The adapter is the published one's size (628,995 parameters, 768 -> 768 channels) on features of
60 x 60 cells; a pair has 1,600 labels, of which a step takes 50. Both sides get the same done for a pair: they read its images' features
from disk (nothing is cached), drop a fifth of the input, embed both images, compute the symmetric cross-entropy of the 50 labels and the
end-point error of their soft-argmax flow, propagate back and step AdamW with one-cycle. The losses are compared before anything is timed.

The reference takes one pair a step, as published: it embeds both images of it, normalises both maps, correlates all 3,600 x 3,600 cells and
reads the flow of every cell, of which the labels' rows count. Ours takes several pairs a step that share a source, embeds each image once,
and correlates the labels' rows alone, while the next step's features are read.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks import row
from sc3d.config import TrainConfig
from sc3d.config_file import load_config
from sc3d.features import Features, decode_features, encode_features
from sc3d.grid import Letterbox
from sc3d.pair_ids import pair_id_of
from sc3d.records import Labels
from training.adapter import Adapter, native_input
from training.data import LabelledPairs, PairSample
from training.loop import Clock, fit
from training.network import unit_length
from training.objective import embed, pair_losses

SIDE, CHANNELS = 60, 768
IMAGES, LABELS = 9, 1600
PAIRS_PER_STEP = 8
ROUNDS, STEPS, REFERENCE_STEPS = 3, 2, 3
REFERENCE = "the one-pair-a-step loop of DIY-SC's design"


class PublishedLoop:
    """DIY-SC's training step, written plainly: one pair, both images, the correlation of all cells with all cells."""

    def __init__(self, pairs: LabelledPairs, config: TrainConfig) -> None:
        torch.manual_seed(0)
        self.adapter = Adapter([CHANNELS], CHANNELS).train()
        trained = [p for p in self.adapter.parameters() if p.requires_grad]
        self._optimizer = torch.optim.AdamW(trained, lr=config.learning_rate, weight_decay=config.weight_decay)
        self._scheduler = torch.optim.lr_scheduler.OneCycleLR(self._optimizer, config.learning_rate, total_steps=config.steps + 1)
        self._pairs, self._config = pairs, config
        axis = torch.arange(SIDE, dtype=torch.float32)
        self._axis = axis
        self._here = torch.stack([axis.repeat(SIDE), axis.repeat_interleave(SIDE)], dim=1)

    def step(self, index: int) -> None:
        """One optimiser step."""
        (pair_id,) = self._pairs.pairs_of_step(0, index, 1)
        (sample,) = self._pairs.sample(0, 0, [pair_id], self._config.labels_per_pair)
        source, target = self._describe(sample.source_id), self._describe(sample.target_id)
        loss = self.losses(source, target, sample, self._config.noise * float(sample.target_xy.max())).sum()
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        self._scheduler.step()
        loss.item()

    def _describe(self, image_id: str) -> Tensor:
        raw = functional.dropout(native_input(self._pairs.features(image_id))[0], self._config.dropout)
        return unit_length(self.adapter([raw], (SIDE, SIDE)))[0].flatten(1).T

    def losses(self, source: Tensor, target: Tensor, sample: PairSample, noise: float = 0.0) -> Tensor:
        """Sparse and dense loss (2,) of descriptors (3600, C)."""
        source_cells, target_cells = torch.from_numpy(sample.source_cells), torch.from_numpy(sample.target_cells)
        logits = self.adapter.logit_scale.exp() * source[source_cells] @ target[target_cells].T
        own = torch.arange(len(logits))
        sparse = (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2
        weights = torch.softmax((source @ target.T) / 0.02, dim=1).reshape(-1, SIDE, SIDE)
        flow = torch.stack([weights.sum(dim=1) @ self._axis, weights.sum(dim=2) @ self._axis], dim=1) - self._here
        truth = torch.from_numpy(sample.target_xy - sample.source_xy).float()
        dense = (flow[source_cells] - truth - noise * torch.randn_like(truth)).norm(dim=1).mean()
        return torch.stack([sparse, dense])


def run() -> Iterator[dict[str, Any]]:
    """Pairs a second of both loops, in turns, and how long ours waits for features."""
    with tempfile.TemporaryDirectory() as folder:
        pairs = _training_set(Path(folder))
        config = load_config(None, ["train.preset=diy-sc"]).train
        reference = PublishedLoop(pairs, config)
        _same_losses(reference, pairs, config)
        reference.step(0)
        seconds: dict[str, list[float]] = {"reference": [], "several": [], "one": []}
        clock = Clock()
        for turn in range(ROUNDS):
            started = time.perf_counter()
            for index in range(REFERENCE_STEPS):
                reference.step(1 + turn * REFERENCE_STEPS + index)
            seconds["reference"].append((time.perf_counter() - started) / REFERENCE_STEPS)
            seconds["several"].append(_ours(pairs, config, PAIRS_PER_STEP, clock) / PAIRS_PER_STEP)
            seconds["one"].append(_ours(pairs, config, 1, Clock()))
    rates = {name: 1 / statistics.median(values) for name, values in seconds.items()}
    n = ROUNDS * STEPS * PAIRS_PER_STEP
    for name, words, count in (("several", f"{PAIRS_PER_STEP} pairs a step", n), ("one", "one pair a step", ROUNDS * STEPS)):
        yield row(
            "training", f"pairs a second, {words}", rates[name], "1/s", "higher", REFERENCE, rates[name] / rates["reference"], count
        )
    yield row("training", f"pairs a second, {REFERENCE}", rates["reference"], "1/s", "higher", n=ROUNDS * REFERENCE_STEPS)
    waited = 100 * clock.waited / clock.seconds
    yield row("training", "share of a step spent waiting for features", waited, "%", "lower", n=clock.steps)


def _ours(pairs: LabelledPairs, config: TrainConfig, pairs_per_step: int, clock: Clock) -> float:
    """Seconds of a step, without the first."""
    ends: list[float] = []
    changed = load_config(None, ["train.preset=diy-sc", f"train.pairs_per_step={pairs_per_step}", f"train.steps={STEPS + 1}"]).train
    counted = Clock()
    fit(pairs, [CHANNELS], changed, 0, lambda _: ends.append(time.perf_counter()), clock=counted)
    clock.steps, clock.seconds, clock.waited = (
        clock.steps + counted.steps, clock.seconds + counted.seconds, clock.waited + counted.waited
    )  # fmt: skip
    return (ends[-1] - ends[0]) / STEPS


def _same_losses(reference: PublishedLoop, pairs: LabelledPairs, config: TrainConfig) -> None:
    (sample,) = pairs.sample(0, 0, [pair_id_of("img0", "img1")], config.labels_per_pair)
    with torch.no_grad():
        images = {i: native_input(pairs.features(i)) for i in (sample.source_id, sample.target_id)}
        maps = embed(reference.adapter, images, SIDE, config)
        ours = pair_losses(sample, maps, reference.adapter.logit_scale, config)
        source, target = (unit_length(maps[i][None])[0].flatten(1).T for i in images)
        plain = reference.losses(source, target, sample)
    if not torch.allclose(ours, plain, rtol=1e-3, atol=1e-3):
        raise AssertionError(f"the two loops do not minimise the same: {ours.tolist()} and {plain.tolist()}")


def _training_set(folder: Path) -> LabelledPairs:
    """Images of random features on disk, and all ordered pairs of them with random labels."""
    rng = np.random.default_rng(0)
    box = Letterbox(840, 840, side=SIDE)
    for i in range(IMAGES):
        dino = rng.normal(size=(CHANNELS, SIDE, SIDE)).astype(np.float16)
        features = Features(f"img{i}", box, np.ones((SIDE, SIDE), bool), 840.0, {"dino": dino})
        (folder / f"img{i}").write_bytes(encode_features(features))
    rows = [_labels(rng, box, f"img{s}", f"img{t}") for s in range(IMAGES) for t in range(IMAGES) if s != t]
    return LabelledPairs(rows, lambda image_id: decode_features((folder / image_id).read_bytes(), image_id), cache_bytes=0)


def _labels(rng: np.random.Generator, box: Letterbox, source: str, target: str) -> Labels:
    zeros = np.zeros(LABELS, np.float32)
    ends = [box.centres(rng.integers(0, SIDE * SIDE, LABELS)) for _ in range(2)]
    return Labels(
        pair_id_of(source, target), source, target, "thing", ends[0], ends[1], zeros, zeros, zeros, 840.0, 14.0, LABELS, LABELS, LABELS
    )  # fmt: skip

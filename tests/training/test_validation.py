"""Validation scores are the evaluation's PCK and the loss; the held-out pairs follow from the ids."""

import dataclasses
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sc3d.config import EvaluateConfig
from sc3d.config_file import load_config
from sc3d.evaluation.pck import pck, score_pair
from sc3d.evaluation.readout import CellDescriptors
from sc3d.features import Features
from sc3d.records import ImageRecord
from training.adapter import Adapter
from training.validation import Validation, ValidationPair, held_out_pairs

CONFIG = dataclasses.replace(load_config(None, ["train.preset=3d-sc"]).train, channels=16, labels_per_pair=6, window=0)


@pytest.fixture
def features(toy_pairs: ModuleType) -> dict[str, Features]:
    return toy_pairs.make_features()  # type: ignore[no-any-return]


@pytest.fixture
def adapter() -> Adapter:
    torch.manual_seed(3)
    return Adapter([4, 12], 16).eval()


def _pairs(toy_pairs: ModuleType, features: dict[str, Features]) -> list[ValidationPair]:
    return [ValidationPair(r.pair_id, r.source_xy, r.target_xy) for r in toy_pairs.make_labels(features, every=5)]


def test_pck_is_that_of_the_evaluation(toy_pairs: ModuleType, features: dict[str, Features], adapter: Adapter) -> None:
    pairs = _pairs(toy_pairs, features)
    scored = []
    for pair in pairs:
        ends = [features[name] for name in pair.pair_id.split("~")]
        ids = np.arange(len(pair.source_xy), dtype=np.int32)
        source, target = (
            ImageRecord(f.image_id, "", "thing", bbox=np.array([0, 0, 60, 80], np.float32), keypoint_ids=ids, keypoint_xy=xy)
            for f, xy in zip(ends, (pair.source_xy, pair.target_xy), strict=True)
        )
        first, second = (CellDescriptors.of_map(adapter.describe(f), f.letterbox) for f in ends)
        scored += score_pair(source, target, (first, second), EvaluateConfig(masking="infinity"))
    expected = pck([one for one in scored if "window" in one.method], 0.1)[0]
    assert 0 < expected < 1
    # The images' extent is the longer side of this box.
    assert Validation(pairs, features.__getitem__, CONFIG).score(adapter).pck == pytest.approx(expected)
    twice = [dataclasses.replace(pair, size=160.0) for pair in pairs]
    assert Validation(twice, features.__getitem__, CONFIG).score(adapter).pck > expected


def test_workers_share_the_pairs_and_get_one_score(toy_pairs: ModuleType, features: dict[str, Features], adapter: Adapter) -> None:
    validation = Validation(_pairs(toy_pairs, features)[:7], features.__getitem__, CONFIG)
    sums: list[torch.Tensor] = []
    for rank in range(3):
        validation.score(adapter, rank, 3, lambda t: sums.append(t.clone()) or t)
    assert [int(s[2]) for s in sums] == [3, 2, 2]
    together = validation.score(adapter, 0, 3, lambda _: torch.stack(sums).sum(dim=0))
    np.testing.assert_allclose(together, validation.score(adapter), rtol=1e-6)


def test_the_loss_has_neither_noise_nor_chance(toy_pairs: ModuleType, features: dict[str, Features], adapter: Adapter) -> None:
    pairs = _pairs(toy_pairs, features)
    first, second = (
        Validation(pairs, features.__getitem__, dataclasses.replace(CONFIG, noise=n, dropout=d)).score(adapter).loss
        for n, d in ((0.0, 0.0), (5.0, 0.5))
    )
    assert first == second


@given(st.integers(0, 60), st.floats(0, 0.99), st.integers(1, 30))
def test_held_out_pairs_are_a_share_of_each_category_whatever_their_order(n: int, share: float, most: int) -> None:
    ids = {"a": [f"a{i}~b" for i in range(n)], "c": [f"c{i}~d" for i in range(2 * n)]}
    chosen = held_out_pairs(ids, share, most)
    assert chosen == held_out_pairs({k: v[::-1] for k, v in ids.items()}, share, most)
    assert sum(i.startswith("a") for i in chosen) == min(round(share * n), most)
    assert len(set(chosen)) == len(chosen)

"""Training learns, repeats itself to the bit, resumes to the bit, and stops with a name when it diverges."""

import dataclasses
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from sc3d.config import TrainConfig
from sc3d.config_file import load_config
from sc3d.errors import ConfigError, FeatureError, SchemaError
from sc3d.features import Features
from sc3d.records import Labels
from training.adapter import Adapter
from training.checkpoint import FitResult, StepRecord, finished_result
from training.data import LabelledPairs, PairSample
from training.loop import Clock, DivergenceError, Hooks, Replica, fit
from training.validation import ValidationScore

DIMS = [4, 12]
CONFIG = dataclasses.replace(
    load_config(None, ["train.preset=3d-sc"]).train,
    steps=12,
    pairs_per_step=2,
    labels_per_pair=20,
    channels=16,
    learning_rate=5e-3,
    dropout=0.2,
    noise=0.1,
)


@pytest.fixture
def pairs(toy_pairs: ModuleType) -> LabelledPairs:
    features = toy_pairs.make_features()
    return LabelledPairs(toy_pairs.make_labels(features), features.__getitem__)


def _state(result: FitResult) -> dict[str, torch.Tensor]:
    return result.adapter.state_dict()


def _accuracy(describe: Callable[[Features], np.ndarray], features: dict[str, Features], row: Labels) -> float:
    """Share of cells of a pair whose nearest neighbour is the true one."""
    source, target = (describe(features[i]).reshape(-1, 64) for i in (row.source_id, row.target_id))
    truth = features[row.target_id].letterbox.cells_of(row.target_xy)
    return float((np.argmax(source.T @ target, axis=1) == truth).mean())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"negatives": "map", "both_ways": True, "start_from_features": True},
        {"negatives": "position", "sigma_start": 0.5, "sigma_end": 0.2, "dense_weight": 0.0, "keep_features": 0.1},
    ],
)
def test_the_trained_adapter_finds_what_the_raw_features_hide(toy_pairs: ModuleType, options: dict[str, object]) -> None:
    def raw(image: Features) -> np.ndarray:
        dino = image.sources["dino"].astype(np.float32)
        return dino / np.linalg.norm(dino, axis=0)

    features = toy_pairs.make_features(images=18)
    labels = toy_pairs.make_labels(features)
    unseen = {"img16", "img17"}
    pairs = LabelledPairs([r for r in labels if not unseen & {r.source_id, r.target_id}], features.__getitem__)
    config = _changed(steps=200, learning_rate=1e-2, pairs_per_step=3, labels_per_pair=30, dropout=0.0, **options)
    result = fit(pairs, pairs.feature_dims, config, seed=0)
    held_out = next(r for r in labels if r.pair_id == "img16~img17")
    assert _accuracy(raw, features, held_out) < 0.4
    assert _accuracy(result.adapter.describe, features, held_out) > 0.8
    losses = [r.loss for r in result.history]
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])
    assert result.history[-1].step == 200


def _changed(**values: object) -> TrainConfig:
    return dataclasses.replace(CONFIG, **values)  # type: ignore[arg-type]


def test_same_seed_same_numbers_other_seed_other_numbers(pairs: LabelledPairs) -> None:
    first, second, other = (fit(pairs, DIMS, CONFIG, seed=s) for s in (1, 1, 2))
    assert first.history == second.history
    assert all(torch.equal(a, b) for a, b in zip(_state(first).values(), _state(second).values(), strict=True))
    assert first.history != other.history


def test_the_callers_random_state_is_neither_read_nor_moved(pairs: LabelledPairs) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = fit(pairs, DIMS, CONFIG, seed=1)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(6)
    assert fit(pairs, DIMS, CONFIG, seed=1).history == first.history


@pytest.mark.parametrize("cut", [1, 5, 12])
def test_resuming_gives_the_losses_of_an_unbroken_run(pairs: LabelledPairs, cut: int) -> None:
    saved: dict[int, bytes] = {}
    scores = iter(range(100))
    seen: list[StepRecord] = []

    def keep(data: bytes) -> None:
        saved[len(seen)] = data

    hooks = Hooks(validate=lambda _: ValidationScore(next(scores), 1.0), validate_every=4, on_checkpoint=keep, checkpoint_every=1)
    whole = fit(pairs, DIMS, CONFIG, seed=3, on_step=seen.append, hooks=hooks)
    scores = iter(range(sum(record.step <= cut for record in whole.validation), 100))
    resumed_steps: list[StepRecord] = []
    resumed = fit(pairs, DIMS, CONFIG, seed=3, on_step=resumed_steps.append, checkpoint=saved[cut], hooks=hooks)
    assert [r.step for r in resumed_steps] == list(range(cut + 1, 13))
    assert resumed.history == whole.history
    assert resumed.validation == whole.validation == [(4, 0.0, 1.0), (8, 1.0, 1.0), (12, 2.0, 1.0)]
    assert all(torch.equal(a, b) for a, b in zip(_state(resumed).values(), _state(whole).values(), strict=True))
    finished = finished_result(saved[12])
    assert finished.history == whole.history
    assert all(torch.equal(a, b) for a, b in zip(_state(finished).values(), _state(whole).values(), strict=True))


def test_a_checkpoint_of_another_configuration_names_what_changed(pairs: LabelledPairs) -> None:
    saved: list[bytes] = []
    fit(pairs, DIMS, CONFIG, seed=3, hooks=Hooks(on_checkpoint=saved.append))
    assert len(saved) == 1
    changed = _changed(learning_rate=1e-3)
    with pytest.raises(ConfigError, match=r"learning_rate: 0.005 -> 0.001"):
        fit(pairs, DIMS, changed, seed=3, checkpoint=saved[0])
    more_workers = _changed(workers=2)
    assert len(fit(pairs, DIMS, more_workers, seed=3, checkpoint=saved[0]).history) == CONFIG.steps


@pytest.mark.parametrize("data", [b"", b"not a checkpoint"])
def test_a_damaged_checkpoint_is_a_typed_error(pairs: LabelledPairs, data: bytes) -> None:
    with pytest.raises(SchemaError, match="delete it"):
        fit(pairs, DIMS, CONFIG, seed=3, checkpoint=data)


def test_a_loss_that_is_not_finite_stops_with_the_pair_and_the_last_good_adapter(toy_pairs: ModuleType) -> None:
    features = toy_pairs.make_features()
    labels = toy_pairs.make_labels(features)
    healthy = LabelledPairs(labels, features.__getitem__)
    # Features that are not finite are refused when they are read, so the poison enters as a label that is nowhere.
    poisoned = [r.replace(target_xy=np.full_like(r.target_xy, 1e38)) if r.pair_id == "img2~img1" else r for r in labels]
    expected = [healthy.pairs_of_step(0, step, 2) for step in range(CONFIG.steps)]
    first_bad = next(i for i, ids in enumerate(expected) if "img2~img1" in ids)
    with pytest.raises(DivergenceError, match="img2~img1") as caught:
        fit(LabelledPairs(poisoned, features.__getitem__), DIMS, CONFIG, seed=0)
    assert len(caught.value.result.history) == first_bad
    reference: list[dict[str, torch.Tensor]] = []

    def keep(adapter: Adapter) -> ValidationScore:
        reference.append({k: v.clone() for k, v in adapter.state_dict().items()})
        return ValidationScore(0.0, 0.0)

    hooks = Hooks(validate=keep, validate_every=1)
    fit(healthy, DIMS, CONFIG, seed=0, hooks=hooks)
    good = caught.value.result.adapter.state_dict()
    assert all(torch.isfinite(v).all() for v in good.values())
    if first_bad:
        assert all(torch.equal(good[k], v) for k, v in reference[first_bad - 1].items())


def test_an_image_with_other_sources_is_named(pairs: LabelledPairs) -> None:
    with pytest.raises(FeatureError, match=r"img\d.*\[4, 13\].*\[4, 12\]"):
        fit(pairs, [4, 13], CONFIG, seed=0)


def test_images_on_other_grids_are_named(toy_pairs: ModuleType) -> None:
    features = toy_pairs.make_features()
    coarse = {**features["img1"].sources, "sd.s3": np.zeros((4, 2, 2), np.float16)}
    mixed = {**features, "img1": dataclasses.replace(features["img1"], sources=coarse)}
    with pytest.raises(FeatureError, match=r"\(2, 2\).*img.*describe all images"):
        fit(LabelledPairs(toy_pairs.make_labels(features), mixed.__getitem__), DIMS, CONFIG, seed=0)


def test_steps_that_cannot_be_shared_evenly_are_refused(pairs: LabelledPairs) -> None:
    with pytest.raises(ConfigError, match=r"pairs_per_step = 2.*3 workers"):
        fit(pairs, DIMS, CONFIG, seed=0, replica=Replica(0, 3))


def test_each_distinct_image_is_embedded_once_a_step(pairs: LabelledPairs, monkeypatch: pytest.MonkeyPatch) -> None:
    images: list[int] = []
    forward = Adapter.forward

    def counting(self: Adapter, x: list[torch.Tensor], size: tuple[int, int]) -> torch.Tensor:
        images.append(len(x[0]))
        return forward(self, x, size)

    monkeypatch.setattr(Adapter, "forward", counting)
    config = _changed(pairs_per_step=3, steps=4)
    fit(pairs, DIMS, config, seed=0)
    # Three pairs of one source: four images a step.
    assert sum(images) == 4 * 4


def test_a_run_that_diverges_leaves_its_last_good_state_as_checkpoint(toy_pairs: ModuleType) -> None:
    features = toy_pairs.make_features()
    labels = toy_pairs.make_labels(features)
    poisoned = [r.replace(target_xy=np.full_like(r.target_xy, 1e38)) if r.pair_id == "img2~img1" else r for r in labels]
    pairs = LabelledPairs(poisoned, features.__getitem__)
    saved: list[bytes] = []
    with pytest.raises(DivergenceError) as caught:
        fit(pairs, DIMS, CONFIG, seed=4, hooks=Hooks(on_checkpoint=saved.append))
    kept = finished_result(saved[-1])
    assert kept.history == caught.value.result.history
    assert len(kept.history) > 0, "choose another seed: the first step is the bad one"
    assert all(torch.isfinite(v).all() for v in _state(kept).values())


def test_checkpoints_are_also_written_by_time(pairs: LabelledPairs) -> None:
    saved: list[bytes] = []
    fit(pairs, DIMS, CONFIG, seed=3, hooks=Hooks(on_checkpoint=saved.append, checkpoint_seconds=0.0))
    assert len(saved) == CONFIG.steps
    saved.clear()
    fit(pairs, DIMS, CONFIG, seed=3, hooks=Hooks(on_checkpoint=saved.append, checkpoint_seconds=1e9))
    assert len(saved) == 1


def test_the_best_so_far_are_told_and_none_that_is_only_as_good(pairs: LabelledPairs) -> None:
    scores = iter([(0.2, 5.0), (0.2, 4.0), (0.1, 6.0), (0.5, 4.0)])
    best: list[tuple[str, int]] = []
    hooks = Hooks(
        validate=lambda _: ValidationScore(*next(scores)), validate_every=3, on_best=lambda by, _, r: best.append((by, r.step))
    )
    fit(pairs, DIMS, CONFIG, seed=3, hooks=hooks)
    assert best == [("pck", 3), ("loss", 3), ("loss", 6), ("pck", 12)]


def test_training_goes_on_from_an_initial_adapter(pairs: LabelledPairs) -> None:
    initial = fit(pairs, DIMS, CONFIG, seed=5).adapter
    tame = _changed(steps=1, learning_rate=1e-9)
    found = _state(fit(pairs, DIMS, tame, seed=6, initial=initial))
    for key, value in initial.state_dict().items():
        torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-6)
    with pytest.raises(FeatureError, match=r"train\.initial.*\[4, 12\].*\[12\]"):
        fit(pairs, [12], tame, seed=6, initial=initial)
    with pytest.raises(FeatureError, match=r"16 channels, train\.channels = 8"):
        fit(pairs, DIMS, _changed(channels=8), seed=6, initial=initial)


def test_how_much_of_the_features_is_kept_is_not_taken_from_the_initial_adapter(pairs: LabelledPairs) -> None:
    plain, keeping = (_changed(steps=1, learning_rate=1e-9, keep_features=share) for share in (0.0, 0.4))
    both = {share: fit(pairs, DIMS, config, seed=5).adapter for share, config in ((0.0, plain), (0.4, keeping))}
    assert both[0.0].kept is None
    assert fit(pairs, DIMS, plain, seed=6, initial=both[0.4]).adapter.kept is None
    kept = fit(pairs, DIMS, keeping, seed=6, initial=both[0.0]).adapter.kept
    assert kept is not None
    assert float(kept.share) == pytest.approx(0.4)


def test_bfloat16_trains_to_nearly_the_same(pairs: LabelledPairs) -> None:
    whole, half = (fit(pairs, DIMS, _changed(precision=p), seed=3) for p in ("float32", "bfloat16"))
    assert whole.history != half.history
    np.testing.assert_allclose([r.loss for r in half.history], [r.loss for r in whole.history], rtol=0.05)
    assert all(v.dtype == torch.float32 for v in _state(half).values())
    assert fit(pairs, DIMS, _changed(precision="auto"), seed=3).history == whole.history, "a CPU stays with float32"


def test_labels_that_are_drawn_once_are_the_same_at_every_step(pairs: LabelledPairs, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, dict[str, set[tuple[int, ...]]]] = {"once": {}, "every_step": {}}
    sample = LabelledPairs.sample
    for draws, seen in drawn.items():

        def noting(*args: Any, seen: dict[str, set[tuple[int, ...]]] = seen) -> list[PairSample]:
            found = sample(*args)
            for one in found:
                seen.setdefault(one.pair_id, set()).add(tuple(one.source_cells))
            return found

        monkeypatch.setattr(LabelledPairs, "sample", noting)
        fit(pairs, DIMS, _changed(draws=draws), seed=3)
    assert {len(cells) for cells in drawn["once"].values()} == {1}
    assert max(len(cells) for cells in drawn["every_step"].values()) > 1


def test_time_is_kept(pairs: LabelledPairs) -> None:
    clock = Clock()
    fit(pairs, DIMS, CONFIG, seed=3, clock=clock)
    assert clock.steps == CONFIG.steps
    assert 0 <= clock.waited < clock.seconds

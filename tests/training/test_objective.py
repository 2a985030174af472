"""What a step minimises, against the design of DIY-SC: the whole correlation of two images, and the flow read from it."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional

from sc3d.config import TrainConfig
from sc3d.config_file import load_config, to_values
from sc3d.config_presets import PRESETS, PROFILES
from training.adapter import Adapter
from training.data import PairSample
from training.losses import cell_similarity, position_loss
from training.objective import embed, pair_losses

SIDE = 6
PAPER = load_config(None, ["train.preset=3d-sc"]).train


def _maps(seed: int) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {name: torch.rand(5, SIDE, SIDE, generator=random, dtype=torch.float64) for name in ("a", "b")}


def _sample(n: int = 7) -> PairSample:
    rng = np.random.default_rng(1)
    source, target = rng.integers(0, SIDE * SIDE, (2, n))
    centres = [np.stack([c % SIDE, c // SIDE], axis=1) + 0.5 for c in (source, target)]
    return PairSample("a~b", "a", "b", source, target, *centres, rng.uniform(0.1, 1, n))


def _upstream(maps: dict[str, torch.Tensor], sample: PairSample, logit_scale: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The two losses as DIY-SC's training has them, without noise: CLIP's, and the end-point error of the flow."""
    source, target = (functional.normalize(maps[i].flatten(1).T, dim=1) for i in ("a", "b"))
    logits = logit_scale.exp() * source[sample.source_cells] @ target[sample.target_cells].T
    own = torch.arange(len(logits))
    sparse = (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2
    weights = torch.softmax((source @ target.T) / 0.02, dim=1).reshape(-1, SIDE, SIDE)
    axis = torch.arange(SIDE, dtype=torch.float64)
    here = torch.stack([axis.repeat(SIDE), axis.repeat_interleave(SIDE)], dim=1)
    flow = torch.stack([weights.sum(1) @ axis, weights.sum(2) @ axis], dim=1) - here
    truth = torch.from_numpy(sample.target_xy - sample.source_xy)
    return sparse, (flow[sample.source_cells] - truth).norm(dim=1).mean()


def test_the_preset_of_diy_sc_has_its_losses_and_gradients() -> None:
    config = load_config(None, ["train.preset=diy-sc"]).train
    maps, sample = _maps(0), _sample()
    for tensor in maps.values():
        tensor.requires_grad_()
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    ours = pair_losses(sample, maps, scale, config)
    theirs = torch.stack(_upstream(maps, sample, scale))
    # Ours rounds the length of an error off at a hundredth of a cell.
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    gradients = [torch.autograd.grad(losses.sum(), [*maps.values(), scale]) for losses in (ours, theirs)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("preset", ["3d-sc", "diy-sc"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"both_ways": True},
        {"negatives": "map", "both_ways": True},
        {"negatives": "map", "both_ways": True, "confidence": "geodesic"},
        {"confidence": "geodesic"},
        {"negatives": "position", "both_ways": True, "confidence": "geodesic"},
        {"negatives": "position", "dense_weight": 0.3},
    ],
)
def test_gradients_by_finite_differences(preset: str, options: dict[str, object]) -> None:
    config = dataclasses.replace(load_config(None, [f"train.preset={preset}"]).train, **options)  # type: ignore[arg-type]
    maps, sample = _maps(2), _sample(4)
    scale = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)

    def losses(a: torch.Tensor, b: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        return pair_losses(sample, {"a": a, "b": b}, k, config)

    assert torch.autograd.gradcheck(losses, (maps["a"].requires_grad_(), maps["b"].requires_grad_(), scale))


@pytest.mark.parametrize("negatives", ["labels", "map"])
def test_confidence_weighs_labels_in_both_losses(negatives: str) -> None:
    maps, sample = _maps(0), _sample(2)
    weighted, plain = (
        dataclasses.replace(PAPER, window=0, noise=0.0, negatives=negatives, confidence=c)
        for c in ("geodesic", "none")  # type: ignore[arg-type]
    )
    scale = torch.tensor(1.0)
    with_one = dataclasses.replace(sample, confidence=np.array([1.0, 1e-12]))
    alone = pair_losses(sample.at(np.array([0])), maps, scale, plain)
    found = pair_losses(with_one, maps, scale, weighted)
    assert float(found[1]) == pytest.approx(float(alone[1]), rel=1e-6)
    even = dataclasses.replace(sample, confidence=np.full(2, 0.3))
    torch.testing.assert_close(pair_losses(even, maps, scale, weighted), pair_losses(sample, maps, scale, plain))
    assert not torch.allclose(pair_losses(with_one, maps, scale, weighted)[0], pair_losses(sample, maps, scale, plain)[0])


def test_the_position_is_asked_for_at_both_ends_with_the_width_of_the_step() -> None:
    maps, sample = _maps(0), _sample()
    config = TrainConfig(negatives="position", sigma_start=2.0, sigma_end=0.4, dense_weight=0.0)
    scale = torch.tensor(1.5, dtype=torch.float64)
    similarity = [cell_similarity(maps[s], torch.from_numpy(c), maps[t]) for s, t, c in
                  (("a", "b", sample.source_cells), ("b", "a", sample.target_cells))]  # fmt: skip
    ends = [torch.from_numpy(xy) for xy in (sample.target_xy, sample.source_xy)]
    for progress, sigma in ((0.0, 2.0), (1 / 3, 1.2), (1.0, 0.4)):
        expected = sum(position_loss(s, scale, SIDE, xy, sigma) for s, xy in zip(similarity, ends, strict=True)) / 2
        found = pair_losses(sample, maps, scale, config, progress=progress)
        torch.testing.assert_close(found, torch.stack([torch.as_tensor(expected), torch.zeros((), dtype=torch.float64)]))


def test_the_dense_loss_counts_by_its_weight() -> None:
    maps, sample, scale = _maps(0), _sample(), torch.tensor(1.0)
    whole, part, none = (
        pair_losses(sample, maps, scale, dataclasses.replace(PAPER, both_ways=True, dense_weight=weight))
        for weight in (1.0, 0.25, 0.0)
    )
    assert float(part[1]) == pytest.approx(float(whole[1]) / 4)
    assert float(none[1]) == 0.0
    assert part[0] == whole[0] == none[0]


def test_noise_is_in_cells_or_in_shares_of_the_labels_reach() -> None:
    maps, sample = _maps(0), _sample(30)
    base = dataclasses.replace(PAPER, window=0, noise=0.0)

    def dense(**options: object) -> float:
        config = dataclasses.replace(base, **options)  # type: ignore[arg-type]
        return float(pair_losses(sample, maps, torch.tensor(1.0), config, np.random.default_rng(5))[1])

    reach = float(sample.target_xy.max())
    assert dense(noise=0.3 * reach) == pytest.approx(dense(noise=0.3, noise_unit="reach"), rel=1e-9)
    assert dense(noise=0.3) != dense()


def test_presets_are_the_published_settings_and_give_way_to_options() -> None:
    paper = PAPER
    assert {name: getattr(paper, name) for name in PRESETS["3d-sc"]} == PRESETS["3d-sc"]
    assert (paper.steps, paper.pairs_per_step, paper.labels_per_pair, paper.channels) == (200_000, 1, 50, 768)
    assert (paper.learning_rate, paper.weight_decay, paper.window) == (5e-3, 1e-3, 7)
    theirs = load_config(None, ["train.preset=diy-sc"]).train
    assert (theirs.window, theirs.draws, theirs.duplicates, theirs.dropout) == (0, "once", "keep", 0.2)
    # Half of GAUSSIAN_AUGMENT = 0.1 of the largest coordinate.
    assert (theirs.noise, theirs.noise_unit) == (0.05, "reach")
    assert load_config(None, ["train.dropout=0.1", "train.preset=diy-sc"]).train.dropout == 0.1
    stored = {"train": {"preset": "3d-sc", "window": 3, "steps": 9}}
    assert load_config(None, [], stored).train.window == 3
    changed = load_config(None, ["train.preset=diy-sc"], stored).train
    assert (changed.window, changed.steps) == (0, 9)


def test_a_profile_chooses_its_preset_and_gives_way_to_another() -> None:
    light, foundation = (load_config(None, [f"profile={name}"]) for name in ("light", "foundation"))
    assert light.train == load_config().train == TrainConfig()
    assert {name: getattr(light.train, name) for name in PRESETS["position"]} == PRESETS["position"]
    assert foundation.train == PAPER
    assert load_config(None, ["profile=light", "train.preset=3d-sc"]).train == PAPER
    # What a run was made with stays until another profile or preset is chosen.
    stored = to_values(light)
    assert load_config(None, ["train.steps=7"], stored).train.keep_features == TrainConfig().keep_features
    assert load_config(None, ["profile=foundation"], stored).train == PAPER
    assert load_config(None, ["profile=light"], to_values(foundation)).train == light.train
    # Defaults that name no preset, as the demo's, count under any profile.
    for name in PROFILES:
        assert load_config(None, [f"profile={name}"], {"train": {"dropout": 0.3, "window": 2}}).train.window == 2


def test_images_are_embedded_alike_alone_and_together() -> None:
    torch.manual_seed(0)
    adapter = Adapter([3, 4], 8)
    images = {name: [torch.randn(1, 3, 3, 3), torch.randn(1, 4, 6, 6)] for name in "abc"}
    together = adapter([torch.cat(parts) for parts in zip(*images.values(), strict=True)], (6, 6))
    for found, expected in zip(embed(adapter, images, 6, TrainConfig()).values(), together, strict=True):
        torch.testing.assert_close(found, expected)

"""The losses against plain loops, their gradients against finite differences, and what duplicates do."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from training.losses import (
    annealed,
    cell_similarity,
    dense_loss,
    gaussian_targets,
    map_loss,
    position_loss,
    predict_xy,
    sinkhorn_plan,
    sparse_loss,
)


def _unit(*shape: int, dim: int, seed: int = 0) -> torch.Tensor:
    x = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return functional.normalize(x, dim=dim)


def _cells(n: int) -> torch.Tensor:
    return torch.arange(n)


def test_sparse_loss_is_the_symmetric_cross_entropy() -> None:
    source, target, scale = _unit(4, 6, dim=1), _unit(4, 6, dim=1, seed=1), torch.tensor(1.5, dtype=torch.float64)
    logits = [[math.exp(1.5) * float(s @ t) for t in target] for s in source]
    expected = 0.0
    for i in range(4):
        row = -logits[i][i] + math.log(sum(math.exp(v) for v in logits[i]))
        column = -logits[i][i] + math.log(sum(math.exp(logits[k][i]) for k in range(4)))
        expected += (row + column) / 8
    assert float(sparse_loss(source @ target.T, scale, _cells(4), _cells(4))) == pytest.approx(expected, rel=1e-12)


def test_one_label_has_no_negatives() -> None:
    scale = torch.tensor(2.0, dtype=torch.float64)
    assert float(sparse_loss(torch.full((1, 1), 0.3, dtype=torch.float64), scale, _cells(1), _cells(1))) == 0.0


@given(st.integers(2, 5), st.integers(2, 3))
def test_repeated_labels_are_no_negatives_of_themselves(n: int, times: int) -> None:
    source, target, scale = _unit(n, 6, dim=1), _unit(n, 6, dim=1, seed=1), torch.tensor(2.0, dtype=torch.float64)
    cells = _cells(n)
    # Perfect descriptors: repeating every label must leave the positives' share of the denominator alone.
    perfect = torch.eye(n, dtype=torch.float64)
    repeated = cells.repeat(times)
    masked = sparse_loss(perfect[repeated] @ perfect[repeated].T, torch.tensor(20.0), repeated, repeated)
    kept = sparse_loss(perfect[repeated] @ perfect[repeated].T, torch.tensor(20.0), repeated, repeated, duplicates="keep")
    assert float(masked) < 1e-6
    assert float(kept) > 0.9 * math.log(times)
    once, twice = (sparse_loss(source[c] @ target[c].T, scale, c, c, duplicates=d) for c, d in ((cells, "keep"), (cells, "mask")))
    assert torch.equal(once, twice)


def test_labels_that_share_one_end_are_left_out_of_each_others_denominator() -> None:
    source = _unit(3, 6, dim=1)
    target = _unit(3, 6, dim=1, seed=1)
    scale = torch.tensor(2.0, dtype=torch.float64)
    source_cells, target_cells = torch.tensor([7, 8, 9]), torch.tensor([5, 5, 6])
    logits = math.exp(2.0) * source @ target.T
    rows = [[0, 2], [1, 2], [0, 1, 2]]
    expected = 0.0
    for i, allowed in enumerate(rows):
        expected += float(torch.logsumexp(logits[i, allowed], 0) - logits[i, i]) / 6
        expected += float(torch.logsumexp(logits[allowed, i], 0) - logits[i, i]) / 6
    assert float(sparse_loss(source @ target.T, scale, source_cells, target_cells)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("duplicates", ["mask", "keep"])
def test_sparse_gradient(duplicates: str) -> None:
    inputs = (_unit(5, 4, dim=1), _unit(5, 4, dim=1, seed=1), torch.tensor(0.7, dtype=torch.float64))
    cells = torch.tensor([0, 1, 1, 2, 3])
    for x in inputs:
        x.requires_grad_()
    assert torch.autograd.gradcheck(lambda s, t, k: sparse_loss(s @ t.T, k, _cells(5), cells, duplicates), inputs)  # type: ignore[arg-type]


@given(st.lists(st.floats(0.02, 1), min_size=4, max_size=4))
def test_labels_count_by_their_weights(weights: list[float]) -> None:
    similarity = _unit(4, 6, dim=1) @ _unit(12, 6, dim=1, seed=1).T
    scale, cells = torch.tensor(2.0, dtype=torch.float64), torch.tensor([1, 4, 7, 10])
    truth = torch.rand(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) * 3
    weight, share = torch.tensor(weights, dtype=torch.float64), torch.tensor(weights, dtype=torch.float64) / sum(weights)
    own = similarity[:, cells]
    logits = math.exp(2.0) * own
    rows, columns = (torch.logsumexp(one, 1) - one.diagonal() for one in (logits, logits.T))
    assert float(sparse_loss(own, scale, _cells(4), cells, weights=weight)) == pytest.approx(float(share @ (rows + columns)) / 2)
    alone = [map_loss(similarity[i : i + 1], scale, _cells(1), cells[i : i + 1]) for i in range(4)]
    assert float(map_loss(similarity, scale, _cells(4), cells, weight)) == pytest.approx(float(share @ torch.stack(alone)))
    alone = [dense_loss(similarity[i : i + 1], 4, truth[i : i + 1]) for i in range(4)]
    assert float(dense_loss(similarity, 4, truth, weights=weight)) == pytest.approx(float(share @ torch.stack(alone)))


def _grid(height: int, width: int) -> torch.Tensor:
    """Mutually orthogonal descriptors (C, H, W), one a cell."""
    return torch.eye(height * width, dtype=torch.float64).reshape(-1, height, width)


@pytest.mark.parametrize("window", [0, 2])
def test_dense_prediction_is_the_expected_cell_centre(window: int) -> None:
    target = _unit(6, 5, 7, dim=0)
    source = _unit(3, 6, dim=1, seed=1)
    predicted = predict_xy(source @ target.flatten(1), 7, temperature=0.3, window=window)
    for n in range(3):
        similarity = {(x, y): float(source[n] @ target[:, y, x]) for y in range(5) for x in range(7)}
        bx, by = max(similarity, key=similarity.__getitem__)
        inside = {c: s for c, s in similarity.items() if window == 0 or max(abs(c[0] - bx), abs(c[1] - by)) <= window}
        weights = {c: math.exp(s / 0.3) for c, s in inside.items()}
        total = sum(weights.values())
        expected = [sum(w * (c[axis] + 0.5) for c, w in weights.items()) / total for axis in (0, 1)]
        torch.testing.assert_close(predicted[n], torch.tensor(expected, dtype=torch.float64))


def test_dense_loss_of_perfect_descriptors_is_the_distance_to_the_label() -> None:
    grid = _grid(4, 5)
    cells = torch.tensor([0, 7, 19])
    source = grid.flatten(1)[:, cells].T
    exact = torch.stack([cells % 5, cells // 5], dim=1) + 0.5
    assert float(dense_loss(source @ grid.flatten(1), 5, exact)) == pytest.approx(0.01, abs=1e-6)
    off = exact + torch.tensor([3.0, 4.0])
    assert float(dense_loss(source @ grid.flatten(1), 5, off)) == pytest.approx(5.0, abs=1e-4)


@pytest.mark.parametrize("window", [0, 2])
def test_dense_gradient(window: int) -> None:
    source, target = _unit(3, 4, dim=1).requires_grad_(), _unit(4, 4, 5, dim=0, seed=1).requires_grad_()
    label = torch.tensor([[1.0, 2.0], [3.3, 0.7], [2.5, 3.5]], dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda s, t: dense_loss(s @ t.flatten(1), 5, label, temperature=0.2, window=window), (source, target)
    )


def test_map_loss_is_the_cross_entropy_over_all_cells() -> None:
    generator = torch.Generator().manual_seed(3)
    source = functional.normalize(torch.randn(5, 4, generator=generator, dtype=torch.float64), dim=1)
    target = functional.normalize(torch.randn(4, 3, 6, generator=generator, dtype=torch.float64), dim=0)
    cells = torch.tensor([0, 17, 3, 3, 9])
    scale = torch.tensor(1.2, dtype=torch.float64)
    expected = 0.0
    for row, cell in zip(source, cells.tolist(), strict=True):
        logits = [float(scale.exp() * (row @ target[:, c // 6, c % 6])) for c in range(18)]
        expected -= logits[cell] - math.log(sum(math.exp(v) for v in logits))
    assert float(map_loss(source @ target.flatten(1), scale, _cells(5), cells)) == pytest.approx(expected / 5)
    assert torch.autograd.gradcheck(
        lambda s, t, k: map_loss(s @ t.flatten(1), k, _cells(5), cells),
        [v.clone().requires_grad_() for v in (source, target, scale)],
    )


def test_map_loss_leaves_other_partners_of_one_source_cell_out() -> None:
    target = _grid(2, 3)
    source = (target[:, 0, 0] + target[:, 1, 2]).expand(2, -1)
    scale = torch.tensor(2.0, dtype=torch.float64)
    partners = torch.tensor([0, 5])
    # Each row: its own cell against the four others, without the other label's cell.
    own = math.exp(2.0)
    once = -math.log(math.exp(own) / (math.exp(own) + 4))
    assert float(map_loss(source @ target.flatten(1), scale, torch.tensor([7, 7]), partners)) == pytest.approx(once)
    assert float(map_loss(source @ target.flatten(1), scale, torch.tensor([7, 8]), partners)) > once + 0.5


def test_similarity_is_the_cosine_of_the_chosen_cells_with_all_others() -> None:
    source, target = (
        3 * _unit(4, 2, 3, dim=0),
        torch.randn(4, 2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2)),
    )
    cells = torch.tensor([5, 0, 5])
    expected = functional.normalize(source, dim=0).flatten(1)[:, cells].T @ functional.normalize(target, dim=0).flatten(1)
    torch.testing.assert_close(cell_similarity(source, cells, target), expected)
    assert torch.autograd.gradcheck(lambda s, t: cell_similarity(s, cells, t), (source.requires_grad_(), target.requires_grad_()))


def test_cells_without_a_descriptor_have_similarity_zero_and_a_finite_gradient() -> None:
    source, target = torch.zeros(4, 2, 2, requires_grad=True), torch.zeros(4, 2, 2, requires_grad=True)
    similarity = cell_similarity(source, _cells(4), target)
    similarity.sum().backward()
    assert not similarity.any()
    for x in (source, target):
        assert x.grad is not None
        assert torch.isfinite(x.grad).all()


def test_position_loss_is_the_cross_entropy_against_a_gaussian_around_the_label() -> None:
    similarity = _unit(3, 6, dim=1) @ _unit(12, 6, dim=1, seed=1).T
    scale, sigma = torch.tensor(1.3, dtype=torch.float64), 0.8
    # Within cells, and one at the border of the 3 x 4 grid.
    truth = [(0.7, 1.9), (2.5, 0.5), (3.9, 2.2)]
    expected = 0.0
    for row, (x, y) in zip(similarity.tolist(), truth, strict=True):
        weights = [math.exp(-((c % 4 + 0.5 - x) ** 2 + (c // 4 + 0.5 - y) ** 2) / (2 * sigma**2)) for c in range(12)]
        logits = [math.exp(1.3) * value for value in row]
        total = math.log(sum(math.exp(value) for value in logits))
        expected -= sum(w * (value - total) for w, value in zip(weights, logits, strict=True)) / sum(weights) / 3
    xy = torch.tensor(truth, dtype=torch.float64)
    assert float(position_loss(similarity, scale, 4, xy, sigma)) == pytest.approx(expected)
    # As narrow as that, all but the label's own cell is wrong.
    cells = torch.tensor([4, 2, 11])
    centres = torch.stack([cells % 4, cells // 4], dim=1) + 0.5
    assert float(position_loss(similarity, scale, 4, centres, 0.05)) == pytest.approx(
        float(map_loss(similarity, scale, _cells(3), cells))
    )


def test_position_gradient() -> None:
    xy = torch.tensor([[0.7, 1.9], [2.5, 0.5], [9.0, -2.0]], dtype=torch.float64)
    weights = torch.tensor([1.0, 0.2, 0.6], dtype=torch.float64)
    inputs = (_unit(3, 6, dim=1), _unit(12, 6, dim=1, seed=1), torch.tensor(0.7, dtype=torch.float64))
    for x in inputs:
        x.requires_grad_()
    assert torch.autograd.gradcheck(lambda s, t, k: position_loss(s @ t.T, k, 4, xy, 1.1, weights), inputs)


def test_gaussians_lie_around_their_labels_and_sum_to_one() -> None:
    xy = torch.tensor([[2.25, 1.5], [0.5, 3.5]], dtype=torch.float64)
    wanted = gaussian_targets(4, 6, xy, 0.6)
    torch.testing.assert_close(wanted.sum(dim=1), torch.ones(2, dtype=torch.float64))
    maps = wanted.reshape(2, 4, 6)
    # A quarter of a cell left of the centre of cell (2, 1): the left neighbour counts more than the right one.
    assert maps[0].argmax() == 1 * 6 + 2
    assert maps[0, 1, 1] > maps[0, 1, 3]
    assert float(maps[0, 1, 1] / maps[0, 1, 3]) == pytest.approx(math.exp((1.25**2 - 0.75**2) / (2 * 0.6**2)))


def test_the_width_falls_as_half_a_cosine_and_then_stays() -> None:
    assert annealed(3.0, 1.0, 0.0) == 3.0
    assert annealed(3.0, 1.0, 1 / 3) == pytest.approx(2.0)
    assert annealed(3.0, 1.0, 1 / 6) == pytest.approx(2 + math.cos(math.pi / 4))
    assert annealed(3.0, 1.0, 2 / 3) == annealed(3.0, 1.0, 1.0) == 1.0


def test_a_sinkhorn_plan_is_balanced_and_prefers_what_is_alike() -> None:
    similarity = _unit(5, 4, dim=1) @ _unit(5, 4, dim=1, seed=1).T
    plan = sinkhorn_plan(similarity)
    for axis in (0, 1):
        torch.testing.assert_close(plan.sum(dim=axis), torch.ones(5, dtype=torch.float64))
    # Scaling rows and columns leaves the odds of every 2 x 2 block alone.
    torch.testing.assert_close(
        (plan[0, 0] * plan[1, 1] / plan[0, 1] / plan[1, 0]).log(),
        similarity[0, 0] + similarity[1, 1] - similarity[0, 1] - similarity[1, 0],
    )


def test_soft_targets_share_the_target_out_by_the_plan() -> None:
    similarity, scale = _unit(4, 6, dim=1) @ _unit(4, 6, dim=1, seed=1).T, torch.tensor(1.5, dtype=torch.float64)
    target = 0.7 * torch.eye(4, dtype=torch.float64) + 0.3 * sinkhorn_plan(similarity)
    logits = math.exp(1.5) * similarity
    expected = -(target * logits.log_softmax(1)).sum(1).mean() / 2 - (target.T * logits.T.log_softmax(1)).sum(1).mean() / 2
    found = sparse_loss(similarity, scale, _cells(4), _cells(4), soft=0.3)
    assert float(found) == pytest.approx(float(expected))
    assert float(sparse_loss(similarity, scale, _cells(4), _cells(4), soft=1e-9)) == pytest.approx(
        float(sparse_loss(similarity, scale, _cells(4), _cells(4)))
    )
    # The plan is a constant: gradients are those of a cross-entropy against fixed targets.
    fixed = similarity.clone().requires_grad_()
    logits = math.exp(1.5) * fixed
    plain = -(target * logits.log_softmax(1)).sum(1).mean() / 2 - (target.T * logits.T.log_softmax(1)).sum(1).mean() / 2
    (wanted,) = torch.autograd.grad(plain, fixed)
    (found,) = torch.autograd.grad(sparse_loss(fixed, scale, _cells(4), _cells(4), soft=0.3), fixed)
    torch.testing.assert_close(found, wanted)

"""Which pairs and labels a step sees: bounded, redrawn, seeded, and in the coordinates of the grid."""

from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sc3d.errors import InputError
from sc3d.features import Features
from sc3d.grid import Letterbox
from sc3d.records import Labels
from training.data import LabelledPairs, grid_xy


@pytest.fixture(scope="module")
def features(toy_pairs: ModuleType) -> dict[str, Features]:
    return toy_pairs.make_features()  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def labels(toy_pairs: ModuleType, features: dict[str, Features]) -> list[Labels]:
    return toy_pairs.make_labels(features)  # type: ignore[no-any-return]


def test_every_epoch_takes_each_pair_once_and_shares_sources(labels: list[Labels], features: dict[str, Features]) -> None:
    pairs = LabelledPairs(labels, features.__getitem__)
    assert len(pairs) == 12
    epochs = []
    for epoch in range(2):
        steps = [pairs.pairs_of_step(0, epoch * 4 + k, 3) for k in range(4)]
        assert sorted(p for s in steps for p in s) == sorted(r.pair_id for r in labels)
        assert all(len({p.split("~")[0] for p in s}) == 1 for s in steps)
        epochs.append(steps)
    assert epochs[0] != epochs[1]


@given(st.integers(1, 30), st.integers(0, 100), st.integers(0, 5))
def test_steps_are_always_full_and_depend_on_seed_and_step_alone(size: int, step: int, seed: int) -> None:
    rows = [_row(f"s{i % 3}", f"t{i}") for i in range(7)]
    first, second = (LabelledPairs(r, _no_features) for r in (rows, rows[::-1]))
    taken = first.pairs_of_step(seed, step, size)
    assert len(taken) == size
    assert taken == second.pairs_of_step(seed, step, size)
    first.pairs_of_step(seed + 1, 5 * step, size)
    assert taken == first.pairs_of_step(seed, step, size)


def test_labels_are_redrawn_each_step_without_replacement(labels: list[Labels], features: dict[str, Features]) -> None:
    pairs = LabelledPairs(labels, features.__getitem__)
    row = labels[0]
    draws = [pairs.sample(7, step, [row.pair_id], 50)[0] for step in (0, 1, 0)]
    true = dict(
        zip(
            features[row.source_id].letterbox.cells_of(row.source_xy),
            features[row.target_id].letterbox.cells_of(row.target_xy),
            strict=True,
        )
    )
    for draw in draws:
        assert len(set(draw.source_cells.tolist())) == 50
        assert [true[c] for c in draw.source_cells] == draw.target_cells.tolist()
    assert set(draws[0].source_cells.tolist()) != set(draws[1].source_cells.tolist())
    np.testing.assert_array_equal(draws[0].source_cells, draws[2].source_cells)
    assert len(pairs.sample(7, 0, [row.pair_id], 1000)[0].source_cells) == 64


def test_grid_coordinates_and_cells_of_a_wide_image() -> None:
    # SPair-71k, 500 x 332: scale 1.68, top border 141 (EVALUATION's worked pair): (39, 145) lies at (65.52, 384.60) of 840.
    letterbox = Letterbox(500, 332)
    xy = np.array([[39.0, 145.0]])
    np.testing.assert_allclose(grid_xy(letterbox, xy), [[65.52 / 14, 384.60 / 14]])
    assert letterbox.cells_of(xy)[0] == 27 * 60 + 4
    np.testing.assert_allclose(grid_xy(letterbox, letterbox.centres(np.array([61]))), [[1.5, 1.5]])


def test_pairs_without_labels_are_left_out_and_none_at_all_is_an_error() -> None:
    pairs = LabelledPairs([_row("a", "b", 0), _row("a", "c", 2)], _no_features)
    assert len(pairs) == 1
    assert pairs.image_ids == ["a", "c"]
    with pytest.raises(InputError, match="nothing to train on"):
        LabelledPairs([_row("a", "b", 0)], _no_features)


def test_features_are_loaded_once_within_the_bound(labels: list[Labels], features: dict[str, Features]) -> None:
    loads: list[str] = []

    def load(image_id: str) -> Features:
        loads.append(image_id)
        return features[image_id]

    roomy = LabelledPairs(labels, load)
    for step in range(8):
        roomy.sample(0, step, roomy.pairs_of_step(0, step, 3), 5)
    assert sorted(loads) == sorted(features)
    loads.clear()
    tight = LabelledPairs(labels, load, cache_bytes=0)
    tight.sample(0, 0, ["img0~img1"], 5)
    assert set(loads) == {"img0", "img1"}


def _row(source: str, target: str, n: int = 1) -> Labels:
    zeros = np.zeros(n)
    xy = np.zeros((n, 2))
    return Labels(f"{source}~{target}", source, target, "thing", xy, xy, zeros, zeros, zeros, 1.0, 1.0, n, n, n)


def _no_features(image_id: str) -> Features:
    raise AssertionError(f"{image_id} was loaded")

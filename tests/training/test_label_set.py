"""Labels from files are the labels in memory, without being kept in memory."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pytest

from sc3d.errors import DamagedFileError, InputError, StoreError
from sc3d.records import Labels
from sc3d.store import RunFolder
from training.data import LabelledPairs
from training.label_set import COLUMNS, LabelSet


@pytest.fixture
def rows(toy_pairs: ModuleType) -> list[Labels]:
    labels: list[Labels] = toy_pairs.make_labels(toy_pairs.make_features())
    # As many labels as the pair has places in the list, and none for the first.
    errors = np.random.default_rng(0).uniform(0, 0.05, 64)
    labels = [r.replace(geodesic_error=errors) for r in labels]
    return [r.replace(**{n: getattr(r, n)[:i] for n in _LISTS}, category="ab"[i % 2]) for i, r in enumerate(labels)]


_LISTS = ("source_xy", "target_xy", "cosine", "cycle_error", "geodesic_error")


def _written(run: RunFolder, rows: list[Labels]) -> list[str]:
    """The rows in three files, in another order."""
    names = [f"labels/abc/part{i}.parquet" for i in range(3)]
    for i, name in enumerate(names):
        run.write_records(Labels, name, rows[::-1][i::3])
    return names


def _tables(run: RunFolder, names: list[str]) -> Iterator[pa.Table]:
    return (run.read_table(Labels, name, COLUMNS) for name in names)


def test_files_give_the_pairs_and_coordinates_of_the_records(rows: list[Labels], tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    labels = LabelSet.read(_tables(run, _written(run, rows)), tmp_path / "scratch")
    kept = sorted((r for r in rows if len(r)), key=lambda r: r.pair_id)
    assert labels.pair_ids.to_pylist() == [r.pair_id for r in kept]
    for index, row in enumerate(kept):
        assert labels.index_of(row.pair_id) == index
        for found, expected in zip(labels.coordinates(index), (row.source_xy, row.target_xy), strict=True):
            np.testing.assert_array_equal(found, expected)
            assert not found.flags.owndata, "a copy of all labels"
        tau = 0.05
        assert row.tau_geo == tau
        np.testing.assert_allclose(labels.confidence(index), np.maximum(1 - row.geodesic_error / tau, 0.02), rtol=1e-6)
    assert labels.counts() == {c: sum(r.category == c for r in kept) for c in "ab"}
    assert sorted(labels.ids_by_category()["a"]) == [r.pair_id for r in kept if r.category == "a"]
    assert not list((tmp_path / "scratch").iterdir()), "the file has no name any more"
    with pytest.raises(KeyError):
        labels.index_of(next(r.pair_id for r in rows if not len(r)))


def test_training_on_files_takes_the_steps_of_training_on_records(
    rows: list[Labels], toy_pairs: ModuleType, tmp_path: Path
) -> None:
    features, run = toy_pairs.make_features(), RunFolder(tmp_path / "run")
    streamed = LabelledPairs(LabelSet.read(_tables(run, _written(run, rows)), tmp_path), features.__getitem__)
    held = LabelledPairs(rows, features.__getitem__)
    for step in range(12):
        ids = streamed.pairs_of_step(3, step, 2)
        assert ids == held.pairs_of_step(3, step, 2)
        for one, other in zip(streamed.sample(3, step, ids, 4), held.sample(3, step, ids, 4), strict=True):
            np.testing.assert_array_equal(one.source_cells, other.source_cells)
            np.testing.assert_array_equal(one.target_xy, other.target_xy)


def test_labels_are_not_kept_in_memory(tmp_path: Path, toy_pairs: ModuleType) -> None:
    row = toy_pairs.make_labels(toy_pairs.make_features())[0]
    many = [
        row.replace(
            pair_id=f"s{i}~t{i}", source_id=f"s{i}", target_id=f"t{i}", **{n: np.resize(getattr(row, n), _shape(n)) for n in _LISTS}
        )
        for i in range(64)
    ]
    run = RunFolder(tmp_path / "run")
    names = [f"labels/{i}.parquet" for i in range(4)]
    for i, name in enumerate(names):
        run.write_records(Labels, name, [r.replace(pair_id=f"{i}{r.pair_id}", source_id=f"{i}{r.source_id}") for r in many])
    del many
    before = pa.total_allocated_bytes()
    labels = LabelSet.read(_tables(run, names), tmp_path)
    held = pa.total_allocated_bytes() - before
    assert len(labels) == 256
    # 256 pairs of 4,096 labels, 16 bytes each, are 16 MB.
    assert held < 2**20


def _shape(name: str) -> tuple[int, ...]:
    return (4096, 2) if name.endswith("xy") else (4096,)


def test_held_out_pairs_are_not_trained_on(rows: list[Labels], toy_pairs: ModuleType) -> None:
    features = toy_pairs.make_features()
    ids = sorted(r.pair_id for r in rows if len(r))
    pairs = LabelledPairs(rows, features.__getitem__, held_out=ids[:3])
    assert sorted({i for step in range(8) for i in pairs.pairs_of_step(0, step, 1)}) == ids[3:]
    with pytest.raises(InputError, match="validation_share"):
        LabelledPairs(rows, features.__getitem__, held_out=ids)


def test_labels_without_a_threshold_are_all_as_good(rows: list[Labels]) -> None:
    labels = LabelSet.of([rows[-1].replace(tau_geo=0.0)])
    assert labels.confidence(0).tolist() == [1.0] * len(rows[-1])


def test_a_pair_that_is_there_twice_counts_once(rows: list[Labels]) -> None:
    assert len(LabelSet.of([*rows, rows[-1]])) == len(LabelSet.of(rows))


def test_what_cannot_be_read_or_kept_is_a_typed_error(rows: list[Labels], tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    names = _written(run, rows)
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"train\.cache"):
        LabelSet.read(_tables(run, names), tmp_path / "file")
    with pytest.raises(InputError, match="nothing to train on"):
        LabelSet.read([], tmp_path / "scratch")
    run.write_bytes(names[1], b"PAR1 cut short")
    with pytest.raises(DamagedFileError, match="part1"):
        LabelSet.read(_tables(run, names), tmp_path / "scratch")
    assert not list((tmp_path / "scratch").iterdir())

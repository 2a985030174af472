"""Planned pairs: within category and split, no self-pairs, no duplicates, from the seed alone, and cheap."""

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sc3d.config import PairsConfig
from sc3d.errors import InputError
from sc3d.matching.pairs import plan_pairs, plan_pairs_table
from sc3d.records import ImageRecord, Pair
from sc3d.schema import arrow_schema


def manifest(*groups: tuple[str, str, int]) -> list[ImageRecord]:
    return [ImageRecord(f"{category}-{split}-{i}", "x.jpg", category, split) for category, split, n in groups for i in range(n)]


@given(
    sizes=st.lists(st.integers(0, 12), min_size=4, max_size=4),
    targets=st.integers(1, 12),
    strategy=st.sampled_from(["all", "random"]),
    cap=st.one_of(st.none(), st.integers(1, 60)),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60)
def test_invariants(sizes, targets, strategy, cap, seed):
    groups = [(c, s, n) for (c, s), n in zip([("cat", "trn"), ("cat", "val"), ("dog", "trn"), ("dog", "test")], sizes, strict=True)]
    images = manifest(*groups)
    config = PairsConfig(strategy=strategy, targets=targets, max_per_category=cap)
    pairs = plan_pairs(images, config, seed)
    by_id = {i.image_id: i for i in images}
    for pair in pairs:
        source, target = by_id[pair.source_id], by_id[pair.target_id]
        assert pair.source_id != pair.target_id
        assert (pair.category, pair.split) == (source.category, source.split) == (target.category, target.split)
    assert len({p.pair_id for p in pairs}) == len(pairs)
    per_source = {(c, s): n - 1 if strategy == "all" else min(targets, n - 1) for c, s, n in groups}
    for category in ("cat", "dog"):
        full = sum(n * per_source[c, s] for c, s, n in groups if c == category)
        assert sum(p.category == category for p in pairs) == min(full, cap if cap is not None else full)
    if cap is None:
        counts = Counter(p.source_id for p in pairs)
        assert all(counts[i.image_id] == max(per_source[i.category, i.split], 0) for i in images)
    shuffled = images[:]
    random.Random(seed).shuffle(shuffled)
    assert plan_pairs_table(shuffled, config, seed).equals(plan_pairs_table(images, config, seed))


def test_seed_decides_and_other_categories_do_not():
    config = PairsConfig(targets=3)
    dogs, cats = manifest(("dog", "trn", 40)), manifest(("cat", "trn", 20))
    ids = [p.pair_id for p in plan_pairs(dogs, config, 1)]
    assert ids != [p.pair_id for p in plan_pairs(dogs, config, 2)]
    assert ids == [p.pair_id for p in plan_pairs(cats + dogs, config, 1) if p.category == "dog"]


@pytest.mark.parametrize("targets", [2, 30])
def test_targets_are_drawn_evenly(targets):
    """Both ways of drawing (few of many, many of few) give every target the same chance."""
    table = plan_pairs_table(manifest(("cat", "trn", 100)), PairsConfig(targets=targets), 0)
    counts = Counter(table["target_id"].to_pylist())
    hits = np.array([counts[f"cat-trn-{i}"] for i in range(100)])
    assert hits.mean() == targets
    # Binomial: 100 draws a target; six standard deviations.
    assert np.abs(hits - targets).max() < 6 * np.sqrt(targets)


def test_repeated_ids_are_refused():
    with pytest.raises(InputError, match="'cat-trn-0' is in the manifest more than once"):
        plan_pairs(manifest(("cat", "trn", 2), ("cat", "trn", 1)), PairsConfig(), 0)


def test_no_images_and_lonely_images_give_an_empty_table():
    for images in ([], manifest(("cat", "trn", 1), ("dog", "val", 1))):
        table = plan_pairs_table(images, PairsConfig(), 0)
        assert table.num_rows == 0
        assert table.schema.equals(arrow_schema(Pair), check_metadata=True)


def test_a_million_pairs_stay_columns():
    table = plan_pairs_table(manifest(("cat", "trn", 5000), ("dog", "trn", 5000)), PairsConfig(targets=100), 0)
    assert table.num_rows == 1_000_000
    assert table.schema.equals(arrow_schema(Pair), check_metadata=True)
    assert table.nbytes < 200e6
    first = table.slice(0, 1).to_pylist()[0]
    assert first["pair_id"] == f"{first['source_id']}~{first['target_id']}"

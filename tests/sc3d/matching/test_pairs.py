"""Planned pairs: within category and split, no self-pairs, no duplicates, from the seed alone, and cheap."""

import random
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sc3d.config import PairsConfig
from sc3d.errors import ConfigError, InputError
from sc3d.matching.azimuth_chains import azimuth_bins
from sc3d.matching.pairs import CueReader, ImageCues, plan_pairs, plan_pairs_table
from sc3d.records import ImageRecord, Pair
from sc3d.schema import arrow_schema


def manifest(*groups: tuple[str, str, int]) -> list[ImageRecord]:
    return [ImageRecord(f"{category}-{split}-{i}", "x.jpg", category, split) for category, split, n in groups for i in range(n)]


def random_cues(images: list[ImageRecord], strategy: str, seed: int) -> CueReader:
    """Cues of every image, in another order for another seed of the shuffle, but always the same for one id."""

    def read(category: str) -> ImageCues:
        ids = [i.image_id for i in images if i.category == category]
        random.shuffle(ids)
        rngs = [np.random.default_rng([seed, *i.encode()]) for i in ids]
        if strategy == "azimuth":
            return ImageCues(ids, np.array([rng.uniform(0, 360) for rng in rngs]))
        values = np.array([rng.integers(-2, 3, 5) + np.array([1e-3, 0, 0, 0, 0]) for rng in rngs]).reshape(-1, 5)
        return ImageCues(ids, (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32))

    return read


@given(
    sizes=st.lists(st.integers(0, 12), min_size=4, max_size=4),
    targets=st.integers(1, 12),
    strategy=st.sampled_from(["all", "random", "nearest", "azimuth"]),
    cap=st.one_of(st.none(), st.integers(1, 60)),
    seed=st.integers(0, 1000),
)
@settings(max_examples=120)
def test_invariants(sizes, targets, strategy, cap, seed):
    groups = [(c, s, n) for (c, s), n in zip([("cat", "trn"), ("cat", "val"), ("dog", "trn"), ("dog", "test")], sizes, strict=True)]
    images = manifest(*groups)
    config = PairsConfig(strategy=strategy, targets=targets, max_per_category=cap)
    cues = random_cues(images, strategy, seed)
    pairs = plan_pairs(images, config, seed, cues)
    by_id = {i.image_id: i for i in images}
    for pair in pairs:
        source, target = by_id[pair.source_id], by_id[pair.target_id]
        assert pair.source_id != pair.target_id
        assert (pair.category, pair.split) == (source.category, source.split) == (target.category, target.split)
    assert len({p.pair_id for p in pairs}) == len(pairs)
    everything = {p.pair_id for p in plan_pairs(images, PairsConfig(strategy="all"), seed)}
    assert {p.pair_id for p in pairs} <= everything
    shuffled = images[:]
    random.Random(seed).shuffle(shuffled)
    again = plan_pairs_table(shuffled, config, seed, random_cues(shuffled, strategy, seed))
    assert again.equals(plan_pairs_table(images, config, seed, cues))
    assert [p.pair_id for p in pairs] == [
        p.pair_id for p in sorted(pairs, key=lambda p: (p.category, p.split, p.source_id, p.target_id))
    ]
    assert all(sum(p.category == c for p in pairs) <= (cap or 1000) for c in ("cat", "dog"))
    if strategy == "azimuth":
        assert {(p.target_id, p.source_id) for p in pairs} == {(p.source_id, p.target_id) for p in pairs}
        return
    per_source = {(c, s): n - 1 if strategy == "all" else min(targets, n - 1) for c, s, n in groups}
    for category in ("cat", "dog"):
        full = sum(n * per_source[c, s] for c, s, n in groups if c == category)
        assert sum(p.category == category for p in pairs) == min(full, cap if cap is not None else full)
    if cap is None:
        counts = Counter(p.source_id for p in pairs)
        assert all(counts[i.image_id] == max(per_source[i.category, i.split], 0) for i in images)


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


def test_nearest_targets_are_the_most_similar_ones():
    images = manifest(("cat", "trn", 30), ("cat", "val", 9))
    read = random_cues(images, "nearest", 3)
    cues = read("cat")
    vector = dict(zip(cues.image_ids, cues.values.astype(np.float64), strict=True))
    chosen = defaultdict(set)
    for pair in plan_pairs(images, PairsConfig(strategy="nearest", targets=4), 0, read):
        chosen[pair.source_id].add(pair.target_id)
    for image in images:
        others = sorted(i.image_id for i in images if i.split == image.split and i is not image)
        best = sorted(others, key=lambda t: -(vector[t] * vector[image.image_id]).sum())[:4]
        assert chosen[image.image_id] == set(best)


@pytest.mark.parametrize("targets", [2, 9])
def test_azimuth_pairs_are_of_neighbouring_bins_in_both_directions(targets):
    images = manifest(("cat", "trn", 80))
    azimuths = np.random.default_rng(0).uniform(0, 360, 80)
    bin_of = dict(zip([i.image_id for i in images], azimuth_bins(azimuths, 8).tolist(), strict=True))
    config = PairsConfig(strategy="azimuth", targets=targets)
    pairs = plan_pairs(images, config, 0, lambda _: ImageCues([i.image_id for i in images], azimuths))
    assert set(bin_of.values()) == set(range(8))
    assert {(bin_of[p.target_id] - bin_of[p.source_id]) % 8 for p in pairs} == {1, 7}
    assert len(pairs) == 80 * targets
    assert len({p.source_id for p in pairs}) > 60


def test_images_in_one_azimuth_bin_are_paired_with_each_other():
    images = manifest(("cat", "trn", 5))
    config = PairsConfig(strategy="azimuth", targets=2)
    pairs = plan_pairs(images, config, 0, lambda _: ImageCues([i.image_id for i in images], np.full(5, 10.0)))
    assert len(pairs) == 10


@pytest.mark.parametrize("strategy", ["nearest", "azimuth"])
def test_images_without_a_finite_cue_are_left_out(strategy):
    images = manifest(("cat", "trn", 6), ("dog", "trn", 1))
    ids = [f"cat-trn-{i}" for i in range(5)]
    values = np.eye(5) if strategy == "nearest" else np.arange(5) * 60.0
    values[1] = np.nan
    config = PairsConfig(strategy=strategy, targets=9)
    known = {"cat": ImageCues(ids, values), "dog": ImageCues([], values[:0])}
    pairs = plan_pairs(images, config, 0, known.__getitem__)
    assert {p.source_id for p in pairs} == {"cat-trn-0", "cat-trn-2", "cat-trn-3", "cat-trn-4"}
    with pytest.raises(ConfigError, match="plan these pairs after the describe stage"):
        plan_pairs(images, config, 0)
    with pytest.raises(InputError, match="5 images but 4 cues"):
        ImageCues(ids, values[:4])


@pytest.mark.parametrize("strategy", ["nearest", "azimuth"])
def test_plans_from_cues_draw_from_the_streams_of_their_own_category(strategy):
    config = PairsConfig(strategy=strategy, targets=3)
    dogs, cats = manifest(("dog", "trn", 60)), manifest(("cat", "trn", 20))
    read = random_cues(dogs + cats, strategy, 0)
    ids = [p.pair_id for p in plan_pairs(dogs, config, 1, read)]
    assert ids == [p.pair_id for p in plan_pairs(cats + dogs, config, 1, read) if p.category == "dog"]
    if strategy == "azimuth":
        assert ids != [p.pair_id for p in plan_pairs(dogs, config, 2, read)]


def test_a_million_pairs_stay_columns():
    table = plan_pairs_table(manifest(("cat", "trn", 5000), ("dog", "trn", 5000)), PairsConfig(targets=100), 0)
    assert table.num_rows == 1_000_000
    assert table.schema.equals(arrow_schema(Pair), check_metadata=True)
    assert table.nbytes < 200e6
    first = table.slice(0, 1).to_pylist()[0]
    assert first["pair_id"] == f"{first['source_id']}~{first['target_id']}"

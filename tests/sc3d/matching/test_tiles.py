"""Tiles: every pair once, few images a tile, few reads under a small cache, and the same plan whatever the order of the pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sc3d.cache import ByteCache
from sc3d.errors import SchemaError
from sc3d.matching.tiles import Tiles, count_reads, cut_tiles, hilbert_index, plan_tiles
from sc3d.pair_ids import pair_id_of
from sc3d.shards import Shard, cut_shards, item_table

pair_lists = st.sets(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=80).map(list)


def numbers(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    flat = np.array(pairs, np.int64).reshape(-1, 2)
    return flat[:, 0].copy(), flat[:, 1].copy()


def all_pairs(n: int) -> list[tuple[int, int]]:
    return [(a, b) for a in range(n) for b in range(n) if a != b]


def random_pairs(n: int, targets: int) -> list[tuple[int, int]]:
    rng = np.random.default_rng(0)
    return [(a, int(b)) for a in range(n) for b in rng.choice([b for b in range(n) if b != a], targets, replace=False)]


def reads(pairs: list[tuple[int, int]], cached: int) -> int:
    """Reads of the cache that the match stage has, holding ``cached`` images."""
    cache: ByteCache[int, int] = ByteCache(lambda image: image, lambda _: 1, cached)
    for source, target in pairs:
        cache.get(source)
        cache.get(target)
    return cache.misses


def images_a_tile(tiles: Tiles, pairs: list[tuple[int, int]]) -> list[int]:
    members = np.array(pairs)[tiles.order]
    return [len(np.unique(members[a:b])) for a, b in zip(tiles.offsets[:-1], tiles.offsets[1:], strict=True)]


@given(pair_lists, st.integers(1, 70))
def test_each_pair_is_in_one_tile_and_no_tile_is_too_large(pairs: list[tuple[int, int]], size: int) -> None:
    tiles = plan_tiles(*numbers(pairs), size)
    assert sorted(tiles.order.tolist()) == list(range(len(pairs)))
    sizes = np.diff(tiles.offsets)
    assert tiles.offsets[0] == 0
    assert sizes.sum() == len(pairs)
    assert ((sizes > 0) & (sizes <= size)).all()


@given(pair_lists, st.integers(2, 70))
def test_both_directions_of_a_pair_share_a_tile(pairs: list[tuple[int, int]], size: int) -> None:
    tiles = plan_tiles(*numbers(pairs), size)
    tile = {pairs[k]: t for t in range(len(tiles)) for k in tiles.order[tiles.offsets[t] : tiles.offsets[t + 1]]}
    assert all(tile[a, b] == tile[b, a] for a, b in pairs if (b, a) in tile)


def test_a_tile_of_a_dense_list_is_a_block_of_few_images() -> None:
    pairs = all_pairs(60)
    tiles = plan_tiles(*numbers(pairs), 64)
    # A square block of 64 pairs would read 16 images if both directions did not share theirs.
    assert np.mean(images_a_tile(tiles, pairs)) < 14
    ordered = [pairs[k] for k in tiles.order]
    assert reads(ordered, 32) < 0.08 * len(pairs)
    assert reads(ordered, 8) < 0.2 * len(pairs)
    assert reads(pairs, 32) > 0.9 * len(pairs)


@pytest.mark.parametrize("size", [63, 64])
def test_no_tile_of_a_dense_list_is_too_large_though_both_directions_share_one(size: int) -> None:
    pairs = [pair for pair in all_pairs(60) if pair != (0, 1)]
    sizes = np.diff(plan_tiles(*numbers(pairs), size).offsets)
    assert sizes.max() <= size
    assert len(sizes) <= len(pairs) // (size - 1) + 1


@pytest.mark.parametrize(("targets", "most"), [(4, 0.9), (20, 0.5)])
def test_a_sparse_list_is_packed_into_tiles_of_pairs_that_share_images(targets: int, most: float) -> None:
    pairs = random_pairs(300, targets)
    tiles = plan_tiles(*numbers(pairs), 64)
    ordered = [pairs[k] for k in tiles.order]
    assert sum(images_a_tile(tiles, pairs)) < most * len(pairs)
    assert reads(ordered, 32) < most * len(pairs) < reads(pairs, 32)
    assert reads(ordered, 8) < 0.9 * reads(pairs, 8)
    assert len(tiles) <= len(pairs) // 63 + 1


def test_an_image_with_very_many_pairs_is_planned_like_the_others() -> None:
    pairs = [(0, leaf) for leaf in range(1, 3000)]
    tiles = plan_tiles(*numbers(pairs), 64)
    assert max(images_a_tile(tiles, pairs)) == 65
    assert len(tiles) == 47


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=60), st.integers(1, 8))
def test_reads_are_counted_as_the_cache_counts_them(pairs: list[tuple[int, int]], cached: int) -> None:
    assert count_reads(*numbers(pairs), cached) == reads(pairs, cached)


def test_hilbert_s_curve_visits_neighbouring_cells_one_after_the_other() -> None:
    x, y = (part.ravel() for part in np.mgrid[:16, :16])
    index = hilbert_index(x, y)
    assert sorted(index) == list(range(256))
    order = np.argsort(index)
    steps = np.abs(np.diff(x[order])) + np.abs(np.diff(y[order]))
    assert (steps == 1).all()


def named(pairs: list[tuple[int, int]], category: str) -> list[tuple[str, str]]:
    return [(category, pair_id_of(f"{category}_{a:03}", f"{category}_{b:03}")) for a, b in pairs]


@given(pair_lists, pair_lists, st.integers(1, 20), st.randoms())
def test_shards_follow_from_the_set_of_pairs(cars: list, chairs: list, size: int, random: object) -> None:
    items = named(cars, "car") + named(chairs, "tv set")
    shards = cut_tiles(item_table(items), size)
    assert sorted((s.category, i) for s in shards for i in s.ids) == sorted(items)
    assert [s.category for s in shards] == sorted(s.category for s in shards)
    shuffled = list(items)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert cut_tiles(item_table(shuffled), size) == shards


def test_tiles_read_less_than_shards_in_the_order_of_the_ids() -> None:
    items = item_table(named(all_pairs(40), "car"))

    def images(shards: list[Shard]) -> int:
        return sum(len({image for pair in s.ids for image in pair.split("~")}) for s in shards)

    assert 3 * images(cut_tiles(items, 64)) < images(cut_shards(items, 64))


def test_pairs_that_are_none_or_come_twice_are_refused() -> None:
    with pytest.raises(SchemaError, match="'a~b' occurs twice"):
        cut_tiles(item_table([("car", "a~b"), ("car", "b~a"), ("car", "a~b")]), 8)
    for wrong in ("alone", "a~b~c"):
        with pytest.raises(SchemaError, match=f"'{wrong}' is no pair id"):
            cut_tiles(item_table([("car", "a~b"), ("car", wrong)]), 8)

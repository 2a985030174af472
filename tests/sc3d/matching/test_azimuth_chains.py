"""Chains: one image of each of so many neighbouring occupied bins, rare views as often as common ones, pairs of neighbours only."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sc3d.matching.azimuth_chains import azimuth_bins, chained_pairs, draw_chains


def test_bins_are_half_open_and_go_around():
    azimuths = [0, 44.9, 45, 359.99, 360, -1, 725, np.nextafter(360, 0), -1e-20]
    assert azimuth_bins(np.array(azimuths), 8).tolist() == [0, 0, 1, 7, 0, 7, 0, 7, 0]


@given(st.lists(st.integers(0, 7), min_size=2, max_size=40), st.integers(2, 6), st.integers(0, 99))
def test_members_come_from_neighbouring_occupied_bins(bins, length, seed):
    bins = np.array(bins)
    chains = draw_chains(bins, length, 50, np.random.default_rng(seed))
    assert chains.shape == (50, length)
    assert (chains[:, 1:] != chains[:, :-1]).all()
    occupied = sorted(set(bins.tolist()))
    rank = np.array([occupied.index(b) for b in bins])[chains]
    if len(occupied) >= length:
        np.testing.assert_array_equal(rank, (rank[:, :1] + np.arange(length)) % len(occupied))


def test_rare_views_are_drawn_as_often_as_common_ones():
    bins = np.repeat(np.arange(8), [1000, 1, 5, 1000, 1000, 3, 1000, 1])
    chains = draw_chains(bins, 4, 8000, np.random.default_rng(0))
    counts = Counter(bins[chains].ravel().tolist())
    # 32,000 members over 8 bins; six standard deviations of a chain's first bin, times four members.
    assert all(abs(counts[b] - 4000) < 4 * 6 * np.sqrt(1000) for b in range(8))


def neighbours(azimuths: np.ndarray, bins: int, length: int) -> set[tuple[int, int]]:
    """Every unordered pair that a chain can pair, by looking at each."""
    binned = azimuth_bins(azimuths, bins).tolist()
    occupied = sorted(set(binned))
    m, found = len(occupied), set()
    for a in range(len(binned)):
        for b in range(a + 1, len(binned)):
            step = (occupied.index(binned[a]) - occupied.index(binned[b])) % m
            if m < length or (step in (1, m - 1) and step != 0):
                found.add((a, b))
    return found


@given(
    azimuths=st.lists(st.floats(0, 359), min_size=0, max_size=25),
    pairs=st.integers(0, 400),
    bins=st.integers(1, 10),
    length=st.integers(2, 5),
    seed=st.integers(0, 99),
)
def test_pairs_are_neighbours_different_and_as_many_as_wanted(azimuths, pairs, bins, length, seed):
    found = chained_pairs(np.array(azimuths), pairs, bins, length, np.random.default_rng(seed))
    possible = neighbours(np.array(azimuths), bins, length)
    as_tuples = [tuple(row) for row in found.tolist()]
    assert as_tuples == sorted(set(as_tuples))
    assert set(as_tuples) <= possible
    assert len(found) == min(pairs, len(possible))


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_images_have_no_pairs(n):
    assert chained_pairs(np.zeros(n), 10, 8, 4, np.random.default_rng(0)).shape == (0, 2)


def test_a_wish_for_pairs_of_crowded_bins_beside_empty_ones_ends():
    """Six bins of one image and two of 300: nearly everything that is left to find lies between the two crowded ones."""
    azimuths = np.concatenate([np.arange(6) * 45.0, np.repeat([270.0, 315.0], 300)])
    found = chained_pairs(azimuths, 40_000, 8, 4, np.random.default_rng(0))
    assert len(found) == 40_000

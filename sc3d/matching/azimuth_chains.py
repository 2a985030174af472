"""Pairs of images seen from neighbouring sides: chains over azimuth bins.

DIY-SC (Duenkel et al., 2025) draws tuples of images from four neighbouring bins of the annotated azimuth, because matches between
similar views are right more often and chain to distant ones. Here the azimuths are those of estimated poses, a bin without images is
skipped, and only consecutive members of a chain are paired, in both directions.
"""

from __future__ import annotations

import numpy as np


def azimuth_bins(azimuths: np.ndarray, bins: int) -> np.ndarray:
    """The bin (N,) int64, below ``bins``, of azimuths (N,) in degrees: bin b holds [b, b + 1) * 360 / bins."""
    # A tiny negative angle is 360 itself after one remainder.
    turns = np.asarray(azimuths, np.float64) % 360.0 % 360.0 / 360.0
    return np.minimum((turns * bins).astype(np.int64), bins - 1)


def draw_chains(bins: np.ndarray, length: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Random chains of images (count, length) int64.

    Each chain takes one image of each of ``length`` occupied bins that follow each other around the circle; every first bin is as likely
    as any other, so rare views count as much as common ones. Where fewer bins are occupied they are all neighbours, and each member is
    any image but the one before it.

    Args:
        bins: bin of each image (N,), N at least 2.
    """
    n = len(bins)
    occupied, rank, sizes = np.unique(bins, return_inverse=True, return_counts=True)
    if len(occupied) < length:
        chains = np.empty((count, length), np.int64)
        chains[:, 0] = rng.integers(0, n, count)
        for i in range(1, length):
            chains[:, i] = (chains[:, i - 1] + rng.integers(1, n, count)) % n
        return chains
    ranks = (rng.integers(0, len(occupied), count)[:, None] + np.arange(length)) % len(occupied)
    members, first = np.argsort(rank, kind="stable"), np.cumsum(sizes) - sizes
    return members[first[ranks] + rng.integers(0, sizes[ranks])]


def chained_pairs(azimuths: np.ndarray, pairs: int, bins: int, length: int, rng: np.random.Generator) -> np.ndarray:
    """Different unordered pairs (M, 2) int64 of consecutive members of random chains: ``pairs`` of them, or all that there are.

    The lower index comes first, and rows ascend.

    Args:
        azimuths: degrees (N,).
        pairs: how many are wanted.
        bins: bins of the circle.
        length: images a chain, at least 2.
    """
    n = len(azimuths)
    if n < 2:
        return np.zeros((0, 2), np.int64)
    binned = azimuth_bins(azimuths, bins)
    possible = _count_neighbours(binned, length)
    # Drawing what is rarely new takes long; where half of all pairs are wanted, they are listed instead.
    codes = _list_neighbours(binned, length) if 2 * pairs >= possible else _draw(binned, length, pairs, rng)
    if pairs < len(codes):
        codes = codes[np.sort(rng.choice(len(codes), pairs, replace=False, shuffle=False))]
    return np.column_stack(np.divmod(codes, n))


def _draw(bins: np.ndarray, length: int, pairs: int, rng: np.random.Generator) -> np.ndarray:
    codes, effort = np.zeros(0, np.int64), 1
    while len(codes) < pairs:
        count = -(-(pairs - len(codes)) * effort // (length - 1))
        chains = draw_chains(bins, length, count, rng)
        codes = np.union1d(codes, _codes(chains[:, :-1].ravel(), chains[:, 1:].ravel(), len(bins)))
        # Between two small bins there is soon nothing new, so what is missing takes more and more chains.
        effort *= 2
    return codes


def _codes(a: np.ndarray, b: np.ndarray, n: int) -> np.ndarray:
    return np.minimum(a, b) * n + np.maximum(a, b)


def _neighbouring_ranks(occupied: int) -> list[tuple[int, int]]:
    # Two bins are neighbours once, not once in either direction around the circle.
    return [(rank, (rank + 1) % occupied) for rank in range(occupied if occupied > 2 else occupied - 1)]


def _count_neighbours(bins: np.ndarray, length: int) -> int:
    _, sizes = np.unique(bins, return_counts=True)
    if len(sizes) < length:
        return len(bins) * (len(bins) - 1) // 2
    return int(sum(int(sizes[a]) * int(sizes[b]) for a, b in _neighbouring_ranks(len(sizes))))


def _list_neighbours(bins: np.ndarray, length: int) -> np.ndarray:
    n = len(bins)
    occupied, rank = np.unique(bins, return_inverse=True)
    if len(occupied) < length:
        low, high = np.triu_indices(n, 1)
        return _codes(low, high, n)
    members = [np.flatnonzero(rank == r) for r in range(len(occupied))]
    parts = []
    for one, other in _neighbouring_ranks(len(occupied)):
        a, b = np.meshgrid(members[one], members[other])
        parts.append(_codes(a.ravel(), b.ravel(), n))
    return np.sort(np.concatenate(parts))

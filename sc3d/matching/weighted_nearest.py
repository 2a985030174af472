"""Nearest neighbours in both directions under many weightings of three similarity matrices, in one pass over their memory.

Blocks of the matrices stay in the cache while all weightings use them. Maxima are taken over integers that are ordered as the floats are,
since compilers vectorise those and not maxima of floats; where a maximum is, is looked up afterwards, in the one block that holds it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sc3d.kernels import compiled

_ROWS, _COLUMNS = 8, 256
"""Three blocks of so many cells fit in 32 KiB of first-level cache."""


@dataclass(frozen=True)
class WeightedNearest:
    """For S weightings of (N, M) similarities: ``forward`` (S, N) best column of each row and its ``similarity`` (S, N) float32;
    ``backward`` (S, M) best row of each column. The lowest index where several are equal."""

    forward: np.ndarray
    similarity: np.ndarray
    backward: np.ndarray


def weighted_nearest(matrices: tuple[np.ndarray, np.ndarray, np.ndarray], weights: np.ndarray) -> WeightedNearest:
    """Nearest neighbours under ``weights[s, 0] * matrices[0] + weights[s, 1] * matrices[1] + weights[s, 2] * matrices[2]``, for every s.

    Args:
        matrices: three (N, M) float32, contiguous and finite; N and M at least 1.
        weights: (S, 3) float32.
    """
    n_rows, n_columns = matrices[0].shape
    settings = len(weights)
    forward, keys = np.zeros((settings, n_rows), np.int32), np.full((settings, n_rows), np.iinfo(np.int32).min, np.int32)
    backward, best = np.zeros((settings, n_columns), np.int32), np.full((settings, n_columns), np.iinfo(np.int32).min, np.int32)
    _scan(*matrices, weights, forward, keys, backward, best)
    _order(keys.reshape(-1))
    return WeightedNearest(forward.astype(np.int64), keys.view(np.float32), backward.astype(np.int64))


@compiled
def _order(bits: np.ndarray) -> int:
    """Turn the bits of float32 into int32 of the same order, in place; the largest. Done again, it turns them back."""
    best = np.int32(-(2**31))
    for i in range(bits.shape[0]):
        value = bits[i]
        key = np.int32(value ^ ((value >> np.int32(31)) & np.int32(0x7FFFFFFF)))
        bits[i] = key
        best = max(best, key)
    return best


@compiled
def _mix(
    first: np.ndarray, second: np.ndarray, third: np.ndarray, a: np.float32, b: np.float32, c: np.float32, mixed: np.ndarray
) -> None:
    for j in range(mixed.shape[0]):
        mixed[j] = a * first[j] + b * second[j] + c * third[j]


@compiled
def _raise(best: np.ndarray, keys: np.ndarray) -> None:
    for j in range(best.shape[0]):
        best[j] = max(best[j], keys[j])


@compiled
def _scan(
    first: np.ndarray,
    second: np.ndarray,
    third: np.ndarray,
    weights: np.ndarray,
    forward: np.ndarray,
    row_best: np.ndarray,
    backward: np.ndarray,
    column_best: np.ndarray,
) -> None:
    """Fill ``forward`` and ``row_best`` (S, N), ``backward`` and ``column_best`` (S, M); the bests hold keys, at first the least."""
    n_rows, n_columns = first.shape
    mixed, block_best = np.empty(_COLUMNS, np.float32), np.empty(_COLUMNS, np.int32)
    for left in range(0, n_columns, _COLUMNS):
        width = min(_COLUMNS, n_columns - left)
        right = left + width
        values, highest = mixed[:width], block_best[:width]
        keys = values.view(np.int32)
        for top in range(0, n_rows, _ROWS):
            for s in range(weights.shape[0]):
                highest[:] = -(2**31)
                for i in range(top, min(top + _ROWS, n_rows)):
                    _mix(
                        first[i, left:right],
                        second[i, left:right],
                        third[i, left:right],
                        weights[s, 0],
                        weights[s, 1],
                        weights[s, 2],
                        values,
                    )
                    best = _order(keys)
                    _raise(highest, keys)
                    if best > row_best[s, i]:
                        row_best[s, i] = best
                        forward[s, i] = left + _position(keys, best)
                for j in range(width):
                    if highest[j] > column_best[s, left + j]:
                        column_best[s, left + j] = highest[j]
                        backward[s, left + j] = top
    _find_rows(first, second, third, weights, backward, column_best)


@compiled
def _position(keys: np.ndarray, key: int) -> int:
    for j in range(keys.shape[0]):
        if keys[j] == key:
            return j
    return -1


@compiled
def _find_rows(
    first: np.ndarray, second: np.ndarray, third: np.ndarray, weights: np.ndarray, backward: np.ndarray, column_best: np.ndarray
) -> None:
    """Replace the block in ``backward`` (S, M), given by its first row, by the first of its rows that has the best key."""
    value = np.empty(1, np.float32)
    key = value.view(np.int32)
    for s in range(weights.shape[0]):
        for j in range(first.shape[1]):
            for i in range(backward[s, j], first.shape[0]):
                value[0] = weights[s, 0] * first[i, j] + weights[s, 1] * second[i, j] + weights[s, 2] * third[i, j]
                _order(key)
                if key[0] == column_best[s, j]:
                    backward[s, j] = i
                    break

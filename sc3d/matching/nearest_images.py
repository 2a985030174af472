"""The k nearest images of every image by global descriptor: exact, a block of rows at a time, and the same on every machine."""

from __future__ import annotations

import hashlib

import numpy as np

from sc3d.errors import InputError

# A similarity costs four bytes in the product, four in its partitioned copy, and up to four in masks.
_BYTES_AN_ENTRY = 12
# Rows of descriptors that are compared in float64 at once.
_CHUNK = 1024


def nearest_images(descriptors: np.ndarray, k: int, block_bytes: int = 64 * 2**20) -> np.ndarray:
    """For each of N images the k others with the largest cosine; of equal ones those that come first.

    Products are float32. Where that leaves open which images are the k nearest, because others are as near as the k-th up to the
    rounding of a product, float64 decides; so the answer does not depend on blocks, threads or the linear algebra library.

    Args:
        descriptors: (N, C) rows of unit length (or zeros, which are equally far from everything).
        k: 1 <= k < N.
        block_bytes: memory for the similarities, at least one row of them.

    Returns:
        (N, k) int64, ascending in each row.

    Raises:
        InputError: ``k`` is out of range, or the descriptors are not finite.
    """
    values = np.ascontiguousarray(descriptors, np.float32)
    n = len(values)
    if not 1 <= k < n:
        raise InputError(f"{n} images have no {k} nearest others; ask for 1 to {n - 1}")
    if not np.isfinite(values).all():
        raise InputError("global descriptors must be finite; leave out the images whose are not")
    # Rounding errors of a product of C unit-bounded terms add up like a random walk; twice that separates two of them.
    tolerance = np.float32(np.finfo(np.float32).eps * np.sqrt(max(values.shape[1], 1)))
    same_as = _first_equal(values)
    rows = max(1, block_bytes // (_BYTES_AN_ENTRY * n))
    found = np.empty((n, k), np.int64)
    for low in range(0, n, rows):
        block = values[low : low + rows] @ values.T
        own = np.arange(len(block))
        block[own, low + own] = -np.inf
        edge = np.partition(block, n - k, axis=1)[:, n - k, None]
        chosen = block > edge + tolerance
        close = (block >= edge - tolerance) & ~chosen
        wanted = k - np.count_nonzero(chosen, axis=1)
        settled = np.count_nonzero(close, axis=1) == wanted
        for row in np.flatnonzero(~settled):
            candidates = np.flatnonzero(close[row])
            close[row] = False
            close[row, _nearest_of(values, same_as, low + row, candidates, int(wanted[row]))] = True
        found[low : low + rows] = np.nonzero(chosen | close)[1].reshape(-1, k)
    return found


def _first_equal(values: np.ndarray) -> np.ndarray:
    """For each row the first that equals it (N,): copies of one photo are compared once, and tie exactly."""
    first: dict[bytes, int] = {}
    return np.array([first.setdefault(hashlib.blake2b(row.tobytes(), digest_size=16).digest(), i) for i, row in enumerate(values)])


def _nearest_of(values: np.ndarray, same_as: np.ndarray, source: int, candidates: np.ndarray, wanted: int) -> np.ndarray:
    different, position = np.unique(same_as[candidates], return_inverse=True)
    query = values[source].astype(np.float64)
    # Element-wise products summed a row are the same for a row whatever its neighbours are; a matrix product's need not be.
    chunks = (different[start : start + _CHUNK] for start in range(0, len(different), _CHUNK))
    scores = np.concatenate([(values[chunk].astype(np.float64) * query).sum(axis=1) for chunk in chunks])[position]
    return candidates[np.argsort(-scores, kind="stable")[:wanted]]

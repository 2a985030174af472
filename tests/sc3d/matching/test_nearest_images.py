"""Nearest images: the float64 brute-force answer whatever the blocks, ties by position, copies cheap."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sc3d.errors import InputError
from sc3d.matching.nearest_images import nearest_images


def unit(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, np.float32)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), np.float32(1e-12))


def brute_force(values: np.ndarray, k: int) -> np.ndarray:
    """All cosines in float64, one pair at a time; of equal ones the first."""
    exact = values.astype(np.float64)
    rows = []
    for source in range(len(values)):
        others = [t for t in range(len(values)) if t != source]
        others.sort(key=lambda t: (-(exact[t] * exact[source]).sum(), t))
        rows.append(sorted(others[:k]))
    return np.array(rows)


@given(st.integers(2, 40), st.integers(1, 9), st.integers(1, 39), st.integers(1, 4000), st.integers(0, 999))
def test_equals_brute_force_with_copies_zeros_and_ties(n, channels, k, block_bytes, seed):
    rng = np.random.default_rng(seed)
    # Few different integers: many equal rows, rows of zeros, and equal cosines of different rows.
    values = unit(rng.integers(-1, 2, (n, channels)))
    k = min(k, n - 1)
    np.testing.assert_array_equal(nearest_images(values, k, block_bytes), brute_force(values, k))


@pytest.mark.parametrize("spread", [1.0, 1e-2, 3e-4, 1e-6])
def test_float64_decides_between_images_that_float32_cannot_tell_apart(spread):
    rng = np.random.default_rng(1)
    values = unit(rng.normal(size=(1, 600)) + spread * rng.normal(size=(60, 600)))
    expected = brute_force(values, 7)
    np.testing.assert_array_equal(nearest_images(values, 7), expected)
    np.testing.assert_array_equal(nearest_images(values, 7, block_bytes=1), expected)
    if spread < 1e-3:
        plain = values @ values.T
        np.fill_diagonal(plain, -np.inf)
        plain = np.sort(np.argsort(-plain, axis=1, kind="stable")[:, :7], axis=1)
        assert (plain != expected).any(), "the scene is too easy: float32 alone is right"


def test_bad_input_is_refused():
    for k in (0, 3):
        with pytest.raises(InputError, match="3 images have no"):
            nearest_images(np.eye(3), k)
    with pytest.raises(InputError, match="finite"):
        nearest_images(np.full((3, 2), np.nan), 1)

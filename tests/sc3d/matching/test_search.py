"""The clustered search among vertex descriptors is exact, whatever the descriptors look like."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sc3d.errors import FeatureError
from sc3d.matching.search import VertexIndex


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


@given(st.integers(0, 10**6), st.sampled_from(["random", "smooth", "clumps", "equal"]), st.sampled_from([1, 3, 511, 512, 1500]))
@settings(max_examples=40)
def test_search_equals_float64_brute_force(seed, kind, n):
    rng = np.random.default_rng(seed)
    if kind == "smooth":
        values = np.sin(rng.normal(size=(n, 3)) @ rng.normal(size=(3, 24)))
    elif kind == "clumps":
        values = rng.normal(size=(5, 24))[rng.integers(0, 5, n)] + 1e-3 * rng.normal(size=(n, 24))
    else:
        values = rng.normal(size=(n, 24)) if kind == "random" else np.ones((n, 24))
    queries = unit(values[rng.integers(0, n, 50)] + 0.1 * rng.normal(size=(50, 24))).astype(np.float32)
    found = VertexIndex(values.astype(np.float32)).nearest(queries)
    exact = queries.astype(np.float64) @ unit(values).T
    np.testing.assert_allclose(exact[np.arange(50), found], exact.max(axis=1), atol=1e-6, rtol=0)


def test_each_vertex_finds_itself_and_no_query_finds_nothing():
    values = np.random.default_rng(0).normal(size=(2000, 16)).astype(np.float32)
    index = VertexIndex(values)
    np.testing.assert_array_equal(index.nearest(unit(values).astype(np.float32)), np.arange(2000))
    assert index.nearest(np.zeros((0, 16), np.float32)).shape == (0,)


def test_smooth_descriptors_are_mostly_ruled_out(monkeypatch):
    points = unit(np.random.default_rng(0).normal(size=(4000, 3)))
    values = np.sin(points @ np.random.default_rng(1).normal(0, 2, (3, 64))).astype(np.float32)
    index, looked_at = VertexIndex(values), []
    visit = VertexIndex._visit

    def counted(self, cluster, rows, *rest):
        looked_at.append(len(rows) * (self._offsets[cluster + 1] - self._offsets[cluster]))
        visit(self, cluster, rows, *rest)

    monkeypatch.setattr(VertexIndex, "_visit", counted)
    index.nearest(unit(values[::10]).astype(np.float32))
    assert sum(looked_at) < 0.2 * 400 * 4000


def test_unusable_descriptors_are_refused():
    for bad in (np.zeros((0, 4)), np.full((3, 4), np.nan), np.zeros(4)):
        with pytest.raises(FeatureError, match="finite and of shape"):
            VertexIndex(bad)

"""The byte-bounded cache: what it keeps, what it lets go, and that it never holds more than it may."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sc3d.cache import ByteCache
from sc3d.errors import ConfigError


def _cache(max_bytes: int, loads: list[int] | None = None) -> ByteCache[int, bytes]:
    def load(key: int) -> bytes:
        if loads is not None:
            loads.append(key)
        return bytes(key)

    return ByteCache(load, len, max_bytes)


def test_a_value_is_loaded_once_while_it_is_kept() -> None:
    loads: list[int] = []
    cache = _cache(100, loads)
    assert [len(cache.get(k)) for k in (10, 10, 20, 10)] == [10, 10, 20, 10]
    assert loads == [10, 20]
    assert (cache.hits, cache.misses, cache.n_bytes) == (2, 2, 30)


def test_the_least_recently_used_value_goes_first() -> None:
    cache = _cache(60)
    for key in (10, 20, 30, 10, 25):
        cache.get(key)
    assert 10 in cache
    assert 25 in cache
    assert 20 not in cache
    assert 30 not in cache or cache.n_bytes <= 60


def test_a_value_larger_than_the_cache_is_returned_and_evicts_nothing() -> None:
    cache = _cache(50)
    cache.get(30)
    assert len(cache.get(51)) == 51
    assert 30 in cache
    assert 51 not in cache


def test_a_failed_load_is_not_kept() -> None:
    calls = []

    def load(key: str) -> bytes:
        calls.append(key)
        if len(calls) == 1:
            raise ValueError("first time")
        return b"x"

    cache: ByteCache[str, bytes] = ByteCache(load, len, 10)
    with pytest.raises(ValueError, match="first time"):
        cache.get("a")
    assert cache.get("a") == b"x"


def test_negative_bound_is_refused() -> None:
    with pytest.raises(ConfigError, match="-1"):
        _cache(-1)


@given(st.lists(st.integers(0, 40), max_size=60), st.integers(0, 100))
def test_never_over_the_bound_and_always_the_right_value(keys: list[int], max_bytes: int) -> None:
    cache = _cache(max_bytes)
    for key in keys:
        assert len(cache.get(key)) == key
        assert cache.n_bytes <= max_bytes
        assert cache.n_bytes == sum(k for k in range(41) if k in cache)

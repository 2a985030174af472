"""A least-recently-used cache that is bounded by bytes: features differ in size by orders of magnitude, so a count bounds nothing."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from sc3d.errors import ConfigError

KeyT = TypeVar("KeyT", bound=Hashable)
ValueT = TypeVar("ValueT")


class ByteCache(Generic[KeyT, ValueT]):
    """Keeps the most recently used values whose sizes add up to at most ``max_bytes``. Safe to share between threads.

    Args:
        load: makes the value of a key that is not kept. Two threads that miss one key at once may both load it.
        size: bytes of a value. A value larger than the whole cache is returned but not kept.
        max_bytes: the bound; 0 keeps nothing.

    Attributes:
        hits, misses: how often a value was there, and how often it had to be loaded.

    Raises:
        ConfigError: a negative bound.
    """

    def __init__(self, load: Callable[[KeyT], ValueT], size: Callable[[ValueT], int], max_bytes: int) -> None:
        if max_bytes < 0:
            raise ConfigError(f"a cache cannot be bounded by {max_bytes} bytes; use 0 to keep nothing")
        self.max_bytes = max_bytes
        self.hits = 0
        self.misses = 0
        self._load = load
        self._size = size
        self._kept: OrderedDict[KeyT, tuple[ValueT, int]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    @property
    def n_bytes(self) -> int:
        """Bytes of the values that are kept now."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: KeyT) -> bool:
        return key in self._kept

    def get(self, key: KeyT) -> ValueT:
        """The value of ``key``, kept or loaded. Whatever ``load`` raises goes to the caller and nothing is kept."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
                self.hits += 1
                return found[0]
            self.misses += 1
        value = self._load(key)
        size = self._size(value)
        with self._lock:
            if size <= self.max_bytes and key not in self._kept:
                self._kept[key] = (value, size)
                self._bytes += size
                while self._bytes > self.max_bytes:
                    self._bytes -= self._kept.popitem(last=False)[1][1]
        return value

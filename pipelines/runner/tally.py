"""Counts that workers tell the driver while their blocks are still on the way: what a stage has committed shows at once.

The results of a block reach the driver when it leaves the last stage. Until then a small Ray actor knows how many of its ids each stage
has finished. It is for display alone: a retried task may count twice, and what it says is lost with it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from types import TracebackType
from typing import Any

_EVERY_S = 2.0
_NAMESPACE = "sc3d"


class _Counts:
    def __init__(self, positions: int) -> None:
        self._items = [0] * positions

    def add(self, position: int, items: int) -> None:
        self._items[position] += items

    def items(self) -> list[int]:
        return self._items


class Tally:
    """The driver's side, as a context manager: ``show`` gets the counts of all stages every two seconds. Ray must have been started."""

    def __init__(self, name: str, stages: int, show: Callable[[Sequence[int]], None]) -> None:
        import ray

        self._show = show
        self._over = threading.Event()
        actor: Any = ray.remote(num_cpus=0, max_restarts=0)(_Counts)
        self._actor = actor.options(name=name, namespace=_NAMESPACE).remote(stages)
        self._thread = threading.Thread(target=self._go_on, name="sc3d-tally", daemon=True)

    def __enter__(self) -> Tally:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        import ray

        self._over.set()
        self._thread.join(2 * _EVERY_S)
        with suppress(Exception):
            ray.kill(self._actor)

    def _go_on(self) -> None:
        import ray

        while not self._over.wait(_EVERY_S):
            # Without the counts the display only lags behind.
            with suppress(Exception):
                self._show(ray.get(self._actor.items.remote(), timeout=_EVERY_S))


def tell(name: str, position: int, items: int) -> None:
    """Count finished items of a stage, in a worker; without such a tally, nothing happens."""
    actor = _found(name)
    if actor is not None:
        actor.add.remote(position, items)


@lru_cache(maxsize=2)
def _found(name: str) -> Any:
    import ray

    try:
        return ray.get_actor(name, namespace=_NAMESPACE)
    except Exception:  # none was made, or it is gone
        return None

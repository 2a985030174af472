"""How long a training will take: an estimate, told once, from its own first steps."""

from __future__ import annotations

import time
from collections.abc import Callable

from sc3d.durations import duration

_UNTIMED = 3
"""First steps that are not counted: they also load code and features for the first time."""
_STEPS, _SECONDS = 20, 2.0
"""Steps and seconds that an estimate is made from, at least."""


class Pace:
    """Counts the steps of a training, and says how long the rest will take as soon as that can be told.

    Args:
        left: steps that are still to be done.
        say: gets the line.
    """

    def __init__(self, left: int, say: Callable[[str], None], clock: Callable[[], float] = time.perf_counter) -> None:
        self._left, self._say, self._clock = left, say, clock
        self._done, self._from, self._told = 0, 0.0, False

    def step(self) -> None:
        """One more step is done."""
        self._done += 1
        if self._told:
            return
        if self._done == _UNTIMED:
            self._from = self._clock()
            return
        timed, seconds = self._done - _UNTIMED, self._clock() - self._from
        left = self._left - self._done
        if timed < _STEPS or seconds < _SECONDS or left <= 0:
            return
        self._told = True
        self._say(
            f"  train: about {duration(round(seconds / timed * left))} left for {left:,} steps, estimated from {timed} steps, without "
            "validations; Ctrl-C stops, and the same command goes on there"
        )

"""How categories flow from graph to graph: on a cluster a category goes on as soon as all its items are through the graph before.

On a Ray of the run's own, which is one machine, graphs come one after the other: side by side they would only share the same cores.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Queue

import pyarrow as pa

from pipelines.runner.run import GraphRun
from pipelines.runner.stage import StageSummary

_END = None
_STOP_SECONDS = 60.0


@dataclass(frozen=True)
class Leg:
    """A graph on the way. ``items_of`` tells the items of some categories, which are through all earlier graphs."""

    run: GraphRun
    items_of: Callable[[Sequence[str]], pa.Table]


class Flow:
    """Takes categories through legs, side by side where ``overlap`` says so. ``finished`` is told what each stage did."""

    def __init__(self, legs: Sequence[Leg], overlap: bool, finished: Callable[[StageSummary], None]) -> None:
        self._legs, self._overlap, self._finished = legs, overlap and len(legs) > 1, finished
        self._errors: list[BaseException] = []

    def run(self, categories: Sequence[str]) -> None:
        """Take all categories through all legs.

        Raises:
            Sc3dError: what stopped a leg; the others are stopped too.
        """
        if not self._overlap:
            for leg in self._legs:
                leg.run.compute(leg.items_of(categories))
                self._finish(leg)
            return
        queues: list[Queue[str | None]] = [Queue() for _ in range(len(self._legs) + 1)]
        for category in (*categories, _END):
            queues[0].put(category)
        threads = [
            threading.Thread(target=self._follow, args=(leg, queues[i], queues[i + 1]), name=f"sc3d-leg-{i}", daemon=True)
            for i, leg in enumerate(self._legs)
        ]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                # A join without a limit could not be interrupted.
                while thread.is_alive():
                    thread.join(1.0)
        finally:
            self._stop()
            for thread in threads:
                thread.join(_STOP_SECONDS)
        if self._errors:
            raise self._errors[0]

    def _follow(self, leg: Leg, arriving: Queue[str | None], leaving: Queue[str | None]) -> None:
        try:
            while categories := _next(arriving):
                known = [category for category in categories if category is not _END]
                if known and not leg.run.stopped.is_set():
                    leg.run.compute(leg.items_of(known), leaving.put)
                if _END in categories:
                    self._finish(leg)
                    break
        except BaseException as error:  # raised again in the thread that waits for all legs
            self._errors.append(error)
            self._stop()
        finally:
            leaving.put(_END)

    def _finish(self, leg: Leg) -> None:
        for summary in leg.run.finish():
            self._finished(summary)

    def _stop(self) -> None:
        for leg in self._legs:
            leg.run.stopped.set()


def _next(arriving: Queue[str | None]) -> list[str | None]:
    """All that has arrived, at least one: categories that wait are taken together, since each start of a graph costs seconds."""
    found = [arriving.get()]
    while not arriving.empty():
        found.append(arriving.get())
    return found

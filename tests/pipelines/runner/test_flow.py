"""Categories on their way through sections: side by side on a cluster, one after the other on one machine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pytest

from pipelines.runner.flow import Flow, Leg
from pipelines.runner.stage import StageSummary
from sc3d.errors import RejectBudgetError
from sc3d.shards import item_table


class Recorded:
    """A section that notes what it is given. ``before`` runs before a category is through."""

    def __init__(self, name: str, log: list[str], before: Callable[[str], None] = lambda category: None) -> None:
        self.name, self.log, self.before, self.stopped = name, log, before, threading.Event()

    def compute(self, items: pa.Table, on_category: Callable[[str], None] = lambda category: None) -> None:
        for category in items["category"].to_pylist():
            self.before(category)
            if self.stopped.is_set():
                raise InterruptedError
            self.log.append(f"{self.name} {category}")
            on_category(category)

    def finish(self) -> list[StageSummary]:
        return [StageSummary(self.name, 0, 0, 0, 0.0)]


def items(categories: Sequence[str]) -> pa.Table:
    return item_table([(category, f"{category}1") for category in categories])


def flow(runs: Sequence[Any], overlap: bool) -> list[str]:
    finished: list[str] = []
    Flow([Leg(run, items) for run in runs], overlap, lambda summary: finished.append(summary.stage)).run(["a", "b", "c"])
    return finished


def test_without_overlap_a_section_begins_when_the_one_before_has_finished() -> None:
    log: list[str] = []
    assert flow([Recorded("images", log), Recorded("pairs", log)], overlap=False) == ["images", "pairs"]
    assert log == ["images a", "images b", "images c", "pairs a", "pairs b", "pairs c"]


def test_a_category_goes_on_while_others_are_still_in_the_section_before() -> None:
    log: list[str] = []
    matched = threading.Event()

    def wait_for_pairs(category: str) -> None:
        # The last category of images is not through before the first one's pairs are: only side by side can this end.
        if category == "c":
            assert matched.wait(20)

    pairs = Recorded("pairs", log, lambda category: matched.set() if category == "b" else None)
    assert sorted(flow([Recorded("images", log, wait_for_pairs), pairs], overlap=True)) == ["images", "pairs"]
    assert sorted(log) == sorted(f"{name} {category}" for name in ("images", "pairs") for category in "abc")
    assert log.index("pairs a") < log.index("images c")


def test_what_stops_a_section_stops_all_and_is_raised() -> None:
    log: list[str] = []

    def fail(category: str) -> None:
        raise RejectBudgetError("too many")

    images = Recorded("images", log)
    images.before = lambda category: images.stopped.wait(20) and None if category == "b" else None
    with pytest.raises(RejectBudgetError, match="too many"):
        flow([images, Recorded("pairs", log, fail)], overlap=True)
    assert log == ["images a"]

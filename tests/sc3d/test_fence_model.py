"""Every order in which two runs can write one folder, and a third go on: nothing is lost, nothing is there twice.

The program's own lease, fence, seals and commits run against a store in memory, in which each request is a step, and a write may still be
on its way when its writer has long been replaced. A run may be frozen before any step until the other is through, and may be presumed dead
at any time. What is there is looked at before it wakes up, as if it had crashed, and after. All schedules with so many changes from one run
to the other are tried.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pyarrow as pa
import pytest
from orientation_shards import artefacts_in, clean, commit, wanted

from sc3d import fence, lease, store
from sc3d.artefacts import KEPT, MISSING, REJECTED, Artefacts
from sc3d.errors import LeaseLostError, RunBusyError
from sc3d.lease import RunLease
from sc3d.shards import Shard, item_table, missing_shards
from sc3d.store import RunFolder

REJECTED_ID = "d"
INTERVAL_S = 0.002
_current = threading.local()


class Run(threading.Thread):
    """A run in the model: goes so many steps, and waits."""

    def __init__(self, work: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self._work, self._budget, self.steps = work, 0, 0
        self._go, self._halted = threading.Semaphore(0), threading.Semaphore(0)
        self.ended = self.succeeded = False
        self.number = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        _current.run = self
        self._go.acquire()
        try:
            self._work()
            self.succeeded = True
        except (LeaseLostError, RunBusyError):
            pass
        except BaseException as error:
            self.error = error
        self.ended = True
        self._halted.release()

    def advance(self, steps: int) -> None:
        """Go on for so many steps, or to the end."""
        if self.ended:
            return
        if self.ident is None:
            self.start()
        self._budget = steps
        self._go.release()
        self._halted.acquire()
        if self.error is not None:
            raise self.error

    def step(self) -> None:
        """Called by the run itself before each request."""
        if self._budget == 0:
            self._halted.release()
            self._go.acquire()
        self._budget -= 1
        self.steps += 1


def step() -> None:
    run = getattr(_current, "run", None)
    if run is not None:
        run.step()


class Memory:
    """A store in memory, with conditional writes or without."""

    def __init__(self, conditional: bool) -> None:
        self.objects: dict[str, bytes] = {}
        self._conditional = conditional

    def exists(self, path: str) -> bool:
        step()
        return path in self.objects

    def files(self, folder: str) -> list[str]:
        step()
        return [path for path in list(self.objects) if path.startswith(folder + "/")]

    def read(self, path: str, max_bytes: int | None = None) -> bytes:
        step()
        if path not in self.objects:
            raise FileNotFoundError(path)
        return self.objects[path]

    def open(self, path: str) -> pa.NativeFile:
        return pa.BufferReader(self.read(path))

    def write(self, path: str, data: bytes, check: Callable[[], None] = lambda: None) -> None:
        check()
        step()
        self.objects[path] = data

    def create(self, path: str, data: bytes) -> bool | None:
        step()
        if not self._conditional:
            return None
        return self.objects.setdefault(path, data) is data

    def delete(self, path: str) -> None:
        step()
        self.objects.pop(path, None)

    def remove_leftovers(self) -> int:
        return 0


class NumberOfThread(dict[str, int]):
    """In the model a run is a thread, not a process."""

    def __init__(self) -> None:
        super().__init__()
        self._mine = threading.local()

    def _of(self) -> dict[str, int]:
        return self._mine.__dict__.setdefault("numbers", {})

    def get(self, key: str, default: Any = None) -> Any:
        return self._of().get(key, default)

    def __setitem__(self, key: str, value: int) -> None:
        self._of()[key] = value
        if run := getattr(_current, "run", None):
            run.number = value

    def pop(self, key: str, *default: Any) -> Any:
        return self._of().pop(key, *default)


@pytest.fixture(params=[True, False], ids=["conditional", "unconditional"])
def world(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Memory]:
    """Makes an empty store anew, for a run folder of any name."""
    there: list[Memory] = []
    monkeypatch.setattr(store, "DiskStore", lambda root: there[-1])
    monkeypatch.setattr(fence, "_numbers", NumberOfThread())
    monkeypatch.setattr(RunLease, "_is_over", lambda self, name: True)
    monkeypatch.setattr(RunLease, "_go_on", lambda self: None)
    monkeypatch.setattr(lease.time, "sleep", lambda seconds: None)
    # Before Python 3.12 a frozen run would hold it for all others.
    monkeypatch.setattr(Artefacts.__dict__["_attempts"], "lock", nullcontext(), raising=False)

    def afresh() -> Memory:
        there.append(Memory(request.param))
        return there[-1]

    return afresh


def artefacts() -> Artefacts:
    return artefacts_in(RunFolder("/model"))


def label(ids: str, size: int) -> None:
    """As ``sc3d label``: what is missing of some ids is made, so many to a shard."""
    with RunLease(RunFolder("/model"), INTERVAL_S):
        standing = artefacts().standing(wanted(*ids)).state

        def cut(items: pa.Table) -> list[Shard]:
            names = sorted(items["id"].to_pylist())
            return [Shard("car", tuple(names[start : start + size])) for start in range(0, len(names), size)]

        done = pa.chunked_array(
            [pa.array([id_ for id_, state in zip(ids, standing, strict=True) if state != MISSING], pa.string())]
        )
        for shard in missing_shards(cut(item_table(("car", id_) for id_ in ids)), done, cut):
            rejected = tuple(id_ for id_ in shard.ids if id_ == REJECTED_ID)
            commit(artefacts(), *(id_ for id_ in shard.ids if id_ != REJECTED_ID), rejected=rejected)


def check(ids: str, rewritten: bool = False) -> None:
    """All is there, and nothing twice."""
    own = artefacts()
    assert own.standing(wanted(*ids)).state.tolist() == [REJECTED if id_ == REJECTED_ID else KEPT for id_ in ids]
    if not rewritten:
        assert not len(own.catalogue(wanted(*ids)).file_of_others)


def explore(
    world: Callable[[], Memory],
    prepare: Callable[[], None],
    works: list[Callable[[], None]],
    ids: str,
    changes: int,
    rewritten: bool = False,
) -> int:
    """Try all schedules of two runs, with so many changes from one to the other before all that have not ended go on to their ends.

    Returns how many there were. ``rewritten``: clean may have been stopped between writing a row anew and taking the old one away.
    """
    lengths = []
    for work in works:
        world()
        prepare()
        alone = Run(work)
        alone.advance(10**9)
        lengths.append(alone.steps)
    tried = 0
    for cuts in itertools.product(*(range(lengths[place % 2] + 1) for place in range(changes))):
        world()
        prepare()
        runs = [Run(work) for work in works]
        for place, steps in enumerate(cuts):
            runs[place % 2].advance(steps)
        for run in (runs[changes % 2], runs[1 - changes % 2]):
            run.advance(10**9)
            last = max(runs, key=lambda one: one.number)
            if last.succeeded and (last is runs[1] or not rewritten):
                check(ids, rewritten)
        tried += 1
        label(ids, 3)
        check(ids, rewritten)
    return tried


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("changes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_two_runs_that_cut_differently(world: Callable[[], Memory], changes: int) -> None:
    runs = [lambda: label("abcd", 2), lambda: label("abcd", 4)]
    assert explore(world, lambda: None, runs, "abcd", changes) > 25**changes


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("changes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_clean_and_a_run_whose_plan_names_more(world: Callable[[], Memory], changes: int) -> None:
    runs = [lambda: clean(artefacts(), wanted(*"ad"), INTERVAL_S), lambda: label("abcd", 2)]
    assert explore(world, lambda: label("abcd", 2), runs, "abcd", changes, rewritten=True) > 20**changes

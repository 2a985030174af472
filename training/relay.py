"""Steps of a worker, as they happen, in the process that asked for the training."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray

from training.checkpoint import StepRecord

_SECONDS = 0.5


class _Mailbox:
    def __init__(self) -> None:
        self._records: list[StepRecord] = []

    def put(self, records: list[StepRecord]) -> None:
        self._records += records

    def take(self) -> list[StepRecord]:
        taken, self._records = self._records, []
        return taken


@contextmanager
def sender(mailbox: Any) -> Iterator[Callable[[StepRecord], None] | None]:
    """The worker's end: hands records on, twice a second; None without a mailbox."""
    if mailbox is None:
        yield None
        return
    pending: list[StepRecord] = []
    sent = [time.monotonic()]

    def flush() -> None:
        ray.get(mailbox.put.remote(list(pending)))
        pending.clear()
        sent[0] = time.monotonic()

    def send(record: StepRecord) -> None:
        pending.append(record)
        if time.monotonic() - sent[0] > _SECONDS:
            flush()

    try:
        yield send
    finally:
        flush()


@contextmanager
def steps_of_workers(on_step: Callable[[StepRecord], None] | None) -> Iterator[Any]:
    """A mailbox for :func:`sender`; while the block runs, ``on_step`` is called in a thread of this process for what arrives there.
    What it raises, and the mailbox's death, is raised at the end of the block."""
    if on_step is None:
        yield None
        return
    mailbox: Any = ray.remote(num_cpus=0)(_Mailbox).remote()
    done = threading.Event()
    failed: list[Exception] = []

    def deliver() -> None:
        for record in ray.get(mailbox.take.remote()):
            on_step(record)

    def poll() -> None:
        try:
            while not done.wait(_SECONDS):
                deliver()
        except Exception as error:  # whatever it is, it is raised where the training was asked for
            failed.append(error)

    thread = threading.Thread(target=poll, name="training-progress", daemon=True)
    thread.start()
    try:
        yield mailbox
    finally:
        done.set()
        thread.join()
        if not failed:
            deliver()
        ray.kill(mailbox)
    if failed:
        raise failed[0]

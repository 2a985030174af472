"""The steps of workers in the process that asked for the training, and what goes wrong on their way."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
import ray
from ray.exceptions import ActorDiedError

from sc3d.errors import LeaseLostError
from training.checkpoint import StepRecord
from training.relay import sender, steps_of_workers

STEP = StepRecord(1, 0.5, 0.25, 0.25, 1e-3)


@pytest.fixture
def in_threads(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What threads have raised and nobody has caught: Python prints it as a traceback."""
    found: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", found.append)
    return found


def test_all_steps_arrive(ray_session: None) -> None:
    seen: list[StepRecord] = []
    with steps_of_workers(seen.append) as mailbox, sender(mailbox) as send:
        assert send is not None
        send(STEP)
    assert seen == [STEP]


def test_what_a_step_raises_is_raised_though_no_other_step_follows(ray_session: None, in_threads: list[Any]) -> None:
    told = threading.Event()

    def refuse(record: StepRecord) -> None:
        told.set()
        raise LeaseLostError("another run has taken the folder over")

    def train() -> None:
        with steps_of_workers(refuse) as mailbox:
            ray.get(mailbox.put.remote([STEP]))
            assert told.wait(60)

    with pytest.raises(LeaseLostError):
        train()
    assert not in_threads


def test_the_death_of_the_mailbox_is_raised_once(ray_session: None, in_threads: list[Any]) -> None:
    def train() -> None:
        with steps_of_workers(lambda record: None) as mailbox:
            ray.kill(mailbox)
            time.sleep(2)

    with pytest.raises(ActorDiedError):
        train()
    assert not in_threads

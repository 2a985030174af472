"""What a run writes to say that it writes a run folder: a claim, once, and a beat, every few seconds."""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import TypeVar

from sc3d.machine import process_start, this_machine

RecordT = TypeVar("RecordT", "Claim", "Beat")

_RECORD_BYTES = 1024


@dataclass(frozen=True)
class Claim:
    """A run that writes, or wants to write, a run folder. ``since``: by its own clock, for people."""

    token: str
    host: str
    machine: str
    pid: int
    process_start: str
    since: str
    interval_s: float

    @classmethod
    def of_this_process(cls, token: str, interval_s: float) -> Claim:
        """A claim of the process that calls."""
        return cls(token, socket.gethostname(), this_machine(), os.getpid(), process_start(os.getpid()), wall_clock(), interval_s)

    @classmethod
    def of_nobody(cls, interval_s: float) -> Claim:
        """What a claim that cannot be read stands for: it is not known whose it is, and it has no beat."""
        return cls("", "an unknown machine", "", 0, "", "an unknown time", interval_s)


@dataclass(frozen=True)
class Beat:
    """A sign of life. ``uptime_s``: the machine's monotonic clock, which its processes share; ``at``: by its own clock, for people."""

    token: str
    count: int
    uptime_s: float
    at: str
    released: bool

    @classmethod
    def of_now(cls, token: str, count: int, released: bool) -> Beat:
        """The ``count``-th beat of a claim, now."""
        return cls(token, count, time.monotonic(), wall_clock(), released)


def wall_clock() -> str:
    """The time of day, as ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def encode(record: Claim | Beat) -> bytes:
    """A record as JSON, all of one length: an object in a bucket that is replaced by a longer one while it is read may come cut."""
    return json.dumps(asdict(record)).encode().ljust(_RECORD_BYTES)


def decode(kind: type[RecordT], data: bytes) -> RecordT | None:
    """The record, or None if this is none."""
    try:
        return kind(**json.loads(data))
    except (ValueError, TypeError):
        return None

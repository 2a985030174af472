"""What a run writes to say that it writes a run folder: a claim, once, and a beat, every few seconds."""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from sc3d.machine import process_start, this_machine

RecordT = TypeVar("RecordT", "Claim", "Beat")

SHORTEST_INTERVAL_S, LONGEST_INTERVAL_S = 0.05, 60.0
"""What a claim may say of the seconds between its beats: whoever waits for a holder that may be dead waits for some of these."""

_RECORD_BYTES = 1024
LONGEST_BYTES = 4 * _RECORD_BYTES


@dataclass(frozen=True)
class Claim:
    """A run that writes, or wants to write, a run folder. ``since``: by its own clock, for people. ``interval_s`` is kept in its bounds."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    token: str
    host: str
    machine: str
    pid: Annotated[int, Field(ge=0, lt=2**31)]
    process_start: str
    since: str
    interval_s: Annotated[float, Field(gt=0, allow_inf_nan=False)]

    def __post_init__(self) -> None:
        object.__setattr__(self, "interval_s", min(max(self.interval_s, SHORTEST_INTERVAL_S), LONGEST_INTERVAL_S))

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

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    token: str
    count: Annotated[int, Field(ge=0, lt=2**63)]
    uptime_s: Annotated[float, Field(allow_inf_nan=False)]
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
    """The record, or None if this is none: of another type, out of its bounds, or longer than any."""
    if len(data) > LONGEST_BYTES:
        return None
    try:
        found: RecordT = _ADAPTERS[kind].validate_json(data, strict=True)
    except ValidationError:
        return None
    return found


_ADAPTERS: dict[type, TypeAdapter[Any]] = {kind: TypeAdapter(kind) for kind in (Claim, Beat)}

"""Patience with a store that is away for a while: every operation of a run folder goes through :func:`patiently`."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from sc3d.errors import ConfigError
from sc3d.store_errors import explain, is_transient

ResultT = TypeVar("ResultT")

PATIENCE_S = 180.0
"""How long an operation is tried again while the store is away, in seconds, unless the environment variable says otherwise. Three minutes
outlast a restart of a store's front end or a fail-over; a longer outage ends the run, which goes on where it was when it is run again."""

PATIENCE_VARIABLE = "SC3D_STORE_PATIENCE"

_FIRST_WAIT_S = 0.25
_LONGEST_WAIT_S = 10.0
_WARN_EVERY_S = 60.0

_log = logging.getLogger("sc3d.store")
_warned: dict[str, float] = {}
_away: set[str] = set()
_lock = threading.Lock()


def patience() -> float:
    """Seconds to go on for, from the environment or the default.

    Raises:
        ConfigError: SC3D_STORE_PATIENCE is not a number of seconds.
    """
    text = os.environ.get(PATIENCE_VARIABLE, "")
    try:
        seconds = float(text) if text else PATIENCE_S
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ConfigError(f"{PATIENCE_VARIABLE} is '{text}'; it is a number of seconds, 0 for no second try")
    return seconds


def patiently(operation: Callable[[], ResultT], store: str, doing: str, where: str, limit: float | None = None) -> ResultT:
    """The result of an operation, which is tried again, at growing and random intervals, while its error may pass.

    Args:
        operation: may be run several times.
        store: what is away, for the log: one warning a store at the first retry and then every minute, however many threads wait for it.
        doing, where: for the error, as in "cannot <doing> <where>".
        limit: seconds to go on for; None for :func:`patience`.

    Raises:
        StoreError: by type what is the matter, at once where waiting does not help.
    """
    limit = patience() if limit is None else limit
    start = time.monotonic()

    def warn(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        now = time.monotonic()
        with _lock:
            if now - _warned.get(store, -math.inf) < _WARN_EVERY_S:
                return
            _warned[store] = now
            _away.add(store)
        _log.warning("%s: cannot %s %s: %s; trying again for %.0f s", store, doing, where, error, max(0.0, limit - (now - start)))

    attempts = Retrying(
        retry=retry_if_exception(is_transient),
        stop=stop_after_delay(limit),
        wait=wait_random_exponential(multiplier=_FIRST_WAIT_S, max=min(_LONGEST_WAIT_S, max(limit, _FIRST_WAIT_S))),
        before_sleep=warn,
        reraise=True,
    )
    try:
        result = attempts(operation)
    except OSError as error:
        raise explain(error, doing, where) from error
    if store in _away:
        with _lock:
            was_away = store in _away
            _away.discard(store)
        if was_away:
            _log.warning("%s answers again", store)
    return result

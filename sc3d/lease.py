"""Who writes a run folder: one run at a time, on a disk or in a bucket, whatever the machines' clocks say.

In ``lease/`` each run that writes the folder has a *claim*, numbered from 1, which it creates and never changes, and a *beat*, which it
alone rewrites every few seconds with a count that grows. The highest number is the holder. To take over, after its holder has released it
or died, is to create the next number. So no run ever writes what another one wrote, and a run that was presumed dead and wakes up sees the
higher number and stops: it looks before each write (:mod:`sc3d.fence`), and what it wrote all the same does not count (:mod:`sc3d.seals`).

Creating a number is one atomic step on a disk (a hard link), and in a bucket where the store heeds ``If-None-Match`` (and boto3 is there).
Elsewhere each contender writes a claim of its own name and then lists the folder, and a claim counts only once it was seen alone. Since
each writes before it looks, no two can both see themselves alone. Of two that see each other, the one whose name comes later withdraws, and
the other waits for that; whoever meets one that is held already withdraws in any case.

Whether a holder is alive is seen by whether its beat changes while one watches, by the watcher's own clock; times in the files are for
people. On the holder's own machine its process is looked up.
"""

from __future__ import annotations

import contextvars
import itertools
import logging
import random
import threading
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType

from sc3d.errors import ConfigError, LeaseLostError, MissingFileError, RunBusyError, SchemaError, StoreError
from sc3d.fence import FOLDER, LARGEST, claims_among
from sc3d.lease_records import LONGEST_BYTES, LONGEST_INTERVAL_S, Beat, Claim, decode, encode
from sc3d.machine import is_running, this_machine
from sc3d.seals import seal
from sc3d.store import RunFolder

INTERVAL_S = 10.0
"""Seconds between two beats."""

DEAD_AFTER = 3
"""Beats that may be missing before a holder is presumed dead."""

_ATTEMPTS = 50
_RELEASE_PATIENCE_S = 10.0

_log = logging.getLogger("sc3d.lease")
_held: contextvars.ContextVar[Mapping[str, RunLease] | None] = contextvars.ContextVar("held leases", default=None)


class RunLease:
    """The right to write a run folder, held as a context manager for as long as a run goes on.

    A context that is entered inside another one on the same folder, in the same thread, joins it.

    Args:
        run: the folder.
        interval_s: seconds between two beats, 60 at most. A holder that has missed three is presumed dead.

    Raises (on entering):
        RunBusyError: another run that is alive writes the folder.
        StoreError: the folder cannot be read or written.

    Raises (on leaving without an error):
        LeaseLostError: another run has taken it over.
    """

    def __init__(self, run: RunFolder, interval_s: float = INTERVAL_S) -> None:
        if not 0 < interval_s < float("inf"):
            raise ConfigError(f"a lease beats at intervals of more than 0 s, not {interval_s}")
        self.run = run
        # Nobody waits for a beat that is announced for later.
        self.interval_s = min(interval_s, LONGEST_INTERVAL_S)
        # A beat that comes late is worth less than the next one.
        self._hasty = RunFolder(run.uri, patience=self.interval_s, number=0)
        # What makes somebody the holder is not written as the holder.
        self._files = run.of_run(0)
        self._token = uuid.uuid4().hex
        self._number = 0
        self._name = ""
        self._count = 0
        self._lost: str | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._outer: RunLease | None = None
        self._key = run.path(FOLDER)

    def __enter__(self) -> RunLease:
        self._outer = _leases().get(self._key)
        if self._outer is None:
            try:
                self._acquire()
                self.run.write_as(self._number)
                seal(self.run.of_run(self._number))
            except BaseException as error:
                self._let_go()
                if isinstance(error, LeaseLostError):
                    raise RunBusyError(
                        f"{self.run.uri}: another run started to write it at the same time; leave the folder to it"
                    ) from None
                raise
            _held.set({**_leases(), self._key: self})
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._outer is None:
            _held.set({key: lease for key, lease in _leases().items() if lease is not self})
            try:
                if kind is None:
                    # What was on its way when another run took over does not count, so this one must not end well.
                    self.check()
                    self.run.of_run(self._number).check_fence()
            finally:
                self._let_go()
        self._outer = None

    def check(self) -> None:
        """Make sure that the folder is still this run's. Costs nothing; to be called before something is written.

        Raises:
            LeaseLostError: another run has taken it over, since this one gave no sign of life for too long.
        """
        if self._outer is not None:
            self._outer.check()
        elif self._lost:
            raise LeaseLostError(
                f"{self.run.uri} was taken over by {self._lost}, since this run gave no sign of life for too long. "
                "What it has finished is kept and used; leave the folder to the other run"
            )

    def _acquire(self) -> None:
        for _ in range(_ATTEMPTS):
            claims = self._claims()
            latest = max(claims, default=0)
            if latest >= LARGEST:
                raise StoreError(f"{self.run.uri}: the number of its last run is {latest}, which none has; delete {FOLDER}/ in it")
            if all(self._is_over(name) for name in claims.get(latest, [])) and self._claim(latest + 1):
                break
            time.sleep(random.uniform(0.0, min(1.0, self.interval_s)))
        else:
            raise RunBusyError(
                f"{self.run.uri}: several runs try to write it at once, and none gets to it; start one of them again"
            )
        self._beat()
        self._thread = threading.Thread(target=self._go_on, name="sc3d-lease", daemon=True)
        self._thread.start()
        for name in itertools.chain.from_iterable(claims.values()):
            self._forget(name)
        self._files.remove_leftovers()

    def _claims(self, run: RunFolder | None = None) -> dict[int, list[str]]:
        """The claims that are there, by their number."""
        return claims_among((run or self._files).names(FOLDER, ".claim"))

    def _claim(self, number: int) -> bool:
        """Claim a number; whether it is now this run's."""
        claim = Claim.of_this_process(self._token, self.interval_s)
        record = encode(claim)
        name = f"{FOLDER}/{number:08}.claim"
        made = self._files.create_bytes(name, record)
        if made is False:
            return False
        if made is None:
            name = f"{FOLDER}/{number:08}-{self._token}.claim"
            self._files.write_bytes(name, record)
        self._number, self._name = number, name
        if self._is_alone(claim):
            return True
        self._forget(name)
        self._name = ""
        return False

    def _is_alone(self, claim: Claim) -> bool:
        """Whether this run's claim is the highest and the only one of its number, once contenders have withdrawn."""
        deadline = time.monotonic() + DEAD_AFTER * self.interval_s
        while time.monotonic() < deadline:
            claims = self._claims()
            rivals = [name for name in claims.get(self._number, []) if name != self._name]
            if max(claims, default=0) != self._number or self._name not in claims[self._number]:
                return False
            if not rivals:
                # Where the store's condition let two through, the later claim has replaced the earlier one.
                return self._read_claim(self._name) == claim
            if min(rivals) < self._name or any(self._read_beat(rival) for rival in rivals):
                return False
            time.sleep(min(0.2, self.interval_s / 5))
        return False

    def _is_over(self, name: str) -> bool:
        """Whether the run of a claim has ended, watching it for as long as it takes to know.

        Raises:
            RunBusyError: it is alive.
        """
        claim = self._read_claim(name)
        if claim is None:
            return True
        first = self._read_beat(name)
        if first is not None and first.released:
            return True
        if claim.machine == this_machine():
            if not is_running(claim.pid, claim.process_start):
                _log.warning(
                    "%s: takes over from process %d of this machine, which ended without releasing it", self.run.uri, claim.pid
                )
                return True
            if first is not None and 0 <= time.monotonic() - first.uptime_s < 2 * claim.interval_s:
                raise self._busy(claim, first)
        return self._watch(name, claim, first)

    def _watch(self, name: str, claim: Claim, first: Beat | None) -> bool:
        patience = DEAD_AFTER * claim.interval_s
        _log.warning(
            "%s was last written by process %d on %s; watching for %.0f s whether it is alive",
            self.run.uri,
            claim.pid,
            claim.host,
            patience,
        )
        since = time.monotonic()
        while time.monotonic() - since <= patience:
            asked = time.monotonic()
            beat = self._read_beat(name)
            if beat is not None and beat.released:
                return True
            if beat != first:
                raise self._busy(claim, beat)
            if time.monotonic() - asked > claim.interval_s:
                # The store was away, so the holder could not beat either.
                since = time.monotonic()
            time.sleep(min(1.0, claim.interval_s / 5))
        _log.warning("%s: takes over from process %d on %s, which gives no sign of life", self.run.uri, claim.pid, claim.host)
        return True

    def _busy(self, claim: Claim, beat: Beat | None) -> RunBusyError:
        last = f", last sign of life {beat.at}" if beat else ""
        return RunBusyError(
            f"{self.run.uri} is being written by another run: process {claim.pid} on {claim.host}, since {claim.since}{last} (its clock). "
            f"Wait for it, stop it, or choose another run folder. Should it die, this one can be started "
            f"{DEAD_AFTER * claim.interval_s:g} s later and goes on where it was"
        )

    def _read_claim(self, name: str) -> Claim | None:
        """The claim of that name; None if it is not there. One that cannot be read is nobody's, and never beats."""
        with suppress(MissingFileError):
            return decode(Claim, self._record(name)) or Claim.of_nobody(self.interval_s)
        return None

    def _read_beat(self, name: str) -> Beat | None:
        with suppress(MissingFileError):
            return decode(Beat, self._record(_beat_of(name)))
        return None

    def _record(self, name: str) -> bytes:
        """A file in ``lease/``; of one that is no file, or longer than any record, nothing."""
        try:
            return self._files.read_bytes(name, LONGEST_BYTES)
        except SchemaError:
            return b""

    def _beat(self, released: bool = False) -> None:
        self._count += 1
        beat = Beat.of_now(self._token, self._count, released)
        self._hasty.write_bytes(_beat_of(self._name), encode(beat))

    def _go_on(self) -> None:
        while not self._stop.wait(self.interval_s):
            # A store that is away is no reason to stop; whoever writes will notice.
            with suppress(StoreError):
                self._look()
                if self._lost:
                    return
                self._beat()

    def _look(self) -> None:
        """Find out whether another run has taken over."""
        claims = self._claims(self._hasty)
        latest = max(claims, default=0)
        claim = self._read_claim(claims[latest][0] if latest > self._number else self._name)
        if claim is None and latest <= self._number:
            self._lost = "somebody who deleted its lease"
        elif claim is not None and claim.token != self._token:
            self._lost = f"process {claim.pid} on {claim.host}"

    def _let_go(self) -> None:
        if self.run.number == self._number:
            self.run.write_as(0)
        if self._name:
            self._release()

    def _release(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_RELEASE_PATIENCE_S)
        if self._lost:
            return
        try:
            self._beat(released=True)
        except StoreError as error:
            _log.warning("%s: its lease could not be released (%s); the next run waits for it to run out", self.run.uri, error)

    def _forget(self, name: str) -> None:
        self._files.delete(_beat_of(name))
        self._files.delete(name)


def _beat_of(claim: str) -> str:
    return claim.removesuffix(".claim") + ".beat"


def _leases() -> Mapping[str, RunLease]:
    """Those that this thread holds, by their folder's path."""
    return _held.get() or {}

"""Progress a person can read: one live line a stage in a terminal, plain log lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from sc3d.console import PlainConsole
from sc3d.durations import duration

_LOG_EVERY = 10.0
_MANY = 2000


@dataclass
class Line:
    """One stage's line. Its methods may be called by any thread."""

    name: str
    total: int
    done: int
    console: PlainConsole
    live: RichProgress | None
    rejects: int = 0
    started: float = field(default_factory=time.perf_counter)
    _computed: int = 0
    _ahead: int = 0
    _finished: float | None = None
    _logged: float = field(default_factory=time.perf_counter)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self._row = self.live.add_task(self.name, total=self.total, completed=self.done, note="") if self.live else None

    @property
    def left(self) -> int:
        """Items that are still to be done."""
        return max(0, self.total - self.done - self._ahead)

    def advance(self, items: int, rejects: int = 0) -> None:
        """Count finished items, of which some were rejected."""
        with self._lock:
            self.done += items
            self._computed += items
            self._ahead = max(0, self._ahead - items)
            self.rejects += rejects
            self._show()

    def ahead(self, items: int) -> None:
        """So many items are finished that have not been counted yet, since the stages behind have not finished them."""
        with self._lock:
            self._ahead = max(0, min(items, self.total - self.done))
            self._show()

    def expect(self, more: int, done: int = 0) -> None:
        """So many items more, or fewer, than it was started with, of which some are done already."""
        with self._lock:
            self.total += more
            self.done += done
            if self.live is not None and self._row is not None:
                self.live.update(self._row, total=self.total, completed=self.done + self._ahead)

    def finish(self, seconds: float | None = None) -> float:
        """Close the line; returns ``seconds``, those since the start if they are not given."""
        with self._lock:
            seconds = time.perf_counter() - self.started if seconds is None else seconds
            self._finished, self._ahead = seconds, 0
            if self.live is not None and self._row is not None:
                self.live.remove_task(self._row)
            what = f"{self._computed} in {duration(seconds)}" if self._computed else "all there already, nothing to do"
            before = self.done - self._computed
            there = f" ({before} were there already)" if before and self._computed else ""
            self.console.print(f"  {self.name:<12} {self.total:>6} items   {what}{there}{self._note()}")
            return seconds

    def snapshot(self) -> dict[str, Any]:
        """The line as plain values; ``rate`` in items a second."""
        with self._lock:
            seconds = time.perf_counter() - self.started if self._finished is None else self._finished
            rate = (self._computed + self._ahead) / seconds if seconds else 0.0
            done = self.done + self._ahead
            return {"name": self.name, "total": self.total, "done": done, "rejects": self.rejects, "rate": rate}

    def _show(self) -> None:
        done = self.done + self._ahead
        if self.live is not None and self._row is not None:
            self.live.update(self._row, completed=done, note=self._note())
        elif time.perf_counter() - self._logged > _LOG_EVERY and done < self.total:
            self._logged = time.perf_counter()
            rate = (self._computed + self._ahead) / (self._logged - self.started)
            left = f"about {duration(round(self.left / rate))} left" if rate else "not known how long"
            self.console.print(f"{self.name}: {done}/{self.total}{self._note()}, {rate:.1f}/s, {left}")

    def _note(self) -> str:
        return f", {self.rejects} rejected" if self.rejects else ""


class Progress:
    """The run's progress display, on stderr. Use as a context manager. ``lines``: those so far, in the order of their start."""

    def __init__(self, console: PlainConsole | None = None) -> None:
        self.console = console or PlainConsole(stderr=True, soft_wrap=True)
        self.lines: list[Line] = []
        self._live: RichProgress | None = None

    def __enter__(self) -> Progress:
        if self.console.is_terminal and sys.stderr.isatty():
            columns = (
                TextColumn("  {task.description:<12}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}", markup=False),
            )
            self._live = RichProgress(*columns, console=self.console)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def start(self, name: str, total: int, done: int = 0) -> Line:
        """Open a line for a stage of ``total`` items, ``done`` of which are there already."""
        self.lines.append(Line(name, total, done, self.console, self._live))
        return self.lines[-1]

    def counting(self, name: str) -> Callable[[int], None]:
        """What counts finished items of which nobody knows how many there are; a line shows them where they are many."""
        waiting: list[Line] = []
        count = 0

        def advance(items: int) -> None:
            nonlocal count
            count += items
            if count >= _MANY:
                if not waiting:
                    waiting.append(self.start(name, count - items, count - items))
                waiting[0].expect(items)
                waiting[0].advance(items)

        return advance

    def say(self, text: str) -> None:
        """Print a line above the live ones."""
        self.console.print(text)

"""Progress a person can read: one live line a stage in a terminal, plain log lines elsewhere."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

_LOG_EVERY = 10.0


@dataclass
class Task:
    """One stage's line."""

    name: str
    total: int
    done: int
    console: Console
    live: RichProgress | None
    rejects: int = 0
    started: float = field(default_factory=time.perf_counter)
    _computed: int = 0
    _logged: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self._row = self.live.add_task(self.name, total=self.total, completed=self.done, note="") if self.live else None

    def advance(self, items: int, rejects: int = 0) -> None:
        """Count finished items, of which some were rejected."""
        self.done += items
        self._computed += items
        self.rejects += rejects
        if self.live is not None and self._row is not None:
            self.live.update(self._row, completed=self.done, note=self._note())
        elif time.perf_counter() - self._logged > _LOG_EVERY and self.done < self.total:
            self._logged = time.perf_counter()
            rate = self._computed / (self._logged - self.started)
            left = (self.total - self.done) / rate
            self.console.print(f"{self.name}: {self.done}/{self.total}{self._note()}, {rate:.1f}/s, about {left:.0f} s left")

    def complete(self) -> None:
        """Count everything that is left as done: for work whose steps were not reported one by one."""
        self._computed += self.total - self.done
        self.done = self.total

    def finish(self) -> float:
        """Close the line; returns the seconds since the start."""
        seconds = time.perf_counter() - self.started
        if self.live is not None and self._row is not None:
            self.live.remove_task(self._row)
        what = f"{self._computed} in {seconds:.1f} s" if self._computed else "all there already, nothing to do"
        before = self.done - self._computed
        there = f" ({before} were there already)" if before and self._computed else ""
        self.console.print(f"  {self.name:<12} {self.total:>6} items   {what}{there}{self._note()}")
        return seconds

    def _note(self) -> str:
        return f", {self.rejects} rejected" if self.rejects else ""


class Progress:
    """The run's progress display, on stderr. Use as a context manager."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self._live: RichProgress | None = None

    def __enter__(self) -> Progress:
        if self.console.is_terminal and sys.stderr.isatty():
            columns = (
                TextColumn("  {task.description:<12}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
            )
            self._live = RichProgress(*columns, console=self.console)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def start(self, name: str, total: int, done: int = 0) -> Task:
        """Open a line for a stage of ``total`` items, ``done`` of which are there already."""
        return Task(name, total, done, self.console, self._live)

    def say(self, text: str) -> None:
        """Print a line above the live ones."""
        self.console.print(text)

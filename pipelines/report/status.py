"""How far a run is, in ``status.json`` of its run folder, for whoever looks from elsewhere: ``sc3d status RUN``."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator
from rich.box import SIMPLE_HEAD
from rich.live import Live
from rich.table import Table
from typing_extensions import NotRequired, TypedDict

from pipelines.runner.progress import Progress
from sc3d.console import PlainConsole
from sc3d.durations import duration
from sc3d.errors import InputError, SchemaError, StoreError
from sc3d.machine import is_running, process_start, this_machine
from sc3d.parsed import Amount, Whole, read_parsed
from sc3d.store import RunFolder

STATUS = "status.json"
UNREADABLE = "unreadable"

_WRITE_EVERY = 5.0
_SILENT_AFTER = 6 * _WRITE_EVERY
_ROOT = Path(__file__).resolve().parents[2]


def _instant(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("a time without its zone")
    return text


class StageStatus(TypedDict):
    """How far a stage is; ``rate`` in items a second."""

    name: str
    total: Whole
    done: Whole
    rejects: Whole
    rate: Amount


class Status(TypedDict):
    """``status.json``. ``machine``, ``process_start``: as :mod:`sc3d.machine` has them."""

    command: str
    state: Literal["running", "finished", "stopped", "failed"]
    reason: str
    host: str
    pid: int
    started: str
    written: Annotated[str, AfterValidator(_instant)]
    stages: list[StageStatus]
    machine: NotRequired[str]
    process_start: NotRequired[str]


class StatusWriter:
    """Writes a run's progress to its folder every few seconds, and how it ended. Use as a context manager around the run.

    A store that is away does not disturb the run: the next write says it all.
    """

    def __init__(self, run: RunFolder, command: str, progress: Progress) -> None:
        self._run = RunFolder(run.uri, patience=_WRITE_EVERY)
        self._command, self._progress = command, progress
        self._started = _now()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="sc3d-status", daemon=True)

    def __enter__(self) -> StatusWriter:
        self._write("running")
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self._over.set()
        self._thread.join(2 * _WRITE_EVERY)
        if error is None:
            self._write("finished")
        else:
            stopped = isinstance(error, (KeyboardInterrupt, SystemExit))
            self._write("stopped" if stopped else "failed", "" if stopped else f"{type(error).__name__}: {error}")

    def _go_on(self) -> None:
        while not self._over.wait(_WRITE_EVERY):
            self._write("running")

    def _write(self, state: str, reason: str = "") -> None:
        values = {
            "command": self._command,
            "state": state,
            "reason": reason,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": self._started,
            "machine": this_machine(),
            "process_start": process_start(os.getpid()),
            "written": _now(),
            "stages": [line.snapshot() for line in self._progress.lines],
        }
        with suppress(StoreError):
            self._run.write_json(STATUS, values)


def read_status(run: RunFolder) -> Status:
    """What a run last said of itself.

    Raises:
        InputError: nothing has run in this folder.
        SchemaError: it is not what a run writes.
    """
    if not run.exists(STATUS):
        raise InputError(f"{run.uri} holds no status, so nothing has run there; is it the right run folder?")
    return read_parsed(run, STATUS, Status)


def note_of_end(run: RunFolder) -> list[str]:
    """The command that notes in ``status.json`` how this process has ended, if it could not itself: that is its last argument."""
    code = "import sys; sys.path.append(sys.argv.pop(1)); from pipelines.report.status import note_end; note_end(*sys.argv[1:])"
    return [sys.executable, "-c", code, str(_ROOT), run.uri, this_machine(), str(os.getpid())]


def note_end(uri: str, machine: str, pid: str, reason: str) -> None:
    """Note that the run of a process has failed, unless that process has told how it ended, or another has written the folder since."""
    run = RunFolder(uri)
    with suppress(InputError, SchemaError, StoreError):
        status = read_status(run)
        if (status["state"], status.get("machine"), status["pid"]) == ("running", machine, int(pid)):
            run.write_json(STATUS, {**status, "state": "failed", "reason": reason, "written": _now()})


def print_status(run: RunFolder, watch: float | None = None, console: PlainConsole | None = None) -> str:
    """Print how far a run is; with ``watch``, again every so many seconds until it ends. Returns its state, or :data:`UNREADABLE`."""
    console = console or PlainConsole()
    state, view = _look(run)
    if watch is None or state != "running":
        console.print(view)
        return state
    with Live(view, console=console, auto_refresh=False) as live:
        while state == "running":
            time.sleep(watch)
            state, view = _look(run)
            live.update(view, refresh=True)
    return state


def present_status(run: RunFolder) -> Status:
    """:func:`read_status`, where a run of this machine whose process is gone counts as failed. Raises as that does."""
    status = read_status(run)
    if status["state"] == "running" and _is_gone(status):
        return {
            **status,
            "state": "failed",
            "reason": "its process has ended without a word. Started again, it goes on where it was",
        }
    return status


def status_facts(run: RunFolder) -> dict[str, Any]:
    """How far a run is, as plain values: run, command, state, reason, host, pid, started, written, and stages, each with name, done, total,
    rejects, rate (items a second) and seconds_left (an estimate; null where nothing is left or nothing is known).

    Raises:
        InputError: nothing has run in this folder.
        SchemaError: its status cannot be read.
    """
    status = present_status(run)
    stages = [{**stage, "seconds_left": _seconds_left(stage)} for stage in status["stages"]]
    told = {name: status[name] for name in ("command", "state", "reason", "host", "pid", "started", "written")}
    return {"run": run.uri, **told, "stages": stages}


def _seconds_left(stage: StageStatus) -> float | None:
    left = stage["total"] - stage["done"]
    return left / stage["rate"] if stage["rate"] and left > 0 else None


def _look(run: RunFolder) -> tuple[str, Table | str]:
    try:
        status = present_status(run)
    except SchemaError as error:
        return UNREADABLE, f"How far the run is cannot be read, which says nothing about its artefacts: {error}"
    return status["state"], _view(run, status)


def _is_gone(status: Status) -> bool:
    """Whether its process was one of this machine, and has ended."""
    return status.get("machine") == this_machine() and not is_running(status["pid"], status.get("process_start", ""))


def _view(run: RunFolder, status: Status) -> Table:
    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False, title_justify="left", caption_justify="left")
    table.title = f"{run.uri}: {status['command']} {status['state']}"
    table.add_column("stage")
    for name in ("done", "of", "rejected", "per second", "left"):
        table.add_column(name, justify="right", no_wrap=True)
    for stage in status["stages"]:
        rate, left = stage["rate"], _seconds_left(stage)
        table.add_row(
            stage["name"],
            f"{stage['done']:,}",
            f"{stage['total']:,}",
            f"{stage['rejects']:,}",
            f"{rate:,.1f}" if rate else "-",
            "-" if left is None else duration(left),
        )
    table.caption = _caption(status)
    return table


def _caption(status: Status) -> str:
    silent = (datetime.now(timezone.utc) - datetime.fromisoformat(status["written"])).total_seconds()
    who = f"process {status['pid']} on {status['host']}, since {status['started']}"
    where = f"{who}; last heard of {duration(max(0.0, silent))} ago by this clock"
    if status["reason"]:
        return f"{where}\n{status['reason']}"
    if status["state"] == "running" and silent > _SILENT_AFTER:
        return f"{where}: it may be dead, or the clocks differ. Started again, it goes on where it was"
    return where


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")

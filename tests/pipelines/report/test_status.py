"""``status.json``: a run tells how far it is and how it ended, and whoever looks can tell a slow one from a dead one."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import threading
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from pipelines.cli import main
from pipelines.report import status
from pipelines.report.status import STATUS, StatusWriter, note_of_end, print_status, read_status
from pipelines.runner.progress import Progress
from sc3d.console import PlainConsole
from sc3d.errors import InputError, StoreError
from sc3d.machine import this_machine
from sc3d.store import RunFolder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


@pytest.fixture
def progress() -> Progress:
    return Progress(PlainConsole(file=io.StringIO()))


def printed(run: RunFolder, watch: float | None = None) -> str:
    stream = io.StringIO()
    print_status(run, watch, PlainConsole(file=stream, width=160))
    return stream.getvalue()


def values(**changes: Any) -> dict[str, Any]:
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    stage = {"name": "match", "total": 4000, "done": 1000, "rejects": 7, "rate": 2.0}
    known = {"command": "label", "state": "running", "reason": "", "host": "here", "pid": 1, "started": now, "written": now}
    return {**known, "stages": [stage], **changes}


def test_a_run_that_goes_on_tells_how_far_it_is(run: RunFolder, progress: Progress, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "_WRITE_EVERY", 0.02)
    with StatusWriter(run, "label", progress):
        assert read_status(run)["state"] == "running"
        assert read_status(run)["stages"] == []
        progress.start("match", 10, 4).advance(3, 1)
        deadline = time.monotonic() + 20
        while not (stages := read_status(run)["stages"]):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert {key: stages[0][key] for key in ("name", "total", "done", "rejects")} == {
            "name": "match", "total": 10, "done": 7, "rejects": 1
        }  # fmt: skip
    assert read_status(run)["state"] == "finished"
    assert read_status(run)["command"] == "label"
    assert "sc3d-status" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (InputError("no photos in it"), "failed", "InputError: no photos in it"),
        (KeyboardInterrupt(), "stopped", ""),
        (SystemExit(1), "stopped", ""),
    ],
)
def test_how_it_ended_is_kept(run: RunFolder, progress: Progress, error: BaseException, state: str, reason: str) -> None:
    with pytest.raises(type(error)), StatusWriter(run, "label", progress):
        raise error
    found = read_status(run)
    assert (found["state"], found["reason"]) == (state, reason)


def test_a_store_that_is_away_does_not_disturb_the_run(run: RunFolder, progress: Progress, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise StoreError("the bucket is away")

    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "write_json", away)
        with StatusWriter(run, "label", progress):
            pass
    assert not run.exists(STATUS)


RUN = """
import io, os, sys, signal
from pipelines.report.status import StatusWriter
from pipelines.runner.progress import Progress
from sc3d.console import PlainConsole
from sc3d.store import RunFolder

StatusWriter(RunFolder(sys.argv[1]), "label", Progress(PlainConsole(file=io.StringIO()))).__enter__()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_run_of_this_machine_that_was_killed_is_not_running(run: RunFolder) -> None:
    subprocess.run([sys.executable, "-c", RUN, run.uri], check=False)
    assert read_status(run)["state"] == "running"
    text = " ".join(printed(run).split())
    assert "label failed" in text
    assert "its process has ended without a word. Started again, it goes on where it was" in text
    elsewhere = {**read_status(run), "machine": "elsewhere"}
    run.write_json(STATUS, elsewhere)
    assert "label running" in printed(run), "nobody can tell from here"


def test_who_finds_a_dead_run_notes_how_it_ended_unless_that_is_known(run: RunFolder) -> None:
    note = [*note_of_end(run), "RayDiedError: Ray's raylet (process 7) died"]
    alive = values(machine=this_machine(), pid=os.getpid())
    for kept in (values(state="finished", machine=this_machine(), pid=os.getpid()), {**alive, "pid": 1}, values(pid=os.getpid())):
        run.write_json(STATUS, kept)
        subprocess.run(note, check=True)
        assert {key: value for key, value in run.read_json(STATUS).items() if key != "schema_version"} == kept
    run.write_json(STATUS, alive)
    subprocess.run(note, check=True)
    found = read_status(run)
    assert (found["state"], found["reason"]) == ("failed", "RayDiedError: Ray's raylet (process 7) died")
    assert found["stages"] == alive["stages"]


def test_a_folder_in_which_nothing_ran_is_said_to_be_one(run: RunFolder) -> None:
    with pytest.raises(InputError, match="is it the right run folder"):
        print_status(run)


def test_the_table_has_rates_and_what_is_left(run: RunFolder) -> None:
    run.write_json(STATUS, values())
    text = printed(run)
    line = next(line for line in text.splitlines() if line.strip().startswith("match"))
    assert line.split() == ["match", "1,000", "4,000", "7", "2.0", "25", "min"]
    # A title is broken to the width of its table.
    assert f"{run.uri}: label running" in text.replace("\n", "")
    assert "process 1 on here" in text
    assert "may be dead" not in text
    idle = {"name": "label", "total": 5, "done": 5, "rejects": 0, "rate": 0.0}
    run.write_json(STATUS, values(stages=[idle], state="failed", reason="InputError: [bold]no photos[/]"))
    text = printed(run)
    assert next(line for line in text.splitlines() if line.strip().startswith("label ")).split() == [
        "label",
        "5",
        "5",
        "0",
        "-",
        "-",
    ]
    assert "InputError: [bold]no photos[/]" in text


def test_a_run_that_was_not_heard_of_for_long_may_be_dead(run: RunFolder) -> None:
    before = (datetime.now(timezone.utc) - timedelta(minutes=5)).isoformat(timespec="seconds")
    run.write_json(STATUS, values(written=before))
    text = " ".join(printed(run).split())
    assert re.search(r"last heard of 5 min( \d s)? ago", text)
    assert "it may be dead, or the clocks differ. Started again, it goes on where it was" in text
    run.write_json(STATUS, values(written=before, state="finished"))
    assert "dead" not in printed(run), "one that has ended need not be heard of"


def test_watching_ends_with_the_run(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [values(), values(), values(state="finished")]
    monkeypatch.setattr(status, "read_status", lambda _: answers.pop(0))
    stream = io.StringIO()
    assert print_status(run, 0.001, PlainConsole(file=stream, width=160)) == "finished"
    assert answers == []
    assert "label finished" in stream.getvalue()
    run.write_json(STATUS, json.loads(json.dumps(values(state="stopped"))))
    monkeypatch.undo()
    assert print_status(run, 1e9, PlainConsole(file=stream)) == "stopped", "there is nothing to wait for"


def test_the_command_tells_of_a_run_that_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def command(*arguments: str) -> int:
        with pytest.raises(SystemExit) as done:
            main(arguments)
        return int(done.value.code or 0)

    assert command("status", str(tmp_path / "nowhere")) == 1
    assert "is it the right run folder" in capsys.readouterr().err
    (tmp_path / "photos").mkdir()
    assert command("label", "--images", str(tmp_path / "photos"), "--category", "bus", "--run", str(tmp_path / "run")) == 1
    capsys.readouterr()
    assert command("status", str(tmp_path / "run")) == 0
    shown = capsys.readouterr().out
    assert "failed" in shown
    assert "no photos in it" in shown


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"stages": {}}, "stages"),
        ({"stages": [{"name": "match"}]}, r"stages\.0\.total"),
        ({"written": "yesterday"}, "written"),
        ({"written": "2031-01-01T00:00:00"}, "written"),
        ({"state": ["running"]}, "state"),
        ({"pid": None}, "pid"),
    ],
)
def test_a_status_that_cannot_be_read_is_shown_as_one_and_ends_nothing(run: RunFolder, changes: dict[str, Any], field: str) -> None:
    run.write_json(STATUS, values(**changes))
    text = " ".join(printed(run).split())
    assert "cannot be read, which says nothing about its artefacts" in text
    assert re.search(rf"status\.json: {field}", text)
    stream = io.StringIO()
    assert print_status(run, 1e9, PlainConsole(file=stream)) == status.UNREADABLE, "there is nothing to wait for"


def test_texts_of_a_status_are_no_commands_for_a_terminal(run: RunFolder) -> None:
    stage = {"name": "a[/b]\x1b[2J", "total": 1, "done": 0, "rejects": 0, "rate": 0.0}
    run.write_json(STATUS, values(command="[bold]", host="h\x07", reason="\x1b]0;x\x07 [/b]", stages=[stage], state="failed"))
    text = printed(run)
    for shown in (r"a[/b]\x1b[2J", "[bold] failed", r"h\x07", r"\x1b]0;x\x07 [/b]"):
        assert shown in text
    assert "\x1b" not in text
    assert "\x07" not in text

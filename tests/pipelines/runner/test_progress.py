"""Lines of progress: counts that are right whatever comes first, and text that a log or a person can read."""

from __future__ import annotations

import io
import threading
import time

import pytest

from pipelines.runner import progress as module
from pipelines.runner.progress import Line, Progress
from sc3d.console import PlainConsole


@pytest.fixture
def progress() -> Progress:
    return Progress(PlainConsole(file=io.StringIO(), width=200))


def said(progress: Progress) -> str:
    assert isinstance(progress.console.file, io.StringIO)
    return progress.console.file.getvalue()


def counts(line: Line) -> tuple[int, int, int, int]:
    found = line.snapshot()
    return found["done"], found["total"], found["rejects"], line.left


def test_what_is_finished_is_counted(progress: Progress) -> None:
    line = progress.start("match", 10, done=4)
    assert progress.lines == [line]
    assert counts(line) == (4, 10, 0, 6)
    line.advance(2, 1)
    assert counts(line) == (6, 10, 1, 4)
    line.expect(5, done=3)
    assert counts(line) == (9, 15, 1, 6)
    line.expect(-6)
    assert counts(line) == (9, 9, 1, 0)


def test_what_is_finished_ahead_of_the_books_is_shown_once(progress: Progress) -> None:
    line = progress.start("match", 10)
    line.ahead(4)
    assert counts(line) == (4, 10, 0, 6)
    line.advance(3)
    assert counts(line) == (4, 10, 0, 6), "three of the four are in the books now"
    line.advance(3)
    assert counts(line) == (6, 10, 0, 4)
    line.ahead(99)
    assert counts(line) == (10, 10, 0, 0), "a task that is done again counts twice"
    line.ahead(-3)
    assert counts(line) == (6, 10, 0, 4)
    line.ahead(2)
    line.finish(1.0)
    assert counts(line)[0] == 6


def test_the_last_word_tells_what_this_run_did(progress: Progress) -> None:
    for name, done, computed, rejects in (("fresh", 0, 5, 0), ("resumed", 3, 2, 1), ("there", 5, 0, 0)):
        line = progress.start(name, 5, done)
        if computed:
            line.advance(computed, rejects)
        assert line.finish(2.0) == 2.0
    fresh, resumed, there = said(progress).splitlines()
    assert fresh.split(maxsplit=3) == ["fresh", "5", "items", "5 in 2.0 s"]
    assert resumed.split(maxsplit=3) == ["resumed", "5", "items", "2 in 2.0 s (3 were there already), 1 rejected"]
    assert there.split(maxsplit=3) == ["there", "5", "items", "all there already, nothing to do"]


def test_rates_stand_still_when_the_line_is_closed(progress: Progress) -> None:
    line = progress.start("match", 10)
    assert line.snapshot()["rate"] == 0
    line.advance(6)
    line.ahead(2)
    assert line.snapshot()["rate"] > 0
    line.finish(3.0)
    assert line.snapshot()["rate"] == 2.0
    assert Progress(progress.console).start("clock", 1).finish() < 60


def test_a_log_gets_a_line_now_and_then(progress: Progress, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    line = Line("match", 40, 0, progress.console, None, started=100.0, _logged=100.0)
    line.advance(1)
    assert said(progress) == ""
    now[0] = 120.0
    line.advance(9, 2)
    assert said(progress) == "match: 10/40, 2 rejected, 0.5/s, about 1 min left\n"
    line.advance(5)
    assert len(said(progress).splitlines()) == 1, "not before some time has gone"
    now[0] = 160.0
    line.advance(25)
    assert len(said(progress).splitlines()) == 1, "the last one is for the end"


def test_few_files_get_no_line_and_many_get_one(progress: Progress, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MANY", 5)
    advance = progress.counting("photos")
    for _ in range(4):
        advance(1)
    assert progress.lines == []
    for _ in range(3):
        advance(1)
    advance(10)
    (line,) = progress.lines
    assert counts(line) == (17, 17, 0, 0)
    other = progress.counting("masks")
    other(12)
    assert counts(progress.lines[1]) == (12, 12, 0, 0)


def test_any_thread_may_count(progress: Progress) -> None:
    line = progress.start("match", 4000)
    threads = [threading.Thread(target=lambda: [line.advance(1, 1) for _ in range(500)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts(line) == (4000, 4000, 4000, 0)


def test_a_terminal_has_live_lines_and_text_above_them(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(module.sys.stderr, "isatty", lambda: True, raising=False)
    with Progress(PlainConsole(file=stream, force_terminal=True, width=120)) as progress:
        line = progress.start("match", 10, 2)
        assert line.live is not None
        (task,) = line.live.tasks
        line.advance(3, 1)
        line.ahead(2)
        assert (task.completed, task.total, task.fields["note"]) == (7, 10, ", 1 rejected")
        line.expect(5)
        assert (task.completed, task.total) == (7, 15)
        progress.say("a word")
        line.finish(1.0)
        assert line.live.tasks == []
        time.sleep(0.01)
    assert "a word" in stream.getvalue()
    with Progress(PlainConsole(file=io.StringIO())) as progress:
        assert progress.start("match", 1).live is None

"""A run that grows while it is shown: open pages learn of it, and what cannot be read, or has not changed, changes nothing."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from report_run import Made
from run_server import Served, serving

from pipelines.report.status import STATUS
from pipelines.view import growth
from pipelines.view.growth import Watcher, progress_of
from pipelines.view.tables import RunTables
from sc3d.errors import StoreError

NOW = "2026-01-01T00:00:00+00:00"


def note(made: Made, done: int, written: str = NOW, **changes: Any) -> None:
    """Write how far the run says it is."""
    stage = {"name": "label", "total": 9, "done": done, "rejects": 0, "rate": 1.0}
    known = {"command": "label", "state": "running", "reason": "", "host": "here", "pid": 1, "started": NOW, "written": written}
    made.run.write_json(STATUS, {**known, "stages": [stage], **changes})


def version_of(served: Served) -> dict[str, Any]:
    reply = served.get("version")
    assert (reply.status, reply.headers["content-type"], reply.headers["cache-control"]) == (200, "application/json", "no-store")
    return dict(json.loads(reply.text))


@pytest.fixture
def growing(tmp_path: Path) -> Made:
    """A run whose images are reconstructed, and nothing more."""
    made = Made(tmp_path)
    made.manifest()
    made.reconstruct()
    note(made, 0)
    return made


def test_what_was_added_is_shown_when_the_run_says_so(growing: Made) -> None:
    with serving(growing.config) as served:
        watcher = Watcher(served.server.pages)
        assert version_of(served) == {"version": 1, "counts": {"pairs": "7", "images": "6", "rejects": "0"}}
        assert 'data-version="1"' in served.get("pairs").text
        assert "labelled" not in served.get("pairs").text
        growing.describe()
        growing.match()
        growing.label()
        watcher.look()
        assert version_of(served)["version"] == 1, "it has not said so yet"
        note(growing, 9)
        watcher.look()
        assert version_of(served) == {"version": 2, "counts": {"pairs": "7", "images": "6", "rejects": "1"}}
        page = served.get("pairs").text
        assert 'data-version="2"' in page
        assert "labelled" in page
        assert "still being read" not in page, "errors are there as soon as the rows are"
        assert served.get("pair/blob-0~blob-1").status == 200
        watcher.look()
        assert version_of(served)["version"] == 2


def test_a_sign_of_life_is_no_growth(growing: Made) -> None:
    before = progress_of(growing.run)
    note(growing, 0, written="2026-01-01T00:00:05+00:00")
    assert progress_of(growing.run) == before is not None
    for changes in ({"state": "failed"}, {"started": "2026-01-02T00:00:00+00:00"}):
        note(growing, 0, **changes)
        assert progress_of(growing.run) != before


def test_what_cannot_be_read_leaves_the_pages_as_they_are_and_is_tried_again(
    growing: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(growing.config) as served:
        watcher = Watcher(served.server.pages)
        growing.run.write_bytes(STATUS, b"{")
        watcher.look()
        note(growing, 5)

        def refuse(*_: object) -> None:
            raise StoreError("the bucket is away")

        with monkeypatch.context() as away:
            away.setattr(RunTables, "__init__", refuse)
            watcher.look()
        assert version_of(served)["version"] == 1
        assert served.get("pairs").status == 200
        watcher.look()
        assert version_of(served)["version"] == 2


def test_a_run_without_a_status_is_shown_as_it_is(growing: Made) -> None:
    growing.run.delete(STATUS)
    with serving(growing.config) as served:
        Watcher(served.server.pages).look()
        assert version_of(served)["version"] == 1


def test_it_watches_until_it_is_stopped(growing: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "_REST", 0.0)
    with serving(growing.config, errors=False) as served:
        watcher = Watcher(served.server.pages, every=0.05)
        thread = threading.Thread(target=watcher.run)
        thread.start()
        note(growing, 3)
        deadline = time.monotonic() + 60
        while version_of(served)["version"] == 1:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        watcher.stop()
        thread.join(timeout=60)
        assert not thread.is_alive()
        version = version_of(served)["version"]
        assert not served.server.pages.read_again(), "nothing is shown any more"
        assert version_of(served)["version"] == version

"""One hostile text wherever data can put one, through a whole small report: nobody takes it for markup, in HTML or in a terminal."""

from __future__ import annotations

import io
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
from report_run import Made

from pipelines.report import rejects, show
from pipelines.report.metrics import METRICS_FILE
from pipelines.report.search import FOUND_ADAPTER, build_page
from pipelines.report.status import STATUS, print_status
from pipelines.report.summary import print_labels
from pipelines.stages.label import LabelStage
from sc3d.console import PlainConsole
from sc3d.records import Reject
from sc3d.report.search import render
from sc3d.report.terminal import print_metrics

EVIL = "<x-evil onload=alert(1)>\"'&amp;{{7*7}}[/b][bold]\x1b[31m\u202e"
IN_A_TERMINAL = r"[bold]\x1b[31m\u202e"


class Tags(HTMLParser):
    """The names of a page's elements, and the attributes that run something."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.handlers: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.handlers |= {name for name, _ in attrs if name.startswith("on")}


def check_page(page: str) -> None:
    tags = Tags()
    tags.feed(page)
    assert "x-evil" in page, "it is shown, so it is escaped"
    assert not {name for name in tags.names if "evil" in name}
    assert not tags.handlers
    assert "<x-evil" not in page
    assert "{{7*7}}" in page.replace("&#34;", '"'), "nobody computes it"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A labelled run whose folder and photos have hostile names, as its rejects, metrics and status have. Ids cannot have any."""
    folder = tmp_path_factory.mktemp("run") / EVIL.replace("/", "|")
    folder.mkdir()
    made = Made.labelled(folder)
    made.commit(LabelStage, [], [Reject(made.unlike.pair_id, "label", EVIL, EVIL)])
    row = {"method": EVIL, "dataset": EVIL, "subset": "all", "alpha": 0.1, "average": "image", "value": 0.5, "pairs": 2}
    counts = {"method": EVIL, "pairs": 2, "rejected": 1, "without_common": 1, "keypoints": 5, "outside": 1, "flipped": 1}
    filters = [{"filter": EVIL, "descriptors": EVIL, "fpr": 0.1, "kept": 3.0, "pairs": 2}]
    pck = [row, *({**row, "subset": f"category:{EVIL}{i}"} for i in range(2))]
    made.run.write_json(METRICS_FILE, {"methods": [EVIL], "filters": filters, "pck": pck, "counts": [counts]})
    stage = {"name": EVIL, "total": 9, "done": 1, "rejects": 0, "rate": 1.0}
    now = "2031-05-06T07:08:09+00:00"
    status = {"command": EVIL, "state": "failed", "reason": EVIL, "host": EVIL, "pid": 1, "started": EVIL, "written": now}
    made.run.write_json(STATUS, {**status, "stages": [stage]})
    return made


def test_the_report_shows_it_and_obeys_nothing(made: Made) -> None:
    check_page(made.page())


def test_so_does_the_page_of_a_search(made: Made) -> None:
    trial = {"settings": {EVIL: EVIL}, "pck": 0.5, "steps": 2, "curve": [[2, 0.5, 1.0]], "error": None}
    rows = [trial, {**trial, "pck": None, "curve": [], "error": EVIL}]
    made.run.write_json(FOUND_ADAPTER, {"rows": rows, "steps": 2, "space": {EVIL: [EVIL]}})
    made.run.write_bytes("sweeps/best-adapter.yaml", b"train: {noise: 0.5} # <x-evil>\n")
    check_page(render(build_page(made.run)))


PRINTERS: dict[str, Callable[[Made, PlainConsole], Any]] = {
    "summary": lambda made, console: print_labels(made.config, EVIL, console),
    "rejects": lambda made, console: rejects.print_groups(made.config, rejects.run(made.config), console),
    "show": lambda made, console: show.print_pairs(made.config, console),
    "status": lambda made, console: print_status(made.run, None, console),
    "metrics": lambda made, console: print_metrics(made.run.read_json(METRICS_FILE), console),
}


@pytest.mark.parametrize("name", PRINTERS)
def test_a_terminal_shows_it_and_obeys_nothing(made: Made, name: str) -> None:
    stream = io.StringIO()
    PRINTERS[name](made, PlainConsole(file=stream, width=600))
    text = stream.getvalue()
    assert IN_A_TERMINAL in text
    assert "\x1b" not in text
    assert "\u202e" not in text

"""``--open``: what the browser is given, of pages on a disk and in a bucket, for every command that writes one."""

from __future__ import annotations

import inspect
import os
import stat
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest
import typer
from report_run import Made

from pipelines import cli
from pipelines.report import opening
from sc3d.errors import StoreError
from sc3d.store import RunFolder


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Addresses that the browser was asked to show."""
    found: list[str] = []
    monkeypatch.setattr(opening.webbrowser, "open", found.append)
    return found


def file_of(address: str) -> Path:
    assert address.startswith("file://")
    return Path(url2pathname(urlsplit(address).path))


def test_a_page_on_a_disk_is_shown_where_it_lies(opened: list[str], tmp_path: Path) -> None:
    page = tmp_path / "a page & more.html"
    page.write_text("seen")
    opening.open_page(str(page), str(tmp_path))
    assert file_of(*opened) == page


def test_a_page_in_a_bucket_is_shown_as_a_copy_that_others_cannot_read(opened: list[str], bucket: str) -> None:
    run = RunFolder(f"{bucket}/a run")
    run.write_bytes("report/pairs/a~b.html", b"seen")
    opening.open_page(f"{run.uri}/report/pairs/a~b.html", run.uri)
    (copy,) = map(file_of, opened)
    assert (copy.name, copy.read_bytes()) == ("a~b.html", b"seen")
    assert stat.S_IMODE(os.stat(copy.parent).st_mode) == 0o700


def test_what_is_not_there_is_an_error(opened: list[str], bucket: str, tmp_path: Path) -> None:
    for page, run in ((f"{bucket}/run/report/index.html", f"{bucket}/run"), (str(tmp_path / "none.html"), str(tmp_path))):
        with pytest.raises(StoreError, match="not there"):
            opening.open_page(page, run)
    assert opened == []


@pytest.mark.parametrize("name", ["report", "show", "orient", "view", "label", "reconstruct", "describe", "match", "demo", "sweep"])
def test_every_command_that_writes_a_page_can_open_it(name: str) -> None:
    command = typer.main.get_command(cli.app).commands[name]  # type: ignore[attr-defined]
    assert "--open" in {text for option in command.params for text in option.opts}
    assert "open_" in inspect.getsource(command.callback) or "open_" in inspect.signature(command.callback).parameters


def test_the_report_of_a_command_is_opened(opened: list[str], tmp_path: Path) -> None:
    made = Made(tmp_path)
    made.manifest()
    with pytest.raises(SystemExit, match="0"):
        cli.main(["report", "--run", made.config.run, "--open"])
    assert file_of(*opened) == Path(made.config.run) / "report" / "index.html"

"""``sc3d orient``: which photos are on the page, and what is clicked becomes a file that a run reads."""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
import report_browser as browser
from report_run import Made

from pipelines import cli
from pipelines.folder.manifest import IMAGES
from pipelines.report import facing
from pipelines.report.summary import print_labels
from pipelines.stages.reconstruct import ReconstructStage
from sc3d.datasets.facing import read_facings
from sc3d.errors import InputError
from sc3d.records import LOW_CONFIDENCE, ImageRecord

CONFIDENCES = {"blob-0": 0.4, "blob-1": 0.2, "blob-2": 3.0, "bump-0": 0.1, "bump-1": 2.0, "bump-2": -1.0}


def run_with(folder: Path, confidences: dict[str, float]) -> Made:
    made = Made(folder)
    made.manifest()
    images = [image.replace(facing=180.0 if image.image_id == "bump-1" else None) for image in made.images]
    made.run.write_records(ImageRecord, IMAGES, images)
    flagged = {id_: (LOW_CONFIDENCE,) if 0 <= value < 1 else () for id_, value in confidences.items()}
    rows = [
        dataclasses.replace(one.reconstruction, confidence=confidences[id_], flags=flagged[id_]) for id_, one in made.scenes.items()
    ]
    made.commit(ReconstructStage, rows)
    return made


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return run_with(tmp_path_factory.mktemp("facing"), CONFIDENCES)


def ids_on(page: str) -> list[str]:
    return re.findall(r'data-image="([^"]+)"', Path(page).read_text(encoding="utf-8"))


def test_the_page_shows_the_least_sure_and_what_was_said(made: Made) -> None:
    found = facing.run(made.config)
    assert (found.unsure, found.settled, found.shown) == (3, 1, 4)
    assert ids_on(found.page) == ["blob-1", "blob-0", "bump-0", "bump-1"]
    assert re.findall(r'data-side="([a-z-]+)" aria-pressed="true"', Path(found.page).read_text()) == ["rear"]
    assert ids_on(facing.run(made.config, most=2).page) == ["blob-1", "bump-0"]
    assert len(ids_on(facing.run(made.config, everything=True).page)) == 5, "an inflated mesh has no pose to be sure of"


def test_the_table_in_the_terminal_says_how_many_are_unsure(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    print_labels(made.config, "page.html")
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("unsure"))
    assert line.split()[1] == "3"


def test_without_a_template_there_is_nothing_to_say(tmp_path: Path) -> None:
    made = run_with(tmp_path, dict.fromkeys(CONFIDENCES, -1.0))
    with pytest.raises(InputError, match="has no template meshes in estimated poses"):
        facing.run(made.config)


def test_the_command_says_how_many(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["orient", made.config.run])
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith("3 photos are unsure, 1 were settled by a person; 4 are on the page: ")
    assert said.endswith("report/orient.html")


@pytest.mark.slow
@pytest.mark.skipif(browser.EXECUTABLE is None, reason="no Chromium is installed")
def test_clicks_become_the_lines_that_a_run_reads(made: Made, tmp_path: Path) -> None:
    page = facing.run(made.config).page
    with browser.Browser(tmp_path / "profile") as tab:
        tab.view(1400)
        tab.open(Path(page))
        press = 'document.querySelector(\'[data-image="{}"] [data-side="{}"]\').click()'
        for image, side in (("blob-1", "left"), ("blob-1", "rear-left"), ("bump-0", "front"), ("bump-0", "front")):
            tab.run(press.format(image, side))
        saved = unquote(tab.run("document.getElementById('save').href").partition(",")[2])
        assert saved == tab.run("document.getElementById('lines').value")
        for width in (1400, 390):
            tab.view(width)
            assert tab.run("document.documentElement.scrollWidth") == width
        assert tab.problems == []
        assert {url.partition(":")[0] for url in tab.requests} == {"file", "data"}
    assert len(list(csv.reader(io.StringIO(saved)))) == 3
    (tmp_path / "facing.csv").write_text(saved)
    assert read_facings(tmp_path / "facing.csv") == {"blob-1": 135.0, "bump-1": 180.0}

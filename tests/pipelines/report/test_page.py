"""The report of run folders in every state, the terminal tables, and the page in a real browser."""

from __future__ import annotations

import dataclasses
import io
import os
import re
from pathlib import Path

import numpy as np
import pytest
import report_browser as browser
from report_run import EVIL, Made

from pipelines.report import page as report
from pipelines.report.metrics import METRICS_FILE
from pipelines.stages.adapter import train_job
from pipelines.stages.describe import DescribeStage
from pipelines.stages.label import LabelStage
from pipelines.stages.reconstruct import ReconstructStage
from sc3d.config_file import load_config
from sc3d.errors import StoreError
from sc3d.matching.thresholds import apply_thresholds
from sc3d.records import Reject
from sc3d.store import RunFolder

METRICS = {
    "filters": [{"filter": "cycle + geodesic", "descriptors": EVIL, "fpr": 0.02, "kept": 400.0, "pairs": 40}],
    "pck": [
        {"method": m, "dataset": "toys", "subset": s, "alpha": a, "average": "image", "value": v, "pairs": 40}
        for m, v in (("zero-shot", 0.512), ("adapter", 0.734))
        for s in ("all", "geo-aware", "category:cup")
        for a in (0.1, 0.05)
    ],
    "alignment": {"n": 6, "iou_before": 0.6, "iou_after": 1.0},
    "yaw": {"turned": 2, "undone": 2, "uncertain": 0},
    "stages": [],
}


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A run with everything but an adapter."""
    made = Made.labelled(tmp_path_factory.mktemp("full"))
    made.run.write_json(METRICS_FILE, METRICS)
    return made


def text_of(page: str, section: str) -> str:
    found = re.search(rf'<section id="{section}">(.*?)</section>', page, re.DOTALL)
    assert found is not None, section
    return found.group(1)


def test_whole_run_is_on_the_page(full: Made) -> None:
    page = full.page()
    assert text_of(page, "pairs").count("<article") == len(full.pairs) == 6
    assert text_of(page, "alignment").count("<article") == 6
    assert text_of(page, "yaw").count("<article") == 6
    assert text_of(page, "features").count("<article") == 2
    kept = sum(apply_thresholds(m, full.config.label).n_kept for m in full.matches)
    assert kept > 100
    assert f"{kept:,}" in text_of(page, "filters")
    assert "histogram of geodesic error" in text_of(page, "filters")
    assert "73.4" in text_of(page, "evaluation")
    assert "2 were turned" in text_of(page, "yaw")
    assert "2 meshes of this data set had been turned on purpose; 0 of these turns are left." in text_of(page, "yaw")
    assert f"sc3d train --run {full.config.run}" in text_of(page, "training")
    assert "reconstruct" in text_of(page, "timings")
    assert "was not liked" in text_of(page, "rejects")
    assert "tau_geo: 0.05" in text_of(page, "files")
    assert f"../{LabelStage(full.config).artefacts.prefix}/" in text_of(page, "files")
    assert "could not be shown" not in page
    assert len(page) < 8_000_000


def test_nothing_from_outside_is_markup(full: Made) -> None:
    page = full.page()
    assert EVIL not in page
    # In the data set's root (facts and configuration), the reject's message, and the descriptors' name.
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 4
    assert page.count("<script") == 1


def test_same_run_gives_the_same_page(full: Made) -> None:
    assert full.page() == full.page()


def test_photos_that_are_gone_become_grey(full: Made) -> None:
    path = Path(full.images[0].path)
    data = path.read_bytes()
    try:
        path.unlink()
        page = full.page()
    finally:
        path.write_bytes(data)
    assert text_of(page, "pairs").count("<article") == 6
    assert text_of(page, "alignment").count("<article") == 6


def test_a_damaged_feature_file_costs_its_pairs_only(full: Made) -> None:
    name = DescribeStage(full.config).feature_file("blob-0")
    data = full.run.read_bytes(name)
    try:
        full.run.write_bytes(name, data[: len(data) // 2])
        page = full.page()
    finally:
        full.run.write_bytes(name, data)
    assert text_of(page, "pairs").count("<article") == 4
    assert "blob-0~blob-1 could not be shown" in text_of(page, "pairs")


def test_a_damaged_file_of_rejects_is_named(full: Made) -> None:
    (name,) = full.run.names("rejects/label")
    data = full.run.read_bytes(name)
    try:
        full.run.write_bytes(name, data[:20])
        page = full.page()
    finally:
        full.run.write_bytes(name, data)
    assert "DamagedFileError" in text_of(page, "rejects")
    assert name in text_of(page, "rejects")


def test_damaged_metrics_are_said_to_be_damaged(full: Made) -> None:
    try:
        full.run.write_bytes(METRICS_FILE, b"{")
        page = full.page()
    finally:
        full.run.write_json(METRICS_FILE, METRICS)
    assert "is not valid JSON" in text_of(page, "evaluation")


def test_other_thresholds_have_no_labels_yet(full: Made) -> None:
    config = dataclasses.replace(full.config, label=dataclasses.replace(full.config.label, tau_geo=0.01))
    page = Path(report.run(config)).read_text(encoding="utf-8")
    assert text_of(page, "pairs").count("<article") == 6
    assert "label thresholds were not applied yet" in text_of(page, "filters")
    full.page()


def test_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    config = load_config(overrides=[f"run={tmp_path}/none"])
    with pytest.raises(StoreError, match="holds no run; make one with: sc3d label"):
        report.run(config)
    assert not (tmp_path / "none").exists()


@pytest.fixture
def made(tmp_path: Path) -> Made:
    result = Made(tmp_path)
    result.manifest()
    return result


def test_run_that_has_only_begun(made: Made) -> None:
    page = made.page()
    for section in ("pairs", "filters", "alignment", "yaw", "features", "training", "timings"):
        assert f"--run {made.config.run}" in text_of(page, section), section
    assert "no annotated pairs" in text_of(page, "evaluation")
    assert "sc3d evaluate" not in page


def test_run_with_reconstructions_only(made: Made) -> None:
    made.reconstruct()
    page = made.page()
    assert text_of(page, "alignment").count("<article") == 6
    assert re.search(r"<b>1\.00</b><span>mesh fit</span><small>mean IoU with the mask; 0\.\d\d before", page)
    for section in ("pairs", "filters", "features"):
        assert 'class="missing"' in text_of(page, section)


def test_run_without_a_single_label(made: Made) -> None:
    made.reconstruct()
    made.describe()
    made.match()
    made.label(nothing=True)
    page = made.page()
    assert "0 % of the candidates" in page
    assert "6 pairs have none" in page
    assert text_of(page, "pairs").count("<article") == 6


def test_run_with_everything_rejected(made: Made) -> None:
    rejects = [Reject(i, "reconstruct", "InputError", f"LoadImage: {EVIL}: the file is empty") for i in made.scenes]
    made.commit(ReconstructStage, [], rejects)
    page = made.page()
    assert "Every record was rejected" in text_of(page, "pairs")
    assert "Every image was rejected" in text_of(page, "alignment")
    assert "the file is empty" in text_of(page, "rejects")
    assert EVIL not in page


def test_training_curve_is_shown(made: Made, tmp_path: Path) -> None:
    import torch

    from training.adapter import Adapter
    from training.checkpoint import CHECKPOINT_VERSION

    job = train_job(made.config)
    losses = torch.tensor([[step + 1, 3.0 - step / 100, 2.0, 1.0, 1e-3] for step in range(150)], dtype=torch.float64)
    stream = io.BytesIO()
    adapter = Adapter([4, 4], 8).state_dict()
    values = {
        "version": CHECKPOINT_VERSION,
        "identity": "",
        "adapter": adapter,
        "history": losses,
        "validation": torch.zeros(0, 2, dtype=torch.float64),
    }
    torch.save(values, stream)
    made.run.write_bytes(job.checkpoint_file, stream.getvalue())
    section = text_of(made.page(), "training")
    assert "150 of 200,000 steps" in section
    assert 'class="curve mean"' in section


def test_report_on_s3(full: Made, bucket: str) -> None:
    config = dataclasses.replace(full.config, run=f"{bucket}/some/run")
    there = RunFolder(config.run)
    for folder, _, files in os.walk(full.config.run):
        for name in files:
            path = Path(folder) / name
            there.write_bytes(str(path.relative_to(full.config.run)), path.read_bytes())
    assert report.run(config) == f"{bucket}/some/run/report/index.html"
    page = there.read_bytes("report/index.html").decode()
    assert text_of(page, "pairs").count("<article") == 6


@pytest.mark.slow
@pytest.mark.skipif(browser.EXECUTABLE is None, reason="no Chromium is installed")
def test_page_in_a_browser(full: Made, tmp_path: Path) -> None:
    """No console error, no request, every picture decoded, nothing wider than the window; toggles, and following a match."""
    full.page()
    with browser.Browser(tmp_path / "profile") as tab:
        tab.view(1400)
        tab.open(Path(full.config.run) / "report" / "index.html")
        assert tab.run("document.images.length") > 30
        assert tab.run("[...document.images].filter(i => i.naturalWidth === 0).length") == 0
        load = "new Promise(done => { const p = new Image(); p.onload = () => done(0); p.onerror = () => done(1); p.src = uri; })"
        uris = "[...document.querySelectorAll('svg image')].map(i => i.getAttribute('href'))"
        broken = f"Promise.all({uris}.map(uri => {load})).then(all => all.reduce((a, b) => a + b, 0))"
        assert tab.run("document.querySelectorAll('svg image').length") >= 24
        assert tab.run(broken) == 0

        shown = "getComputedStyle(document.querySelector('.pair .lines.layer-{}')).display !== 'none'"
        assert (tab.run(shown.format("kept")), tab.run(shown.format("geodesic"))) == (True, False)
        tab.run("document.querySelector('.pair .show-kept').click(), document.querySelector('.pair .show-geodesic').click()")
        assert (tab.run(shown.format("kept")), tab.run(shown.format("geodesic"))) == (False, True)

        # The first drawn match of the second pair: its end on the left photo, in the window.
        tab.run("window.card = document.querySelectorAll('.pair')[1]")
        tab.run("card.scrollIntoView({behavior: 'instant', block: 'center'})")
        box = (
            "(b => [b.x + b.width / 2, b.y + b.height / 2])(card.querySelector('.lines.layer-kept circle').getBoundingClientRect())"
        )
        x, y = tab.run(box)
        tab.point(x, y)
        said = tab.run("card.querySelector('.probe-text').textContent")
        assert re.fullmatch(r"kept · cosine [01]\.\d\d · back within \d+ px · geodesic error 0\.0\d\d mesh diagonals", said)
        centres = (
            "[...card.querySelectorAll('{} circle')].slice(0, 2).map(c => ['cx', 'cy'].map(name => Number(c.getAttribute(name))))"
        )
        np.testing.assert_allclose(tab.run(centres.format(".probe")), tab.run(centres.format(".lines.layer-kept")), atol=0.1)
        tab.point(2, y)
        assert tab.run("card.querySelector('.probe').hasAttribute('hidden')")

        grounds = set()
        for width, dark in ((1400, False), (1400, True), (390, False), (390, True)):
            tab.view(width, dark=dark)
            assert tab.run("document.documentElement.scrollWidth") == width
            grounds.add(tab.run("getComputedStyle(document.body).backgroundColor"))
        assert len(grounds) == 2
        assert tab.problems == []
        assert {url.partition(":")[0] for url in tab.requests} == {"file", "data"}
        assert len({url for url in tab.requests if url.startswith("file:")}) == 1


@pytest.mark.slow
@pytest.mark.skipif(browser.EXECUTABLE is None, reason="no Chromium is installed")
def test_page_without_scripts(full: Made, tmp_path: Path) -> None:
    """Toggles are style alone, and what needs a script is not offered without one."""
    full.page()
    with browser.Browser(tmp_path / "profile") as tab:
        tab.view(1400, script=False)
        tab.open(Path(full.config.run) / "report" / "index.html")
        assert tab.run("document.documentElement.classList.contains('js')") is False
        assert tab.run("getComputedStyle(document.querySelector('.probe-text')).display") == "none"
        tab.run("document.querySelector('.pair .show-cycle').click()")
        assert tab.run("getComputedStyle(document.querySelector('.pair .lines.layer-cycle')).display") == "inline"
        assert tab.problems == []

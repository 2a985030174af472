"""Rejects as a person meets them: grouped, with what to do, and tried again when that was done."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from pipelines.cli import main
from pipelines.jobs import label
from pipelines.report.status import read_status
from pipelines.stages.label import LabelStage
from pipelines.stages.reconstruct import ReconstructStage
from sc3d.config_file import load_config
from sc3d.store import RunFolder


def command(*arguments: str) -> int:
    with pytest.raises(SystemExit) as done:
        main(arguments)
    return int(done.value.code or 0)


@pytest.mark.usefixtures("ray_session")
@pytest.mark.slow
def test_a_mended_photo_is_labelled_and_others_are_tried_again_when_asked_for(
    tmp_path: Path, shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, run = tmp_path / "photos", str(tmp_path / "run")
    root.mkdir()
    shutil.copy(shared / "data" / "photos" / "bus_1.jpg", root / "a.jpg")
    (root / "broken.jpg").write_text("no photo")
    (root / "hopeless.jpg").write_text("no photo either")
    values = {
        "run": run,
        "dataset": {"root": str(root), "category": "bus"},
        "max_reject_fraction": 0.9,
        "pairs": {"strategy": "all"},
    }
    config = load_config(None, [], values)
    label.run(config)
    assert sorted(r.id.split("-")[0] for r in ReconstructStage(config).rejects()) == ["broken", "hopeless"]

    assert command("rejects", run, "--examples", "1") == 0
    shown = capsys.readouterr().out
    assert "reconstruct" in shown
    assert "2 x InputError" in shown
    assert "--retry-rejects" in shown

    Image.open(shared / "data" / "photos" / "bus_2.jpg").save(root / "broken.jpg")
    label.run(config)
    (reject,) = ReconstructStage(config).rejects()
    assert reject.id.startswith("hopeless"), "what was mended is another photo"
    assert reject.attempts == 1, "what was not is not tried again unasked"
    labels = LabelStage(config).catalogue()
    assert len(labels.ids) == 2
    assert sum(row.n_kept for row in labels.read_all()) > 0
    label.run(config, retry_rejects=True)
    (reject,) = ReconstructStage(config).rejects()
    assert reject.id.startswith("hopeless")
    assert reject.attempts == 2

    status = read_status(RunFolder(run))
    assert status["state"] == "finished"
    assert {stage["name"]: stage["done"] for stage in status["stages"]}["reconstruct"] == 3
    assert command("status", run) == 0
    shown = capsys.readouterr().out
    assert "label finished" in shown
    assert "reconstruct" in shown

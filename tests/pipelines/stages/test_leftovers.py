"""What does not count goes, and of what counts nothing does, also after a clean that was cut short."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from commit_rows import commit_rows

from pipelines.folder.images import IMAGES
from pipelines.report.leftovers import print_leftovers
from pipelines.stages.leftovers import find_leftovers, remove_leftovers
from pipelines.stages.orient import OrientStage
from sc3d.config_file import load_config
from sc3d.lease import RunLease
from sc3d.records import ImageRecord, Orientation
from sc3d.store import RunFolder


@pytest.mark.parametrize("gone", ["b", "e", "u", "v", "z"])
def test_what_counts_outlives_a_file_that_has_the_name_of_what_is_kept(gone: str, tmp_path: Path) -> None:
    """A clean was cut short when it had written what counts of the mixed file, and not yet deleted that."""
    config = load_config(None, [f"run={json.dumps(str(tmp_path))}"])
    RunFolder(tmp_path).write_records(ImageRecord, IMAGES, [ImageRecord("a", "a.jpg", "car", inputs="those of a")])
    stage = OrientStage(config)
    rows = {image_id: Orientation(image_id, "car", 90, np.zeros(8), False) for image_id in ("a", gone)}
    commit_rows(stage, "car", [rows["a"], rows[gone]])
    commit_rows(stage, "car", [rows["a"]])
    with RunLease(RunFolder(config.run)):
        assert remove_leftovers(config, find_leftovers(config), others=False) >= 1
    assert [(one.image_id, one.turn) for one in stage.catalogue().read_all()] == [("a", 90)]
    assert find_leftovers(config) == []


def test_rows_that_are_there_twice_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = load_config(None, [f"run={json.dumps(str(tmp_path))}"])
    records = [ImageRecord(image_id, f"{image_id}.jpg", "car", inputs=f"those of {image_id}") for image_id in "ab"]
    RunFolder(tmp_path).write_records(ImageRecord, IMAGES, records)
    stage = OrientStage(config)
    rows = [Orientation(image_id, "car", 90, np.zeros(8), False) for image_id in "abc"]
    commit_rows(stage, "car", rows)
    commit_rows(stage, "car", rows[:2])
    assert [(one.stage, one.rows, one.doubled) for one in find_leftovers(config)] == [("orient", 3, 2)]
    print_leftovers(config)
    assert "2 of them of ids that are there twice" in " ".join(capsys.readouterr().out.split())

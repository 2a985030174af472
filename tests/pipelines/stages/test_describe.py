"""Feature files are those of the image that they are read for, and of the version that is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.stages.describe import DescribeStage
from sc3d.config import RunConfig
from sc3d.errors import SchemaError
from sc3d.features import FEATURES_VERSION, encode_features
from sc3d.records import ImageRecord
from sc3d.store import RunFolder
from tests.sc3d.matching.scene import random_features


def test_the_file_of_another_image_is_refused(tmp_path: Path) -> None:
    run, stage = RunFolder(tmp_path), DescribeStage(RunConfig(run=str(tmp_path)))
    run.write_records(ImageRecord, "images.parquet", [ImageRecord(name, "", "car") for name in ("a", "b")])
    data = encode_features(random_features(1, "a"))
    run.write_bytes(stage.feature_file("a"), data)
    assert stage.read_features("a").image_id == "a"
    run.write_bytes(stage.feature_file("b"), data)
    with pytest.raises(SchemaError, match="holds the features of a; delete it and describe again"):
        stage.read_features("b")


def test_another_format_is_another_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that files of an older format are made again instead of refused."""
    config = RunConfig(run=str(tmp_path))
    assert str(FEATURES_VERSION) in DescribeStage.version
    before = DescribeStage(config).recipe
    monkeypatch.setattr(DescribeStage, "version", "features-1")
    assert DescribeStage(config).recipe != before

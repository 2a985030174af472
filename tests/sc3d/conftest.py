"""A run folder on each kind of store."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sc3d.store import RunFolder
from sc3d.store_s3 import S3Store

# The helpers beside this file.
sys.path.insert(0, str(Path(__file__).resolve().parent))


@pytest.fixture(params=["disk", "s3", "plain s3"])
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """On a disk, in a bucket with conditional writes, and in one without."""
    if request.param == "disk":
        return RunFolder(tmp_path / "run")
    if request.param == "plain s3":
        monkeypatch.setattr(S3Store, "create", lambda self, path, data: None)
    return RunFolder(request.getfixturevalue("bucket") + "/runs/one")

"""Photos that cannot be used become rejects, each alone: none hangs or ends a run, and none is taken for a picture that it is not."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from actors.base import run_actors
from actors.offline.load import LoadImage
from sc3d.config import RunConfig


@pytest.mark.timeout(60)
def test_photos_that_cannot_be_used_are_rejected_alone(tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (120, 160, 3)).astype(np.uint8))
    for name in ("good.jpg", "half.jpg", "tall.jpg", "last.png"):
        noise.save(tmp_path / name)
    data = (tmp_path / "good.jpg").read_bytes()
    (tmp_path / "half.jpg").write_bytes(data[: len(data) // 2] + b"\xff\xd9")
    header = data.index(b"\xff\xc0")
    (tmp_path / "tall.jpg").write_bytes(data[: header + 5] + (1200).to_bytes(2, "big") + data[header + 7 :])
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "endless.jpg").symlink_to("/dev/zero")
    with open(tmp_path / "sparse.jpg", "wb") as file:
        file.truncate(20 * 10**9)
    names = ("half", "good", "pipe", "endless", "tall", "sparse", "last")
    rows = [{"image_id": name, "path": str(next(tmp_path.glob(f"{name}.*")))} for name in names]
    outcomes = dict(zip(names, run_actors([LoadImage(RunConfig())], rows, "image_id", "reconstruct"), strict=True))
    for name, reason in (
        ("half", "less than its header promises"),
        ("tall", "less than its header promises"),
        ("pipe", "it is a pipe, not a file"),
        ("endless", "it is a device, not a file"),
        ("sparse", "20,000.0 MB is larger than 100 MB"),
    ):
        reject = outcomes[name].reject
        assert reject is not None
        assert reject.error_type == "InputError"
        assert reason in reject.message
    assert outcomes["good"].reject is None
    assert outcomes["last"].reject is None

"""Labels of photos that lie on the disk, in a bucket and on the web."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import boto3
import pyarrow as pa
import pytest
from web_server import WebServer

from pipelines.jobs import label
from pipelines.stages.label import LabelStage
from pipelines.stages.reconstruct import ReconstructStage
from sc3d.config_file import load_config


@pytest.fixture
def web(shared: Path) -> Iterator[WebServer]:
    server = WebServer((shared / "data" / "photos" / "bus_2.jpg").read_bytes())
    yield server
    server.stop()


@pytest.mark.usefixtures("ray_session")
def test_an_address_that_times_out_is_one_reject(tmp_path: Path, shared: Path, bucket: str, s3_server: str, web: WebServer) -> None:
    shutil.copy(shared / "data" / "photos" / "bus_1.jpg", tmp_path / "bus_1.jpg")
    client = boto3.client("s3", endpoint_url=s3_server)
    client.upload_file(str(shared / "data" / "photos" / "bus_2.jpg"), bucket.removeprefix("s3://"), "photos/bus 2.jpg")
    addresses = ("bus_1.jpg", f"{bucket}/photos/bus 2.jpg", web.url("hang?sig=tell-nobody"))
    rows = [f"{address},bus,{name}" for address, name in zip(addresses, ("here", "bucket", "web"), strict=True)]
    (tmp_path / "photos.csv").write_text("\n".join(("path,category,image_id", *rows)))
    download = {"timeout": 0.3, "attempts": 2, "hosts": ["127.0.0.1"]}
    values = {
        "run": str(tmp_path / "run"),
        "dataset": {"kind": "table", "root": str(tmp_path / "photos.csv"), "download": download},
        "max_reject_fraction": 0.9,
        "pairs": {"targets": 2},
    }
    config = load_config(None, (), values)
    label.run(config)
    stage = ReconstructStage(config)
    assert set(stage.catalogue().located) == {"here", "bucket"}
    (reject,) = stage.rejects()
    assert (reject.id, reject.error_type) == ("web", "InputError")
    assert "says nothing for 0.3 s" in reject.message
    assert "nobody" not in reject.message
    assert web.seen["hang"] == 2
    labels = LabelStage(config)
    found = pa.concat_tables([labels.run.read_table(labels.record, name) for name in labels.artefacts.files()]).to_pylist()
    kept = {row["pair_id"]: row["n_kept"] for row in found}
    assert set(kept) == {"here~bucket", "bucket~here"}
    assert min(kept.values()) > 0

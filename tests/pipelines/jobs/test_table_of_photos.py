"""Labels of photos that lie on the disk, in a bucket and on the web."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from web_server import WebServer

from pipelines.cli import main
from pipelines.cli.options import stored_configuration
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


def texts_of(folder: Path) -> Iterator[tuple[str, str]]:
    """Name and content of the files below a folder; of tables, their rows."""
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".parquet":
            yield str(path.relative_to(folder)), str(pq.read_table(path, partitioning=None).to_pylist())
        elif path.is_file():
            yield str(path.relative_to(folder)), path.read_bytes().decode(errors="replace")


def command_line(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert not ended.value.code


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_no_secret_of_an_address_leaves_the_manifest(tmp_path: Path, web: WebServer, capfd: pytest.CaptureFixture[str]) -> None:
    addresses = {
        "signed": web.url("photo.jpg?sig=tell-nobody"),
        "moved": web.url("moved/now?a=b&sig=tell-nobody#tell-nobody"),
        "refused": web.url("status/403?sig=tell-nobody"),
        "stranger": f"s3://photos/a.jpg?endpoint_override=127.0.0.1:{web.port}&scheme=http&token=tell-nobody",
        "inside": f"http://127.0.0.2:{web.port}/photo.jpg?sig=tell-nobody",
    }
    table, run, out = tmp_path / "photos.csv", str(tmp_path / "run"), str(tmp_path / "export")
    table.write_text("\n".join(("path,category,image_id", *(f"{path},bus,{name}" for name, path in addresses.items()))))
    options = ["dataset.download.hosts=[127.0.0.1]", "max_reject_fraction=0.9", "pairs.strategy=all"]
    sets = [word for option in options for word in ("--set", option)]
    command_line(["label", "--kind", "table", "--images", str(table), "--run", run, *sets])
    asked = web.seen["photo.jpg"]
    command_line(["report", "--run", run])
    assert web.seen["photo.jpg"] > asked, "the report shows it"
    for command in (["show"], ["show", "signed~moved"], ["rejects"], ["status"], ["clean"], ["export", "labels", out]):
        command_line([*command, "--run", run])
    printed = "".join(capfd.readouterr())
    rejects = {reject.id: reject.message for reject in ReconstructStage(stored_configuration(run)).rejects()}
    assert set(rejects) == {"refused", "stranger", "inside"}
    assert "the server refuses it (403)" in rejects["refused"]
    assert "has no options" in rejects["stranger"]
    assert "its host may not be asked: '127.0.0.2' is at 127.0.0.2" in rejects["inside"]
    assert set(web.seen) == {"photo.jpg", "moved/now", "photo.png", "status/403"}
    for text in rejects.values():
        assert text.partition(": ")[2] in printed
    found = dict(texts_of(tmp_path))
    assert {"run/report/index.html", "run/report/pairs/signed~moved.html", "run/run.json", "export/README.md"} <= set(found)
    assert {name for name, text in found.items() if "tell-nobody" in text} == {"photos.csv", "run/images.parquet"}
    assert "tell-nobody" not in printed

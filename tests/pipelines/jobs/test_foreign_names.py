"""A run from end to end on S3 whose category, photos and folder have names in other scripts and with spaces."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import boto3
import pytest
from run_server import serving

import sc3d
from pipelines.cli import main
from pipelines.cli.options import stored_configuration
from sc3d.store import RunFolder

CATEGORY = "autobus à étage バス"
RUN = "mes essais/été n° 1"
PHOTOS = ("photos été/bus nº 1.jpg", "photos été/バス 2.jpg")


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a command prints, which ends well."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(words)
    out, err = capsys.readouterr()
    assert not ended.value.code, err
    assert "Traceback" not in err
    return out


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_a_run_whose_names_are_not_ascii_and_have_spaces(
    tmp_path: Path, shared: Path, bucket: str, s3_server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    client, name = boto3.client("s3", endpoint_url=s3_server), bucket.removeprefix("s3://")
    for number, key in enumerate(PHOTOS, start=1):
        client.upload_file(str(shared / "data" / "photos" / f"bus_{number}.jpg"), name, key)
    table = "\n".join(["path,category", *(f"{bucket}/{key},{CATEGORY}" for key in PHOTOS)])
    client.put_object(Bucket=name, Key="tables/liste des photos.csv", Body=table.encode())
    uri = f"{bucket}/{RUN}"
    out = said(
        capsys,
        "label",
        "--kind",
        "table",
        "--images",
        f"{bucket}/tables/liste des photos.csv",
        "--run",
        uri,
        "--set",
        "pairs.targets=2",
    )
    assert f"{uri}/report/index.html" in out.replace("\n", "")
    assert {stage["done"] for stage in json.loads(said(capsys, "status", uri, "--json"))["stages"]} == {2}
    assert "finished" in said(capsys, "status", uri)
    assert said(capsys, "rejects", uri, "--json")
    assert "Nothing is left over" in said(capsys, "clean", uri)

    labels = sc3d.labels(uri)
    matches = labels.matches()
    assert set(matches["category"].to_pylist()) == {CATEGORY}
    pair = labels.pairs()["pair_id"][0].as_py()
    assert sc3d.meshes(uri, unsure=True)[labels.pairs()["source_id"][0].as_py()].mask is not None
    assert pair in said(capsys, "show", "--run", uri).replace("\n", "")
    page = said(capsys, "show", pair, "--run", uri).removeprefix("pair: ").strip()
    folder, _, file = page.rpartition("/report/pairs/")
    assert pair in RunFolder(folder).read_bytes(f"report/pairs/{file}").decode()
    picture = tmp_path / "le résultat.png"
    said(capsys, "show", pair, "--run", uri, "--out", str(picture))
    assert picture.read_bytes().startswith(b"\x89PNG")

    for format_, more in (("huggingface", ["--with-images"]), ("coco", []), ("diy-sc", [])):
        to = f"{bucket}/exports/{format_} à part"
        assert to in said(capsys, "export", "labels", to, "--format", format_, "--run", uri, *more).replace("\n", "")
        assert client.list_objects_v2(Bucket=name, Prefix=f"exports/{format_} à part/")["KeyCount"] > 0
    said(capsys, "relabel", "--run", uri, "--tau-geo", "0.02")
    assert len(sc3d.labels(uri).matches()) < len(matches)

    with serving(stored_configuration(uri)) as viewed:
        assert CATEGORY in viewed.get(f"pairs?category={quote(CATEGORY)}").text
        assert viewed.get(f"pair/{quote(pair)}").status == 200
        assert viewed.get(f"image/{quote(labels.pairs()['source_id'][0].as_py())}").status == 200

"""A table of photos as a dataset."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipelines.cli.options import configuration, dataset_options
from sc3d.config import DatasetConfig
from sc3d.datasets.folder import read_folder
from sc3d.datasets.registry import read_dataset
from sc3d.datasets.table import read_table
from sc3d.errors import ConfigError, InputError, StoreUnavailableError
from sc3d.images import load_image


def table(folder: Path, text: str, name: str = "photos.csv") -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def test_a_table_of_all_columns(tmp_path: Path) -> None:
    text = (
        "note,path,category,image_id,split,bbox,mask_path\n"
        'a,bus/a 1.jpg,bus,,,,\n"b, c",s3://bucket/b.jpg,wild cat,my-b,val,1 2 30.5 40,masks/b.png\n'
        "d,https://example.org/d.jpg?sig=x,bus, d ,test, ,s3://bucket/d.png\n"
    )
    first, second, third = read_table(table(tmp_path, text))
    assert (first.path, first.category, first.split) == (str(tmp_path / "bus/a 1.jpg"), "bus", "trn")
    assert first.bbox is None
    assert first.mask_path is None
    assert (second.path, second.image_id, second.category, second.split) == ("s3://bucket/b.jpg", "my-b", "wild cat", "val")
    assert second.bbox is not None
    np.testing.assert_array_equal(second.bbox, [1, 2, 30.5, 40])
    assert second.mask_path == str(tmp_path / "masks/b.png")
    assert (third.path, third.image_id, third.split) == ("https://example.org/d.jpg?sig=x", "d", "test")
    assert third.mask_path == "s3://bucket/d.png"


def test_ids_are_those_of_the_folder_reader(tmp_path: Path) -> None:
    for name in ("bus/a.jpg", "bus/été 2.jpg", "car/a.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (20, 20)).save(tmp_path / name)
    expected = {image.path: image.image_id for image in read_folder(tmp_path)}
    found = read_table(table(tmp_path, "path,category\nbus/a.jpg,bus\n./bus//été 2.jpg,bus\ncar/a.jpg,car\n"))
    assert {image.path: image.image_id for image in found} == expected


def test_ids_of_addresses_hold_no_secret_and_tell_addresses_apart(tmp_path: Path) -> None:
    rows = ("https://x.org/a.jpg?sig=tell-nobody", "https://x.org/a.jpg?id=2", "s3://one/a.jpg", "s3://two/a.jpg")
    ids = [image.image_id for image in read_table(table(tmp_path, "path,category\n" + "".join(f"{r},bus\n" for r in rows)))]
    assert len(set(ids)) == 4
    assert all(i.startswith("a-") and "nobody" not in i for i in ids)


def test_a_parquet_table(tmp_path: Path) -> None:
    columns: dict[str, Any] = {
        "path": ["a.jpg", "s3://bucket/b.jpg"],
        "category": ["bus", "bus"],
        "bbox": [[1.0, 2.0, 3.0, 4.0], None],
        "split": [None, "val"],
    }
    where = str(tmp_path / "no ending")
    pq.write_table(pa.table(columns), where)
    first, second = read_table(where)
    assert first.bbox is not None
    assert (first.bbox.tolist(), first.split) == ([1, 2, 3, 4], "trn")
    assert (second.bbox, second.split, second.path) == (None, "val", "s3://bucket/b.jpg")
    pq.write_table(pa.table({**columns, "category": ["bus", ""]}), where)
    with pytest.raises(InputError, match=r"row 2: '' cannot be a category"):
        read_table(where)
    Path(where).write_bytes(Path(where).read_bytes()[:-20])
    with pytest.raises(InputError, match="damaged Parquet"):
        read_table(where)
    pq.write_table(pa.table({**columns, "path": [1, 2]}), where)
    with pytest.raises(InputError, match="row 1: path is not a text but a int"):
        read_table(where)


def test_byte_order_mark_windows_lines_quoted_newlines_and_blank_lines(tmp_path: Path) -> None:
    where = table(tmp_path, "")
    Path(where).write_bytes('\ufeffpath, category ,note\r\na.jpg,bus,"two\r\nlines"\r\n\r\nb.jpg,b/s,x\r\n'.encode())
    with pytest.raises(InputError, match=r"line 5: 'b/s' cannot be a category"):
        read_table(where)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "the table is empty; its first line must name the columns"),
        ("\n\n", "the table is empty"),
        ("path,category\n", "lists no photos"),
        ("file,category\na.jpg,bus\n", "no column path; it has file, category"),
        ("image,label\na.jpg,bus\n", "no column path and no column category"),
        ("path;category\na.jpg;bus\n", "separate columns by commas"),
        ("path,path,category\na.jpg,b.jpg,bus\n", "two columns path"),
        ("path,category\na.jpg,bus\nb.jpg\n", "line 3 has 1 fields, the first line has 2"),
        ("path,category\na.jpg,bus\nb.jpg,b/u\n", "line 3: 'b/u' cannot be a category"),
        ("path,category\n,bus\n", "line 2: path is empty"),
        ("path,category\na.jpg,bus\nb.jpg,bus\n./a.jpg,bus\n", "line 4: has the id 'a-[0-9a-f]+' of line 2"),
        ("path,category,image_id\na.jpg,bus,x\nb.jpg,bus,x\n", "line 3: has the id 'x' of line 2"),
        ("path,category,image_id\na.jpg,bus,../x\n", "line 2: '../x' cannot be an id"),
        ("path,category\n../a.jpg,bus\n", r"line 2: \.\./a\.jpg: leaves the table's folder"),
        ("path,category\nx/../../a.jpg,bus\n", "leaves the table's folder"),
        ("path,category,mask_path\na.jpg,bus,../m.png\n", "leaves the table's folder"),
        ("path,category\nfile:///etc/passwd,bus\n", "'file://' cannot be read"),
        ("path,category\nftp://x/a.jpg,bus\n", "'ftp://' cannot be read"),
        ("path,category\ns3://bucket,bus\n", "not an address in a bucket"),
        ("path,category\ns3://bucket/a/../b.jpg,bus\n", "has a part '..'"),
        ("path,category\ns3://bucket/%2e%2e/b.jpg,bus\n", "has a part '..'"),
        ("path,category\ns3://bucket/a//b.jpg,bus\n", "has two slashes in a row; write one"),
        ("path,category\nhttps:///a.jpg,bus\n", "is not an address"),
        ("path,category,split\na.jpg,bus,train\n", "line 2: split 'train' is not one of trn, val, test"),
        ("path,category,bbox\na.jpg,bus,1 2 3\n", "line 2: bbox '1 2 3' is not a box"),
        ("path,category,bbox\na.jpg,bus,3 2 1 4\n", "is not a box"),
        ("path,category,bbox\na.jpg,bus,1 2 1.00000001 4\n", "is not a box"),
        ("path,category,bbox\na.jpg,bus,1 2 3 1e300\n", "is not a box"),
        ("path,category,bbox\na.jpg,bus,1 2 nan 4\n", "is not a box"),
        ('path,category\n"a.jpg,bus\n', "line 2 cannot be read"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        read_table(table(tmp_path, text))
    assert "photos.csv" in str(caught.value)


def test_the_first_bad_rows_are_shown_together(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"line 2: .*line 6: .*and there may be more") as caught:
        read_table(table(tmp_path, "path,category\n" + "a.jpg,b/d\n" * 1000))
    assert len(str(caught.value)) < 1000


def test_credentials_are_refused_and_not_repeated(tmp_path: Path) -> None:
    for address in (
        "https://me:secret@example.org/a.jpg",
        "s3://key:secret@bucket/a.jpg",
        "https://me:sec/secret@example.org/a.jpg",
    ):
        with pytest.raises(InputError, match="line 2: ") as caught:
            read_table(table(tmp_path, f"path,category\n{address},bus\n"))
        assert "secret" not in str(caught.value)


def test_what_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_table(str(tmp_path / "gone.csv"))
    with pytest.raises(InputError, match="is a folder"):
        read_table(str(tmp_path))
    with pytest.raises(InputError, match="from a disk or from s3://"):
        read_table("https://example.org/photos.csv")
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="is not a CSV file in UTF-8"):
        read_table(str(tmp_path / "a.png"))


def test_options(tmp_path: Path) -> None:
    where = table(tmp_path, "path\na.jpg\n")
    assert [image.category for image in read_table(where, "bus")] == ["bus"]
    both = table(tmp_path, "path,category\na.jpg,bus\nb.jpg,car\n", "both.csv")
    with pytest.raises(InputError, match="leave --category out"):
        read_table(both, "bus")
    found = read_dataset(DatasetConfig(kind="table", root=both, categories=("car",))).images
    assert [image.category for image in found] == ["car"]
    with pytest.raises(ConfigError, match="a column mask_path"):
        read_dataset(DatasetConfig(kind="table", root=both, masks=str(tmp_path)))


def test_the_command_line_leaves_addresses_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def root(images: str) -> str:
        return configuration(None, None, None, dataset_options(images, None, None, "table")).dataset.root

    assert root("s3://bucket/photos.csv") == "s3://bucket/photos.csv"
    assert root("photos.csv") == os.path.join(os.getcwd(), "photos.csv")


def test_a_table_in_a_bucket(tmp_path: Path, bucket: str, s3_server: str) -> None:
    """Relative paths are below the table, also with characters that an address escapes."""
    client = boto3.client("s3", endpoint_url=s3_server)
    Image.new("RGB", (20, 30), (1, 2, 3)).save(tmp_path / "a.png")
    body = b"path,category\nbus/a 100%.png,bus\n"
    client.put_object(Bucket=bucket.removeprefix("s3://"), Key="lists/photos.csv", Body=body)
    client.upload_file(str(tmp_path / "a.png"), bucket.removeprefix("s3://"), "lists/bus/a 100%.png")
    (image,) = read_dataset(DatasetConfig(kind="table", root=f"{bucket}/lists/photos.csv")).images
    assert load_image(image.path).shape == (30, 20, 3)
    with pytest.raises(InputError, match="no such object"):
        read_table(f"{bucket}/lists/gone.csv")


def test_a_store_that_is_away_is_not_the_fault_of_the_table(bucket: str, faulty_s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SC3D_STORE_PATIENCE", "0")
    faulty_s3.set("slow_down")
    with pytest.raises(StoreUnavailableError):
        read_table(f"{bucket}/photos.csv")

"""A table of a run folder that was damaged or changed is a typed error with its name, whichever way it is read."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sc3d.errors import DamagedFileError, SchemaError
from sc3d.record_files import RecordFile
from sc3d.records import ImageRecord
from sc3d.schema import from_table, to_table
from sc3d.store import RunFolder

IMAGES = [ImageRecord(f"i{n}", f"/i{n}.jpg", "bus", bbox=np.float32([n, 2, 3, 4]) if n % 2 else None) for n in range(6)]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path)
    run.write_table("t.parquet", to_table(ImageRecord, IMAGES), rows_a_group=2)
    return run


def test_parts_are_read(run: RunFolder) -> None:
    file = run.open_records(ImageRecord, "t.parquet")
    assert (len(file), file.groups) == (6, 3)
    assert file.least("image_id") == ["i0", "i2", "i4"]
    assert file.read(["image_id"], 1).to_pydict() == {"image_id": ["i2", "i3"]}
    assert file.read(["category", "image_id"]).num_rows == 6


def test_least_is_told_of_files_without_statistics(run: RunFolder) -> None:
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(to_table(ImageRecord, IMAGES[::-1]), sink, row_group_size=3, write_statistics=False)
    assert RecordFile(ImageRecord, sink.getvalue().to_pybytes(), "t").least("image_id") == ["i3", "i0"]


def test_texts_that_are_not_utf8_are_damage(run: RunFolder) -> None:
    """pyarrow reads them, and Python raises UnicodeDecodeError later, of no file."""
    table = to_table(ImageRecord, IMAGES)
    for name in ("image_id", "path", "mask_path"):
        bad = pa.array([b"\xff\xfe"] * len(IMAGES)).view(pa.string())
        run.write_table("t.parquet", table.set_column(table.column_names.index(name), table.schema.field(name), bad))
        with pytest.raises(DamagedFileError, match=r"t\.parquet is damaged .*delete it"):
            run.read_table(ImageRecord, "t.parquet")
        with pytest.raises(DamagedFileError, match=r"t\.parquet is damaged"):
            run.read_records(ImageRecord, "t.parquet")


def test_metadata_that_are_no_text_or_number_are_an_error(run: RunFolder) -> None:
    table = to_table(ImageRecord, IMAGES)
    for change in ({b"sc3d.record": b"\xff"}, {b"sc3d.schema_version": b"two"}, {b"sc3d.schema_version": b"9" * 5000}):
        run.write_table("t.parquet", table.replace_schema_metadata({**table.schema.metadata, **change}))
        with pytest.raises(SchemaError, match=r"t\.parquet: "):
            run.read_table(ImageRecord, "t.parquet")


@pytest.mark.parametrize(
    ("name", "column", "reason"),
    [
        ("image_id", pa.array([1] * 6), "column 'image_id' holds int64, not string"),
        ("image_id", pa.array(["a", None] * 3), "values of column 'image_id' are missing"),
        ("bbox", pa.array([[1.0, 2.0]] * 6), "column 'bbox' holds list"),
        ("bbox", pa.array([[1, 2, 3, None]] * 6, pa.list_(pa.float32())), "values of column 'bbox' are missing"),
        ("keypoint_ids", pa.array([{"a": 1}] * 6), "column 'keypoint_ids' holds struct"),
    ],
)
def test_columns_of_another_type_and_missing_values_are_named(run: RunFolder, name: str, column: pa.Array, reason: str) -> None:
    table = to_table(ImageRecord, IMAGES)
    run.write_table("t.parquet", table.set_column(table.column_names.index(name), name, column))
    with pytest.raises(SchemaError, match=rf"t\.parquet: {reason}"):
        run.read_records(ImageRecord, "t.parquet")


def test_a_column_that_is_not_there_is_named(run: RunFolder) -> None:
    with pytest.raises(SchemaError, match=r"t\.parquet: columns inputs_of are missing"):
        run.read_table(ImageRecord, "t.parquet", ["image_id", "inputs_of"])


def test_a_file_with_any_bytes_changed_is_read_or_refused(run: RunFolder) -> None:
    random_ = random.Random(0)
    whole = bytes(run.read_bytes("t.parquet"))
    refused = 0
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(random_.choice((1, 1, 5))):
            data[random_.randrange(len(data))] = random_.randrange(256)
        try:
            from_table(ImageRecord, RecordFile(ImageRecord, bytes(data), "t.parquet").read())
        except SchemaError:
            refused += 1
        except UnicodeDecodeError:
            pytest.fail("it was not typed")
    assert refused > 50

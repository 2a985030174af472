"""Records are plain Parquet with their meaning, and every file or value that does not fit is refused with a reason."""

import json

import numpy as np
import pyarrow as pa
import pytest

from sc3d.errors import SchemaError
from sc3d.records import Reconstruction, Reject
from sc3d.schema import arrow_schema, column_meanings, from_table, to_table


def test_columns_are_plain_parquet_with_their_meaning() -> None:
    schema = arrow_schema(Reconstruction)
    assert schema.field("vertices").type == pa.list_(pa.float32())
    assert json.loads(schema.field("vertices").metadata[b"shape"]) == [-1, 3]
    assert column_meanings(Reconstruction)["faces"] == "triangles, vertex indices"


def with_metadata(table: pa.Table, **changes: str) -> pa.Table:
    return table.replace_schema_metadata(
        {**(table.schema.metadata or {}), **{f"sc3d.{k}".encode(): v.encode() for k, v in changes.items()}}
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t.replace_schema_metadata({}), "not a file of sc3d"),
        (lambda t: with_metadata(t, record="Pair"), "holds Pair records, expected Reject"),
        (lambda t: with_metadata(t, schema_version=str(Reject.SCHEMA_VERSION + 1)), "newer than this sc3d reads"),
        (lambda t: with_metadata(t, schema_version=str(Reject.SCHEMA_VERSION - 1)), "older than this sc3d reads"),
        (lambda t: t.drop_columns(["message"]), "columns message are missing"),
    ],
)
def test_a_table_that_does_not_fit_says_why(change: object, reason: str) -> None:
    table = change(to_table(Reject, [Reject("a", "match", "InputError", "broken")]))  # type: ignore[operator]
    with pytest.raises(SchemaError, match=f"somewhere: .*{reason}"):
        from_table(Reject, table, "somewhere")


def test_values_of_another_shape_are_refused() -> None:
    with pytest.raises(SchemaError, match=r"'vertices'.*\(-1, 3\)"):
        reconstruction(vertices=np.zeros((4, 2)))
    table = to_table(Reconstruction, [reconstruction()])
    wrong = table.set_column(
        table.schema.get_field_index("vertices"), table.schema.field("vertices"), pa.array([[1.0] * 4], pa.list_(pa.float32()))
    )
    with pytest.raises(SchemaError, match="4 values do not form the shape"):
        from_table(Reconstruction, wrong)


def reconstruction(vertices: np.ndarray | None = None) -> Reconstruction:
    eye, zero = np.eye(3), np.zeros(3)
    return Reconstruction(
        image_id="a",
        category="car",
        width=4,
        height=3,
        mask=b"png",
        vertices=np.zeros((4, 3)) if vertices is None else vertices,
        faces=np.zeros((4, 3)),
        intrinsics=eye,
        rotation=eye,
        scale_initial=1.0,
        translation_initial=zero,
        scale=1.0,
        translation=zero,
        iou_before=0.1,
        iou_after=0.9,
        flags=("low_iou",),
    )

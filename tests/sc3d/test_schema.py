"""Records are plain Parquet with their meaning, and every file or value that does not fit is refused with a reason."""

import json

import numpy as np
import pyarrow as pa
import pytest

from sc3d.errors import SchemaError
<<<<<<< HEAD
from sc3d.pair_ids import pair_id_of
from sc3d.records import ImageRecord, Labels, Matches, Pair, Reconstruction, Reject, check_category, check_id
from sc3d.schema import Record, arrow_schema, column_meanings, from_table, to_table

finite32 = st.floats(-1e6, 1e6, width=32)
ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,20}", fullmatch=True)


def equal(one: Record, other: Record) -> bool:
    return to_table(type(one), [one]).equals(to_table(type(other), [other]), check_metadata=True)


@st.composite
def images(draw: st.DrawFn) -> ImageRecord:
    n = draw(st.none() | st.integers(0, 5))
    return ImageRecord(
        image_id=draw(ids),
        path=draw(st.text(max_size=30)),
        category=draw(ids),
        split=draw(st.sampled_from(["trn", "val", "test"])),
        bbox=draw(st.none() | hnp.arrays(np.float32, 4, elements=finite32)),
        mask_path=draw(st.none() | st.text(max_size=10)),
        keypoint_ids=None if n is None else np.arange(n),
        keypoint_xy=None if n is None else draw(hnp.arrays(np.float32, (n, 2), elements=finite32)),
    )


@st.composite
def matches(draw: st.DrawFn) -> Matches:
    n = draw(st.integers(0, 6))
    source, target = draw(ids), draw(ids)
    vector = hnp.arrays(np.float32, n, elements=finite32)
    points = hnp.arrays(np.float32, (n, 2), elements=finite32)
    return Matches(
        pair_id=pair_id_of(source, target),
        source_id=source,
        target_id=target,
        category=draw(ids),
        source_xy=draw(points),
        target_xy=draw(points),
        cosine=draw(vector),
        cycle_error=draw(vector),
        geodesic_error=draw(vector),
        source_extent=draw(st.floats(1, 1e4)),
        source_cell=5.0,
        n_candidates=n + 3,
        n_cycle=n + 1,
    )


@given(st.lists(images(), max_size=4))
def test_images_survive_the_round_trip(rows: list[ImageRecord]) -> None:
    back = from_table(ImageRecord, to_table(ImageRecord, rows))
    assert len(back) == len(rows)
    assert all(equal(a, b) for a, b in zip(rows, back, strict=True))
    for a, b in zip(rows, back, strict=True):
        assert (a.bbox is None) == (b.bbox is None)
        if a.keypoint_xy is not None:
            np.testing.assert_array_equal(a.keypoint_xy, b.keypoint_xy)


@given(st.lists(matches(), max_size=4))
def test_matches_survive_the_round_trip(rows: list[Matches]) -> None:
    back = from_table(Matches, to_table(Matches, rows))
    for a, b in zip(rows, back, strict=True):
        assert a.pair_id == b.pair_id
        np.testing.assert_array_equal(a.source_xy, b.source_xy)
        np.testing.assert_array_equal(a.geodesic_error, b.geodesic_error)
        assert b.source_xy.shape == (len(b), 2)
=======
from sc3d.records import Reconstruction, Reject
from sc3d.schema import arrow_schema, column_meanings, from_table, to_table
>>>>>>> helper-c


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
        (lambda t: with_metadata(t, schema_version="99"), "newer than this sc3d reads"),
        (lambda t: with_metadata(t, schema_version="0"), "older than this sc3d reads"),
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

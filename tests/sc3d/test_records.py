"""Every record survives the way to a Parquet file and back, and refuses what its columns cannot say."""

from __future__ import annotations

import dataclasses
import typing
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sc3d import records
from sc3d.errors import SchemaError
from sc3d.records import (
    ClassShapeIndex,
    DepthMap,
    Embedding,
    FeatureIndex,
    ImageRecord,
    Labels,
    Matches,
    MeshViews,
    Orientation,
    Pair,
    Reconstruction,
    Reference,
    Registration,
    Reject,
    ShapeFit,
    as_category,
    check_category,
    check_id,
    pair_id_of,
)
from sc3d.schema import Record, arrow_schema, to_table
from sc3d.store import RunFolder

KINDS = (
    ImageRecord,
    Pair,
    Reconstruction,
    MeshViews,
    Orientation,
    Registration,
    Reference,
    FeatureIndex,
    ClassShapeIndex,
    DepthMap,
    ShapeFit,
    Embedding,
    Matches,
    Labels,
    Reject,
)

ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,20}", fullmatch=True)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS = {
    str: text,
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    bytes: st.binary(max_size=20),
}


def elements(dtype: str) -> st.SearchStrategy[Any]:
    if dtype == "int32":
        return st.integers(-(2**31), 2**31 - 1)
    if dtype == "float16":
        # With bounds none is drawn that is left out again.
        return st.floats(-60_000, 60_000, width=16)
    return st.floats(allow_nan=False, allow_infinity=False, width=32)


@st.composite
def values(draw: st.DrawFn, kind: type[Record]) -> dict[str, Any]:
    """Any values that the columns of a record allow; free axes have one length, and optional arrays are there or not together."""
    hints, length, complete = typing.get_type_hints(kind), draw(st.integers(0, 5)), draw(st.booleans())
    found: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        hint, spec = hints[field.name], field.metadata.get("array")
        if spec is not None:
            shape = tuple(length if size == -1 else size for size in spec.shape)
            is_there = complete or type(None) not in typing.get_args(hint)
            found[field.name] = draw(hnp.arrays(spec.dtype, shape, elements=elements(spec.dtype))) if is_there else None
        elif field.name == "category" or field.name.endswith("_id"):
            found[field.name] = draw(ids)
        elif typing.get_origin(hint) is tuple:
            found[field.name] = tuple(draw(st.lists(text, max_size=3)))
        elif type(None) in typing.get_args(hint):
            found[field.name] = draw(st.none() | SCALARS[next(one for one in typing.get_args(hint) if one in SCALARS)])
        else:
            found[field.name] = draw(SCALARS[hint])
    return found


@st.composite
def any_record(draw: st.DrawFn, kind: type[Record]) -> Record:
    """A record whose invariants hold."""
    found = draw(values(kind))
    if kind is Pair:
        found["pair_id"] = pair_id_of(found["source_id"], found["target_id"])
    if kind is ImageRecord:
        found["facing"] = draw(st.none() | st.floats(0, 360, exclude_max=True))
    if kind is Orientation:
        found["turn"] = draw(st.sampled_from([0, 90, 180, 270]))
        found["votes"] = draw(hnp.arrays(np.int32, 8, elements=st.sampled_from([-1, 0, 90, 180, 270])))
        if found["posterior"] is not None:
            found["posterior"] = np.roll([draw(st.floats(0.5, 1, width=32)), 0, 0, 0], draw(st.integers(0, 3)))
            found["posterior"][found["posterior"].argmin()] = 1 - found["posterior"].sum()
    if kind is Registration:
        found["references"] = draw(st.integers(1, 3))
        found["places"] = np.repeat(found["places"], found["references"], axis=0)
    if kind is DepthMap:
        found["width"], found["height"] = draw(st.integers(1, 4)), draw(st.integers(1, 4))
        found["values"] = draw(hnp.arrays(np.float16, found["width"] * found["height"], elements=elements("float16")))
    if kind is ShapeFit:
        found["keypoints"] = draw(hnp.arrays(np.float32, (draw(st.integers(4, 6)), 3), elements=elements("float32")))
        found["inverse_focal"] = draw(st.floats(1e-3, 10))
    if kind is Reconstruction:
        found["width"], found["height"] = draw(st.integers(1, 10_000)), draw(st.integers(1, 10_000))
        found["faces"] = found["faces"] % max(len(found["vertices"]), 1)
        found["iou_before"], found["iou_after"] = draw(st.floats(0, 1)), draw(st.floats(0, 1))
    if issubclass(kind, Matches):
        found["n_candidates"] = draw(st.integers(0, 10_000))
        found["n_cycle"] = draw(st.integers(0, found["n_candidates"]))
        found["cosine"] = np.sin(found["cosine"])
        for name in ("cycle_error", "geodesic_error"):
            found[name] = np.abs(found[name])
    if kind is Embedding:
        channels = draw(st.lists(st.integers(0, 4), max_size=3))
        found["channels"], found["groups"] = channels, ("slot",) * len(channels)
        found["values"] = draw(hnp.arrays(np.float32, sum(channels), elements=elements("float32")))
    return kind(**found)


def test_no_record_is_forgotten() -> None:
    assert {one for one in vars(records).values() if isinstance(one, type) and issubclass(one, Record)} == {Record, *KINDS}


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=30)
def test_records_survive_the_way_to_a_file_and_back(
    kind: type[Record], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = data.draw(st.lists(any_record(kind), max_size=3))
    run = RunFolder(tmp_path_factory.mktemp("run"))
    run.write_records(kind, "rows.parquet", rows)
    back = run.read_records(kind, "rows.parquet")
    assert to_table(kind, back).equals(to_table(kind, rows), check_metadata=True)
    for one, other in zip(rows, back, strict=True):
        for field in dataclasses.fields(kind):
            before, after = getattr(one, field.name), getattr(other, field.name)
            assert type(after) is type(before)
            if isinstance(before, np.ndarray):
                assert (after.dtype, after.shape) == (before.dtype, before.shape)
                np.testing.assert_array_equal(after, before)
            else:
                assert after == before


EYE, ZERO = np.eye(3), np.zeros(3)
EXAMPLES: dict[type[Record], Record] = {
    ImageRecord: ImageRecord("a", "a.jpg", "tv set", keypoint_ids=np.arange(2), keypoint_xy=np.zeros((2, 2))),
    Pair: Pair("a~b", "a", "b", "car"),
    MeshViews: MeshViews("a", "car", np.zeros((8, 2)), 14.0),
    Orientation: Orientation("a", "car", 90, np.zeros(8), False),
    Embedding: Embedding("a", "car", ("sd", "dino"), np.array([2, 1]), np.zeros(3)),
    Matches: Matches("a~b", "a", "b", "car", np.zeros((2, 2)), np.zeros((2, 2)), ZERO[:2], ZERO[:2], ZERO[:2], 1.0, 1.0, 2, 2),
    Reconstruction: Reconstruction(
        "a", "car", 4, 3, b"png", np.zeros((4, 3)), np.zeros((4, 3)), EYE, EYE, 1.0, ZERO, 1.0, ZERO, 0.1, 0.9, ("low_iou",)
    ),
}


@pytest.mark.parametrize(
    ("kind", "changes", "reason"),
    [
        (ImageRecord, {"image_id": "a~b"}, "'a~b' cannot be an id"),
        (ImageRecord, {"category": "a/b"}, "'a/b' cannot be a category"),
        (ImageRecord, {"keypoint_ids": None}, "keypoint_ids and keypoint_xy come together"),
        (ImageRecord, {"keypoint_xy": None}, "keypoint_ids and keypoint_xy come together"),
        (ImageRecord, {"keypoint_ids": np.arange(3)}, "3 keypoint ids but another number of points"),
        (ImageRecord, {"keypoint_xy": np.full((2, 2), np.nan)}, "image a: keypoint_xy is not finite"),
        (ImageRecord, {"bbox": np.full(4, np.inf)}, "image a: bbox is not finite"),
        (ImageRecord, {"bbox": np.zeros(3)}, r"'bbox': expected shape \(4,\), got \(3,\)"),
        (Pair, {"pair_id": "b~a"}, "'b~a' is not 'a~b'"),
        (Pair, {"source_id": "b"}, "'a~b' is not 'b~b'"),
        (Pair, {"target_id": "../b"}, "cannot be an id"),
        (Pair, {"category": " car"}, "cannot be a category"),
        (Orientation, {"turn": 45}, "turn 45 is not a quarter turn"),
        (Orientation, {"turn": 360}, "turn 360 is not a quarter turn"),
        (Orientation, {"votes": np.full(8, 45)}, "a vote is neither"),
        (Orientation, {"posterior": np.full(4, 0.3)}, "no probabilities of four turns"),
        (Orientation, {"posterior": np.array([1.5, -0.5, 0, 0])}, "no probabilities of four turns"),
        (Orientation, {"posterior": np.full(4, np.nan)}, "no probabilities of four turns"),
        (Orientation, {"posterior": np.ones(3) / 3}, r"'posterior': expected shape \(4,\), got \(3,\)"),
        (MeshViews, {"descriptor": np.full((8, 2), np.nan)}, "views of a: descriptor is not finite"),
        (MeshViews, {"descriptor": np.zeros((7, 2))}, r"'descriptor': expected shape \(8, -1\), got \(7, 2\)"),
        (MeshViews, {"sharpness": np.inf}, "views of a: sharpness is not finite"),
        (Embedding, {"values": np.zeros(4)}, "4 values"),
        (Embedding, {"values": np.array([0, np.nan, 0])}, "embedding of a: values is not finite"),
        (Embedding, {"groups": ("sd",)}, "slots"),
        (Embedding, {"channels": np.array([3])}, "slots"),
        *((Matches, {name: np.zeros(3)}, "different lengths") for name in ("cosine", "cycle_error", "geodesic_error")),
        *((Matches, {name: np.zeros((3, 2))}, "different lengths") for name in ("source_xy", "target_xy")),
        (Matches, {"source_xy": np.full((2, 2), np.nan)}, "pair a~b: source_xy is not finite"),
        (Matches, {"target_xy": np.full((2, 2), np.inf)}, "pair a~b: target_xy is not finite"),
        *((Matches, {name: np.full(2, -1)}, "errors below 0") for name in ("cycle_error", "geodesic_error")),
        (Matches, {"cosine": np.array([0, 2])}, "cosines beyond 1"),
        *((Matches, {"n_cycle": n}, f"{n} of 2 candidates pass the cycle") for n in (3, -1)),
        (Reconstruction, {"width": 0}, "an image of 0 x 3 pixels"),
        *((Reconstruction, {"faces": np.full((4, 3), i)}, "beyond the mesh's 4") for i in (4, -1)),
        *((Reconstruction, {name: np.nan}, f"{name} is not finite") for name in ("scale", "scale_initial")),
        *(
            (Reconstruction, {name: np.full((3, 3), np.nan)}, f"{name} is not finite")
            for name in ("vertices", "intrinsics", "rotation")
        ),
        *((Reconstruction, {name: np.full(3, np.inf)}, f"{name} is not finite") for name in ("translation", "translation_initial")),
        *((Reconstruction, {name: bad}, "IoUs of") for name in ("iou_before", "iou_after") for bad in (-0.1, 1.1, np.nan)),
        (Reconstruction, {"vertices": np.zeros((4, 2))}, r"'vertices': expected shape \(-1, 3\)"),
        (Reconstruction, {"intrinsics": np.zeros((3, 4))}, "'intrinsics'"),
        (Reconstruction, {"translation": np.zeros(4)}, "'translation'"),
    ],
)
def test_a_change_that_breaks_a_record_is_refused(kind: type[Record], changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(SchemaError, match=reason):
        EXAMPLES[kind].replace(**changes)


@pytest.mark.parametrize("good", ["a", "0", "A.b-c_d", "x" * 181])
def test_ids_may_be_file_names(good: str) -> None:
    assert check_id(good) == good


@pytest.mark.parametrize("bad", ["", "../x", "a/b", "a~b", ".hidden", "-a", "a b", "a..b", "a\n", "é", "x" * 182])
def test_ids_that_are_no_file_names_are_refused(bad: str) -> None:
    with pytest.raises(SchemaError, match="cannot be an id"):
        check_id(bad)


@pytest.mark.parametrize("good", ["car", "tv set", "a.b", "x" * 81, "Автобус", "車 2", "Köln-Bus", "बस", "รถ", "عربة", "é" * 81])
def test_categories_may_be_folder_names(good: str) -> None:
    assert check_category(good) == good


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "../x",
        "a/b",
        " car",
        "car ",
        "a..b",
        "=x",
        "a=b",
        "a\n",
        "x" * 82,
        "車" * 81,
        "🚗",
        "a%20b",
        "a\u202eb",
        "a\u200bb",
        "\u0301a",
        "\ud800",
        "a:b",
    ],
)
def test_categories_that_are_no_folder_names_are_refused(bad: str) -> None:
    with pytest.raises(SchemaError, match="cannot be a category"):
        check_category(bad)


def test_a_category_has_one_form_on_all_machines() -> None:
    decomposed = unicodedata.normalize("NFD", "Köln")
    with pytest.raises(SchemaError, match="NFC"):
        check_category(decomposed)
    assert as_category(decomposed) == as_category("Köln") == "Köln"


def test_a_pair_is_of_one_category_and_takes_the_split_of_its_source() -> None:
    car, other = ImageRecord("a", "a.jpg", "car", "val"), ImageRecord("b", "b.jpg", "car", "test")
    assert vars(Pair.of(car, other)) == vars(Pair("a~b", "a", "b", "car", "val"))
    with pytest.raises(SchemaError, match="'car' and 'bus' differ"):
        Pair.of(car, other.replace(category="bus"))


def test_labels_are_matches_with_their_thresholds() -> None:
    assert set(arrow_schema(Matches).names) < set(arrow_schema(Labels).names)


def test_a_pair_has_as_many_matches_as_rows() -> None:
    example = EXAMPLES[Matches]
    assert isinstance(example, Matches)
    assert len(example) == 2


def test_a_record_of_another_kind_is_not_read_as_one(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.write_records(Matches, "rows.parquet", [EXAMPLES[Matches]])
    with pytest.raises(SchemaError, match="holds Matches records, expected Labels"):
        run.read_records(Labels, "rows.parquet")


def test_an_unsure_turn_counts_only_where_views_voted() -> None:
    voted = Orientation("a", "car", 0, np.zeros(8), True)
    learned = voted.replace(votes=np.zeros(0), posterior=np.array([0.6, 0, 0.4, 0]))
    assert voted.counts
    assert not learned.counts
    assert learned.replace(uncertain=False).counts

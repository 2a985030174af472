"""Feature files: what is written is read, whatever was changed since is noticed, and no value out of range gets as far as a match."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from sc3d import features as format_
from sc3d.errors import FeatureError, SchemaError
from sc3d.features import FEATURES_VERSION, Features, Surface, checksum, decode_features, encode_features
from tests.sc3d.matching.scene import random_features

FEATURES = random_features(1)
DATA = encode_features(FEATURES)


def same(one: Features, other: Features) -> bool:
    first, second = format_._flatten(one), format_._flatten(other)
    scalars = all(getattr(one, name) == getattr(other, name) for name in ("image_id", "letterbox", "extent"))
    return scalars and first.keys() == second.keys() and all(np.array_equal(first[k], second[k]) for k in first)


def metadata_of(data: bytes) -> dict[str, str]:
    return dict(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"])


def resealed(arrays: dict[str, np.ndarray] | None = None, **metadata: str | None) -> bytes:
    """The file with other arrays or metadata, and a checksum that fits them."""
    arrays = dict(load(DATA)) if arrays is None else arrays
    entries = metadata_of(DATA) | metadata
    entries["sc3d.crc32"] = checksum(entries["scalars"] or "", arrays)
    return save(arrays, {key: value for key, value in entries.items() if value is not None})


def scalars(**changes: Any) -> str:
    return json.dumps({**json.loads(metadata_of(DATA)["scalars"]), **changes})


@pytest.mark.parametrize("covered", [0, 10, 60])
def test_features_survive_their_file(covered: int) -> None:
    for mesh in (True, False):
        one = random_features(2, n_covered=covered, mesh=mesh)
        assert same(decode_features(encode_features(one)), one)
    assert same(decode_features(resealed()), FEATURES)


@given(place=st.integers(0, len(DATA) - 1), bit=st.integers(0, 7))
@settings(max_examples=300)
def test_every_bit_counts(place: int, bit: int) -> None:
    changed = bytearray(DATA)
    changed[place] ^= 1 << bit
    try:
        read = decode_features(bytes(changed))
    except (SchemaError, FeatureError):
        return
    # Of the header's spaces, any will do.
    assert same(read, FEATURES)
    assert place < 8 + int.from_bytes(DATA[:8], "little")


@given(st.integers(0, len(DATA) - 1))
def test_a_file_that_is_cut_short_is_refused(length: int) -> None:
    with pytest.raises(SchemaError):
        decode_features(DATA[:length])


def test_a_member_out_of_range_changes_no_label_silently() -> None:
    """Not the file's, which has a checksum, nor that of features that were made so."""
    assert FEATURES.surface is not None
    balls = FEATURES.surface.balls
    for value in (40, 255, 65_535):
        members = balls.members.copy()
        members[len(members) // 2] = value
        with pytest.raises(SchemaError, match="changed after it was written; delete it and describe again"):
            decode_features(DATA.replace(balls.members.tobytes(), members.tobytes()))
        with pytest.raises(FeatureError, match=r"ball members reach from 0 to .*, beyond 0 to 39; describe the image again"):
            decode_features(resealed({**load(DATA), "balls/members": members}))


def changes(surface: Surface) -> list[tuple[str, np.ndarray, str]]:
    """Array, another content of it, and what is wrong with that."""
    balls, n = surface.balls, len(surface.cells)
    turned = balls.members.copy()
    turned[:2] = turned[1::-1]
    order = np.r_[1, 0, 2:n]
    weights = surface.barycentric
    return [
        ("surface/cells", surface.cells[order], "cells do not ascend"),
        ("surface/cells", np.r_[surface.cells[:-1], 144].astype(np.int32), "beyond 0 to 143"),
        ("surface/cells", np.r_[-1, surface.cells[1:]].astype(np.int32), "surface cells reach from -1"),
        ("surface/cells", surface.cells.astype(np.float32), "surface cells are float32"),
        ("surface/corners", surface.corners + 1, "beyond 0 to 39"),
        ("surface/corners", surface.corners[:-1], "hit corners are"),
        ("surface/corners", surface.corners[:, [1, 2, 0]], "not the corner with the largest weight"),
        ("surface/barycentric", weights * 2, "do not sum to 1"),
        ("surface/barycentric", weights + np.float32([1, -1, 0]), "negative"),
        ("surface/barycentric", weights * np.float32(np.nan), "not finite"),
        ("surface/dominant", np.roll(surface.dominant, 1), "not the corner with the largest weight"),
        ("surface/dominant", surface.dominant - 40, "dominant vertices reach from"),
        ("surface/fill_distance", np.full(n, -1, np.float16), "fill distances below 0"),
        ("surface/fill_distance", np.full(n, np.inf, np.float16), "fill distances hold values that are not finite"),
        ("surface/vertices", surface.vertices * np.float32(np.inf), "vertices hold values that are not finite"),
        ("surface/vertices", surface.vertices[:-1], "3D descriptors are"),
        ("balls/centres", balls.centres[::-1], "centres do not ascend"),
        ("balls/centres", balls.centres[:-1], "ball offsets are"),
        ("balls/offsets", balls.offsets + 1, "ball offsets reach|do not divide"),
        ("balls/offsets", np.r_[0, balls.offsets[2], balls.offsets[1], balls.offsets[3:]], "do not divide"),
        ("balls/offsets", np.r_[0, 0, balls.offsets[2:]], "do not divide"),
        ("balls/members", turned, "members of a ball do not ascend"),
        ("balls/members", balls.members[:-1], "ball offsets reach|ball distances are"),
        ("balls/distances", balls.distances.astype(np.float32), "ball distances are float32"),
        ("balls/distances", balls.distances.astype(np.uint32), "ball distances of uint32"),
        ("shape", np.full_like(FEATURES.shape, np.nan), "3D descriptors hold values that are not finite"),  # type: ignore[type-var]
        ("shape", np.ones((40, 0), np.float16), "and some of them"),
        ("foreground", np.ones((12, 11), bool), "foreground cells are"),
        ("foreground", np.ones((12, 12), np.uint8), "foreground cells are uint8"),
        ("source/dino", np.full((6, 12, 12), np.inf, np.float16), "'dino' hold values that are not finite"),
        ("source/dino", np.full((6, 12, 12), 1e300), "'dino' are float64"),
        ("source/dino", np.ones((6, 144), np.float16), "'dino' are"),
    ]


CHANGES = changes(FEATURES.surface)  # type: ignore[arg-type]


@pytest.mark.parametrize("number", range(len(CHANGES)), ids=lambda i: f"{CHANGES[i][0]}: {CHANGES[i][2]}")
def test_arrays_that_cannot_be_are_refused(number: int) -> None:
    name, array, reason = CHANGES[number]
    with pytest.raises(FeatureError, match=f"image: .*{reason}.*; describe the image again"):
        decode_features(resealed({**load(DATA), name: np.ascontiguousarray(array)}))


@pytest.mark.parametrize("name", sorted(name for name in load(DATA) if not name.startswith("source/")))
def test_a_missing_array_is_named(name: str) -> None:
    rest = {key: value for key, value in load(DATA).items() if key != name}
    if name == "shape":
        # Without it, an image has no mesh.
        assert decode_features(resealed(rest)).surface is None
        return
    with pytest.raises(SchemaError, match=f"'{name}' is missing; delete it and describe again"):
        decode_features(resealed(rest))


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"scalars": None}, "'scalars' is missing"),
        ({"scalars": "["}, "Invalid JSON"),
        ({"scalars": "{}"}, "image_id: Field required"),
        ({"scalars": scalars(extent="80")}, "extent: .*number"),
        ({"scalars": scalars(letterbox=[200, 120, 12])}, r"letterbox\.3: Field required"),
        ({"scalars": scalars(letterbox=[200, 120, 12, 0])}, r"letterbox\.3: .*greater than or equal to 1"),
        ({"scalars": scalars(letterbox=[200.5, 120, 12, 10])}, r"letterbox\.0: .*integer"),
        ({"scalars": scalars(radius=None)}, "'radius' is missing"),
        ({"scalars": scalars(diagonal=None)}, "'diagonal' is missing"),
        ({"sc3d.schema_version": "1"}, f"feature format 1, this sc3d reads {FEATURES_VERSION}; describe again"),
        ({"sc3d.schema_version": "two"}, "feature format two"),
        ({"sc3d.schema_version": None}, "feature format None"),
        ({"sc3d.record": None}, "not a feature file"),
    ],
)
def test_metadata_that_cannot_be_is_refused(metadata: dict[str, str | None], reason: str) -> None:
    with pytest.raises(SchemaError, match=f"a file: {reason}"):
        decode_features(resealed(None, **metadata), "a file")


def test_every_float16_that_is_not_finite_is_refused() -> None:
    """All 65,536 of them, among values of either sign."""
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = np.isfinite(every)
    dataclasses.replace(FEATURES, sources={"dino": every[finite].reshape(1, 1, -1)})
    for value in every[~finite]:
        with pytest.raises(FeatureError, match="not finite"):
            dataclasses.replace(FEATURES, sources={"dino": np.array([[[1, -1, value, 0]]], np.float16)})


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["extent", "diagonal", "radius"])
def test_scalars_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(FeatureError, match=r"image: .*; describe the image again"):
        decode_features(resealed(None, scalars=scalars(**{name: value})))


def test_a_ball_that_is_not_there_is_noticed_when_features_are_made() -> None:
    surface = FEATURES.surface
    assert surface is not None
    last = int(surface.balls.offsets[-2])
    fewer = dataclasses.replace(
        surface.balls,
        centres=surface.balls.centres[:-1],
        offsets=surface.balls.offsets[:-1],
        members=surface.balls.members[:last],
        distances=surface.balls.distances[:last],
    )
    with pytest.raises(FeatureError, match="a dominant vertex has no ball"):
        dataclasses.replace(FEATURES, surface=dataclasses.replace(surface, balls=fewer))

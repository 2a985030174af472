"""Blocks on their way through a graph: which ids a stage gets, and that nothing is lost or changed between two processes."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from actors.base import Outcome
from pipelines.runner.block import Block, decode_block, encode_block, pack_outcomes, unpack_outcomes
from sc3d.artefacts import KEPT, MISSING, REJECTED
from sc3d.records import Reject

IDS = ("a", "b", "c", "d")


def test_a_stage_gets_what_it_lacks_and_the_one_before_has_kept() -> None:
    block = Block.of("car", IDS, [[KEPT, KEPT, REJECTED, MISSING], [MISSING, KEPT, MISSING, MISSING]], {"first": ["x.parquet"]})
    first, second = block.shard(0), block.shard(1)
    assert first is not None
    assert second is not None
    assert (first.category, first.ids) == ("car", ("d",))
    assert second.ids == ("a",)
    assert second.upstream == {"first": ("x.parquet",)}
    done = Block.of("car", IDS, [[KEPT] * 4, [KEPT, REJECTED, KEPT, REJECTED]], {})
    assert done.shard(0) is None
    assert done.shard(1) is None


def test_what_a_stage_has_settled_is_there_for_the_next_one() -> None:
    block = Block.of("car", IDS, [[MISSING] * 4, [MISSING] * 4], {})
    assert block.shard(1) is None, "nothing is ready"
    block.settle(0, "first", "x.parquet", {"a": KEPT, "b": REJECTED})
    assert block.states == [[KEPT, REJECTED, MISSING, MISSING], [MISSING] * 4]
    block.settle(0, "first", "y.parquet", {"d": KEPT})
    second = block.shard(1)
    assert second is not None
    assert second.ids == ("a", "d")
    assert second.upstream == {"first": ("x.parquet", "y.parquet")}


def test_a_block_travels_as_it_is() -> None:
    block = Block.of("tv set", IDS, [[KEPT, MISSING, REJECTED, KEPT], [MISSING] * 4], {"first": ["x", "y"]})
    block.results[1].items, block.results[1].rejects = 3, 1
    block.results[1].reasons, block.results[1].counters = ["InputError: é"], {"loaded": 3}
    block.results[0].cpu_seconds, block.results[0].gpu_seconds = 1.5, 0.25
    block.error = "WeightsError: gone"
    row = encode_block(block, b"rows")
    assert row["rows"] == b"rows"
    assert decode_block(row) == block
    assert decode_block(encode_block(decode_block(row))) == block


def outcome(**row: Any) -> Outcome:
    return Outcome({"image_id": "a", **row}, seconds=0.5)


@pytest.mark.parametrize(
    "value",
    [
        np.arange(12, dtype=np.int16).reshape(3, 4),
        np.ones((2, 3), np.float16)[:, ::2],
        np.zeros((0, 3), bool),
        np.full((), 1.5, np.float32),
        b"\x00bytes\xff",
        b"",
    ],
)
def test_arrays_and_bytes_come_over_unchanged(value: Any) -> None:
    (found,) = unpack_outcomes(pack_outcomes([outcome(value=value, nested={"s/3": np.asarray([value != value]), "b": np.eye(2)})]))
    there = found.row["value"]
    if isinstance(value, bytes):
        assert there == value
    else:
        assert (there.dtype, there.shape) == (value.dtype, value.shape)
        np.testing.assert_array_equal(there, value)
    assert sorted(found.row["nested"]) == ["b", "s/3"]
    np.testing.assert_array_equal(found.row["nested"]["b"], np.eye(2))


def test_plain_values_rejects_and_times_come_over_in_order() -> None:
    reject = Reject("b", "describe", "InputError", "ü is broken", 2, "made of this")
    plain = {"note": None, "numbers": [1, 2.5], "deep": {"n": [True]}, "nothing": {}}
    sent = [outcome(**plain), Outcome({"image_id": "b"}, reject, 1.25), outcome(x=np.ones(2))]
    found = unpack_outcomes(pack_outcomes(sent))
    assert [one.row["image_id"] for one in found] == ["a", "b", "a"]
    assert {key: found[0].row[key] for key in plain} == plain
    assert found[0].reject is found[2].reject is None
    assert found[1].reject is not None
    assert dataclasses.asdict(found[1].reject) == dataclasses.asdict(reject)
    assert [one.seconds for one in found] == [0.5, 1.25, 0.5]
    assert unpack_outcomes(pack_outcomes([])) == []

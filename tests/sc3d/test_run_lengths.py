"""COCO's run lengths against what its own tools write, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sc3d.errors import InputError
from sc3d.mask_files import load_mask
from sc3d.run_lengths import MAX_JSON_BYTES, read_runs

PIXELS = 10_000


def lengths_of(mask: np.ndarray) -> list[int]:
    """Runs down the columns, beginning with one outside."""
    flat = mask.T.ravel()
    ends = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff([0, *ends, len(flat)]).tolist()
    return [0, *lengths] if flat[0] else lengths


def packed(lengths: list[int]) -> str:
    """As ``rleToString`` of COCO's maskApi.c does it."""
    text = ""
    for i, length in enumerate(lengths):
        x = length - lengths[i - 2] if i > 2 else length
        more = True
        while more:
            c = x & 0x1F
            x >>= 5
            more = x != -1 if c & 0x10 else x != 0
            text += chr((c | 0x20 if more else c) + 48)
    return text


def runs(mask: np.ndarray, is_packed: bool) -> dict[str, Any]:
    lengths = lengths_of(mask)
    return {"size": list(mask.shape), "counts": packed(lengths) if is_packed else lengths}


@given(
    arrays(bool, st.tuples(st.integers(1, 60), st.integers(1, 60))), st.booleans(), st.sampled_from(["bare", "annotation", "list"])
)
def test_any_mask_comes_back(mask: np.ndarray, is_packed: bool, wrapped: str) -> None:
    values: Any = runs(mask, is_packed)
    values = {"bare": values, "annotation": {"id": 3, "segmentation": values}, "list": [values]}[wrapped]
    np.testing.assert_array_equal(read_runs(json.dumps(values).encode(), "m.json", PIXELS), mask)


def test_what_coco_s_tools_write() -> None:
    """pycocotools 2.0: encode(asfortranarray(m)) of a 9 x 10 mask with rows 2 to 6 of the columns 3 to 7 set."""
    expected = np.zeros((9, 10), bool)
    expected[2:7, 3:8] = True
    data = json.dumps({"size": [9, 10], "counts": "m0540000000`0"}).encode()
    assert packed(lengths_of(expected)) == "m0540000000`0"
    np.testing.assert_array_equal(read_runs(data, "m.json", PIXELS), expected)


def test_as_a_mask_file(tmp_path: Path) -> None:
    mask = np.zeros((40, 60), bool)
    mask[10:30, 20:50] = True
    (tmp_path / "m.json").write_text(json.dumps(runs(mask, True)))
    np.testing.assert_array_equal(load_mask(str(tmp_path / "m.json"), (60, 40)), mask)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"size": [40, 60], "counts": [2399]}, "do not fill its 60 x 40 pixels"),
        ({"size": [40, 60], "counts": [2**30, 2**30]}, "do not fill"),
        ({"size": [100_000, 100_000], "counts": [10**10]}, "m.json: "),
        ({"size": [100_000, 100_000], "counts": "0"}, "million pixels"),
        ({"size": [40, 60], "counts": [-1, 2401]}, "m.json: .*counts"),
        ({"size": [40, 60], "counts": "~" * 100}, "no run lengths"),
        ({"size": [40, 60], "counts": "é"}, "no run lengths"),
        ({"size": [40, 60], "counts": ""}, "no run lengths"),
        ({"size": [40, 60], "counts": "o" * 50}, "no run lengths"),
        ({"size": [40], "counts": [40]}, "size"),
        ({"annotations": []}, "COCO's run lengths, of one object"),
        ([{"size": [4, 6], "counts": [24]}] * 2, "of one object"),
        ({"segmentation": [[1, 2, 3, 4, 5, 6]]}, "COCO's run lengths"),
        ("text", "COCO's run lengths"),
    ],
)
def test_what_is_refused(values: Any, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        read_runs(json.dumps(values).encode(), "m.json", 80_000_000)


def test_a_file_that_is_too_large_is_not_parsed() -> None:
    with pytest.raises(InputError, match="at most 4 MB"):
        read_runs(b"[" * (MAX_JSON_BYTES + 1), "m.json", PIXELS)
    with pytest.raises(InputError, match=r"m\.json: .*deep"):
        read_runs(b"[" * 100_000, "m.json", PIXELS)

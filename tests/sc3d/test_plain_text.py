"""Texts as plain values: what is read is data within bounds, and what is not says where it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sc3d.plain_text import MAX_DEPTH, YAML_BYTES, bounded, decoded, of_json, of_yaml, read_text

NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=6)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | NAMES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


@given(PLAIN)
def test_yaml_of_data_is_read_as_it_was_written(values: Any) -> None:
    assert of_yaml(yaml.safe_dump(values)) == values


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 2031-01-02", {"a": "2031-01-02"}),
        ("1: x", {"1": "x"}),
        ("on: off", {"on": False}),
        ("a: 1_000", {"a": 1000}),
        ("a: 0x1f", {"a": 31}),
        ("[=, <<]", ["=", "<<"]),
        ("", None),
        ("a: &b 1", {"a": 1}),
    ],
)
def test_what_people_write_is_what_they_mean(text: str, value: Any) -> None:
    assert of_yaml(text) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("match: [", "line 1, column 9"),
        ("a: 1\nb: {a: 1, a: 2}", "line 2, column 11: 'a' is there twice"),
        ("a: !!python/object/apply:os.system [x]", "tags, such as .*python/object"),
        ("a: !!binary x", "tags"),
        ("a: ! x", "tags"),
        ("a: &a [1]\nb: *a", "line 2, column 4: aliases, such as .a, are not read"),
        ("a: &a {<<: *a}", "aliases"),
        ("? [1]\n: 2", "only a name can stand before a colon"),
        ("[" * 5000, f"nested more than {MAX_DEPTH} deep"),
        ("- " * 5000, f"nested more than {MAX_DEPTH} deep"),
        ("a: " + "9" * 5000, "a: .*number|line 1, column 4: 9999.* is no number"),
        ("match: {alpha: 99999999999999999999}", r"match\.alpha: a whole number of more than 64 bits"),
        ("a: " + "1:" * 5000 + "1", "is no number"),
        ("a: 0b_", "0b_ is no number"),
        ("a: \x00", "special characters are not allowed"),
        ("a: 1\n---\nb: 2", "another document"),
        ("a: \ud800", "special characters"),
        ('a: "\\U99999999"', "a character that Unicode does not have"),
        ('a: {b: "x\\ud800"}', r"a\.b: a text that holds half a character"),
        ('a: {"\\udfff": 1}', "a: a name in it holds half a character"),
    ],
)
def test_what_is_not_data_within_bounds_is_refused_and_says_where(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        of_yaml(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 100_000,
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b"\xff",
        b"[1",
        b"9" * 6000,
        b"[" * 40 + b"]" * 40,
        b'["\\ud800"]',
        b'{"\\udc00": 1}',
    ],
)
def test_json_is_bounded_too(data: bytes) -> None:
    with pytest.raises(ValueError):
        of_json(data)


def test_depth_and_numbers_end_where_they_are_said_to() -> None:
    deepest: Any = 1
    for _ in range(MAX_DEPTH):
        deepest = [deepest]
    assert bounded(deepest) is deepest
    with pytest.raises(ValueError, match=r"0\.0\.0\.\.\.: it is nested"):
        bounded([deepest])
    assert bounded([2**63 - 1, -(2**63)])
    for number in (2**63, -(2**63) - 1):
        with pytest.raises(ValueError, match=r"a\.1: a whole number"):
            bounded({"a": [0, number]})


def test_a_name_of_any_length_is_shown_short() -> None:
    with pytest.raises(ValueError) as caught:
        bounded({"x" * 1_000_000: 2**64})
    assert len(str(caught.value)) < 200


def test_files_are_utf_8_and_of_a_size(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_bytes("\ufeffseed: 3 # é".encode())
    assert of_yaml(read_text(file)) == {"seed": 3}
    for data, reason in (
        ("# é".encode("latin-1"), "not UTF-8: byte 2 is 0xe9"),
        ("seed: 3".encode("utf-16"), "not UTF-8"),
        (b" " * (YAML_BYTES + 1), "larger than the 256 KB"),
    ):
        file.write_bytes(data)
        with pytest.raises(ValueError, match=reason):
            read_text(file)
        with pytest.raises(ValueError, match=reason):
            decoded(data)


def test_a_file_without_an_end_is_not_read_to_it() -> None:
    with pytest.raises(ValueError, match="larger than"):
        read_text("/dev/zero")

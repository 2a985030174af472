"""Pair ids are taken apart into what they were made of, one by one and as Arrow arrays, and nothing else passes for one."""

from collections.abc import Callable

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sc3d.errors import SchemaError
from sc3d.pair_ids import join_pair_ids, pair_id_of, split_pair_id, split_pair_ids
from sc3d.records import check_id

WRONG = ["", "~", "alone", "a~", "~b", "a~~b", "a~b~c", "a~b~"]

image_ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
any_ids = st.text(st.characters(codec="utf-8", exclude_characters="~"), min_size=1, max_size=10)
pairs = st.lists(st.tuples(image_ids | any_ids, image_ids | any_ids), max_size=8)


def outcome(split: Callable[[], tuple[str, ...]]) -> tuple[str, ...] | str:
    """Both ends, or why there are none."""
    try:
        return split()
    except SchemaError as error:
        return str(error)


def column(values: list[str]) -> pa.Array:
    return pa.array(values, pa.string())


@given(image_ids | any_ids, image_ids | any_ids)
def test_a_pair_id_is_split_into_what_it_was_made_of(source: str, target: str) -> None:
    assert split_pair_id(pair_id_of(source, target)) == (source, target)


@given(pairs)
def test_arrays_of_ids_are_joined_and_split_as_single_ones_are(pairs: list[tuple[str, str]]) -> None:
    sources, targets = (column([pair[side] for pair in pairs]) for side in (0, 1))
    ids = join_pair_ids(sources, targets)
    assert ids.to_pylist() == [pair_id_of(*pair) for pair in pairs]
    assert [end.to_pylist() for end in split_pair_ids(ids)] == [sources.to_pylist(), targets.to_pylist()]
    # A part of an array begins elsewhere in its buffers.
    assert [end.to_pylist() for end in split_pair_ids(ids[1:])] == [sources.to_pylist()[1:], targets.to_pylist()[1:]]


@given(st.text("ab~.\n", max_size=6))
def test_one_by_one_and_as_an_array_the_same_ids_are_refused(text: str) -> None:
    assert outcome(lambda: split_pair_id(text)) == outcome(lambda: tuple(end[0].as_py() for end in split_pair_ids(column([text]))))


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_pair_id_is_refused_by_name(wrong: str) -> None:
    with pytest.raises(SchemaError, match=f"'{wrong}' is no pair id; one is made of a source id, '~' and a target id"):
        split_pair_id(wrong)
    with pytest.raises(SchemaError, match=f"'{wrong}' is no pair id"):
        split_pair_ids(column(["a~b", wrong, "also wrong"]))


def test_a_missing_id_is_refused() -> None:
    with pytest.raises(SchemaError, match="'None' is no pair id"):
        split_pair_ids(pa.array(["a~b", None]))


@given(image_ids, image_ids)
def test_a_pair_id_can_be_no_image_id(source: str, target: str) -> None:
    with pytest.raises(SchemaError, match="cannot be an id"):
        check_id(pair_id_of(source, target))

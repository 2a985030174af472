"""The id of an ordered pair: made of the ids of its source and its target, and taken apart again. Nobody else knows the separator."""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc

from sc3d.errors import SchemaError

# No image id contains it, so that every pair id has one way back.
_SEPARATOR = "~"
_PAIR_ID = f"^(?P<source>[^{_SEPARATOR}]+){_SEPARATOR}(?P<target>[^{_SEPARATOR}]+)$"


def pair_id_of(source_id: str, target_id: str) -> str:
    """The id of the ordered pair (source, target)."""
    return f"{source_id}{_SEPARATOR}{target_id}"


def split_pair_id(pair_id: str) -> tuple[str, str]:
    """The ids of a pair's source and target; raises :class:`SchemaError` for what is no pair id."""
    ends = re.fullmatch(_PAIR_ID, pair_id)
    if ends is None:
        raise _no_pair_id(pair_id)
    return ends["source"], ends["target"]


def partial_ends(text: str) -> tuple[str, str]:
    """The ends of what somebody typed for a pair id, either of them empty where it is missing."""
    source, _, target = text.partition(_SEPARATOR)
    return source, target


def join_pair_ids(sources: pa.Array, targets: pa.Array) -> pa.Array:
    """:func:`pair_id_of` of the source ids (N,) and target ids (N,), both strings."""
    return pc.binary_join_element_wise(sources, targets, _SEPARATOR)


def split_pair_ids(pair_ids: pa.Array) -> tuple[pa.Array, pa.Array]:
    """:func:`split_pair_id` of the pair ids (N,), strings: the source ids (N,) and the target ids (N,).

    Raises:
        SchemaError: one is no pair id, or null; the message names the first.
    """
    ends = pc.extract_regex(pair_ids, _PAIR_ID)
    if ends.null_count:
        raise _no_pair_id(pair_ids.filter(ends.is_null())[0].as_py())
    return pc.struct_field(ends, 0), pc.struct_field(ends, 1)


def _no_pair_id(value: str | None) -> SchemaError:
    return SchemaError(f"'{value}' is no pair id; one is made of a source id, '{_SEPARATOR}' and a target id")

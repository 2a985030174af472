"""Masks as COCO's run lengths in JSON: ``{"size": [height, width], "counts": ...}``, alone or as an annotation's ``segmentation``.

The runs go down the columns, and begin with one outside. Their lengths are a list, or packed into a text as COCO's tools do: each number
in groups of five bits, lowest first, with 48 added; from the fourth on, it is the difference to the one two places before.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field
from typing_extensions import TypedDict

from sc3d.errors import InputError, SchemaError
from sc3d.parsed import parsed_json

MAX_JSON_BYTES = 4_000_000
"""Of a mask in JSON. Those that COCO's tools write have some kilobytes."""

# Seven groups hold any length, and the sums of any number of them that are read.
_FIRST, _GROUPS = 48, 7

_Side = Annotated[int, Field(gt=0, lt=2**31)]
_Length = Annotated[int, Field(ge=0, lt=2**31)]


class _Runs(TypedDict):
    size: Annotated[list[_Side], Field(min_length=2, max_length=2)]
    counts: str | list[_Length]


class _Annotation(TypedDict):
    segmentation: _Runs


_Several = Annotated[list[_Annotation | _Runs], Field(min_length=1, max_length=1)]


def read_runs(data: bytes, where: str, max_pixels: int) -> np.ndarray:
    """A mask (H, W) bool of a JSON file; ``where`` begins the messages.

    Raises:
        InputError: it is no such JSON, has several masks, is larger than :data:`MAX_JSON_BYTES` or ``max_pixels``, or its runs do not fill
            its size.
    """
    if len(data) > MAX_JSON_BYTES:
        raise InputError(f"{where}: a mask in JSON has at most {MAX_JSON_BYTES / 1e6:g} MB; save it as PNG")
    try:
        found = parsed_json(_Annotation | _Runs | _Several, data, where)  # type: ignore[arg-type]
    except SchemaError as error:
        raise InputError(f"{error}; a mask in JSON is COCO's run lengths, of one object: size and counts") from None
    one = found[0] if isinstance(found, list) else found
    runs: _Runs = one.get("segmentation", one)
    height, width = runs["size"]
    if height * width > max_pixels:
        raise InputError(f"{where}: {width} x {height} are more than {max_pixels // 10**6} million pixels; scale it down first")
    counts = runs["counts"]
    lengths = _unpacked(counts, where) if isinstance(counts, str) else np.array(counts, np.int64)
    if (lengths < 0).any() or (lengths > height * width).any() or lengths.sum() != height * width:
        raise InputError(f"{where}: its runs do not fill its {width} x {height} pixels; write it again")
    inside = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return np.ascontiguousarray(inside.reshape(width, height).T)


def _unpacked(text: str, where: str) -> np.ndarray:
    """The lengths of a packed text, which may be negative if it is no such text."""
    damaged = InputError(f"{where}: its counts are no run lengths as COCO's tools pack them; write it again")
    try:
        groups = np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int64) - _FIRST
    except UnicodeEncodeError:
        raise damaged from None
    ends = np.flatnonzero(groups & 32 == 0)
    if not len(ends) or ends[-1] != len(groups) - 1 or (groups < 0).any() or (groups > 63).any():
        raise damaged
    starts = np.concatenate([[0], ends[:-1] + 1])
    sizes = ends - starts + 1
    if sizes.max() > _GROUPS:
        raise damaged
    places = 5 * (np.arange(len(groups)) - np.repeat(starts, sizes))
    numbers = np.add.reduceat((groups & 31) << places, starts)
    # The highest bit of the last group is the sign.
    numbers -= np.where(groups[ends] & 16, np.int64(1) << (5 * sizes), 0)
    lengths = numbers.copy()
    for first in (1, 2):
        lengths[first::2] = np.cumsum(numbers[first::2])
    return lengths

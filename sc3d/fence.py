"""As which run a process writes a run folder: its number, which is in the names of the shards that it commits.

The runs that have written a folder are numbered (:mod:`sc3d.lease`). A process that works for one of them says so once, with
:func:`write_as`, and from then on every :class:`~sc3d.store.RunFolder` of that folder in it bears this number: before each of its writes it
looks whether the number is still the highest. A process that says nothing writes unfenced.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

FOLDER = "lease"
LARGEST = 10**12 - 1

_CLAIM = re.compile(rf"{FOLDER}/(\d{{8,12}})(?:-[0-9a-f]{{32}})?\.claim")
_SHARD = re.compile(r"(?:.*/)?[0-9a-f]{16}(?:-(\d{8,12}))?\.parquet")

_numbers: dict[str, int] = {}


def write_as(root: str, number: int) -> None:
    """From now on this process writes the folder at ``root`` as the run of that number; 0 for as nobody."""
    if number:
        _numbers[root] = number
    else:
        _numbers.pop(root, None)


def number_at(root: str) -> int:
    """As which run this process writes the folder at ``root``; 0 for none."""
    return _numbers.get(root, 0)


def claims_among(names: Iterable[str]) -> dict[int, list[str]]:
    """The claims among names of files, by their number."""
    found: dict[int, list[str]] = {}
    for name in names:
        if match := _CLAIM.fullmatch(name):
            found.setdefault(int(match[1]), []).append(name)
    return found


def numbered(stem: str, number: int) -> str:
    """The name of a shard as the run of a number commits it, without its ending."""
    return f"{stem}-{number:08}" if number else stem


def number_of(name: str) -> int | None:
    """The number in the name of a shard's file, or of its rejects': 0 where it has none, ``None`` for other files."""
    match = _SHARD.fullmatch(name)
    return None if match is None else int(match[1] or 0)

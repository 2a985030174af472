"""Arrays of real numbers in MATLAB's MAT-files of level 5, which is what data sets are published in.

SciPy's reader is compiled code that a damaged file can crash, and so the process. Of what it reads, data sets need arrays of numbers only;
those are read here, checked against the bytes that there are.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator
from math import prod

import numpy as np

MAX_UNPACKED = 1 << 22
"""Bytes of one array at most, however few it is packed into."""

_HEADER = 128
_COMPRESSED, _MATRIX = 15, 14
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_NUMERIC_CLASSES = range(6, 16)
_COMPLEX, _LOGICAL = 0x08, 0x02


def read_mat(data: bytes, names: Collection[str]) -> dict[str, np.ndarray | None]:
    """Those of the named variables that a file has, as float64; one that is no array of real numbers is ``None``.

    Raises:
        ValueError: it is no such file, or a damaged one.
    """
    if len(data) < _HEADER or data[126:128] not in (b"IM", b"MI"):
        raise ValueError("it does not begin as one of level 5")
    order = "<" if data[126:128] == b"IM" else ">"
    found: dict[str, np.ndarray | None] = {}
    for kind, content in _elements(data[_HEADER:], order):
        if kind == _COMPRESSED:
            try:
                unpacked = zlib.decompressobj().decompress(content, MAX_UNPACKED)
            except zlib.error as error:
                raise ValueError(str(error)) from None
            kind, content = next(_elements(unpacked, order, cut=True), (0, b""))
        if kind == _MATRIX:
            parts = _elements(content, order, cut=True)
            name, array = _array(parts, order, names)
            if name in names:
                found[name] = array
    return found


def _elements(data: bytes, order: str, cut: bool = False) -> Iterator[tuple[int, bytes]]:
    """Type and content of each element of some bytes; ``cut``: the last may have less than it states."""
    at = 0
    while at + 8 <= len(data):
        kind, size = (int(n) for n in np.frombuffer(data, f"{order}u4", 2, at))
        if kind >> 16:
            # Up to four bytes stand in the place of their number.
            kind, size, start, after = kind & 0xFFFF, kind >> 16, at + 4, at + 8
        else:
            start = at + 8
            after = start + size + (-size % 8 if kind != _COMPRESSED else 0)
        if start + size > len(data) and not cut:
            raise ValueError("it is cut short")
        yield kind, data[start : start + size]
        at = after


def _array(parts: Iterator[tuple[int, bytes]], order: str, names: Collection[str]) -> tuple[str, np.ndarray | None]:
    head = [content for _, content in (next(parts, (0, b"")) for _ in range(3))]
    if len(head[0]) < 8 or len(head[1]) % 4:
        raise ValueError("an array has no head")
    flags = int(np.frombuffer(head[0], f"{order}u4", 1)[0])
    shape = tuple(int(n) for n in np.frombuffer(head[1], f"{order}i4"))
    name = head[2].decode("ascii", "replace")
    if name not in names or flags & 0xFF not in _NUMERIC_CLASSES or flags >> 8 & (_COMPLEX | _LOGICAL):
        return name, None
    kind, content = next(parts, (0, b""))
    if kind not in _TYPES or any(n < 0 for n in shape) or len(content) != prod(shape) * np.dtype(_TYPES[kind]).itemsize:
        raise ValueError(f"{name} of shape {shape} has {len(content)} bytes of numbers")
    values = np.frombuffer(content, f"{order}{_TYPES[kind]}")
    return name, values.astype(np.float64).reshape(shape, order="F")

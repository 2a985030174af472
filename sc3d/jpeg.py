"""Does a JPEG hold the rows that its header promises? Decoders do not say: what is missing they fill with grey.

The picture's data is read as a decoder does (ITU-T T.81, annexes F and G), but nothing is made of it except a count of its blocks. So a
file that was cut short and closed again, and one whose header names another size, are told from a whole one. That takes about half as long
as decoding it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sc3d.jpeg_bits import AC_FIRST, AC_REFINES, DC_FIRST, DC_REFINES, FAST_BITS, WHOLE_BLOCKS, bits_of_scan

_END, _SCAN, _TABLES, _RESTART = 0xD9, 0xDA, 0xC4, 0xDD
_BASELINE, _PROGRESSIVE = (0xC0, 0xC1), 0xC2
# Other processes (lossless, hierarchical, arithmetic coding), which photos do not have.
_OTHER_FRAMES = frozenset(range(0xC0, 0xD0)) - {*_BASELINE, _PROGRESSIVE, _TABLES, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset((0x01, *range(0xD0, 0xD9)))
# In the data of a scan, 0xff is followed by 0x00 where it is a value, and by 0xd0 to 0xd7 at a restart; anything else ends the scan.
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_RESTARTS = re.compile(rb"\xff+[\xd0-\xd7]")
_COEFFICIENTS = 64
# Some encoders leave a few bytes behind the last block.
_MOST_LEFT_OVER = 64
# Of progressive scans: whether without the first coefficient, and whether a further bit of coefficients.
_KINDS = {(False, False): DC_FIRST, (False, True): DC_REFINES, (True, False): AC_FIRST, (True, True): AC_REFINES}


class JpegError(Exception):
    """What is wrong with the data of a JPEG."""


@dataclass(eq=False)
class _Component:
    """``across``, ``down``: its blocks; ``h``, ``v``: how many of them a unit of an interleaved scan has; ``nonzero``: bits a block;
    ``open``: the coefficients of which bits are still to come."""

    across: int
    down: int
    h: int
    v: int
    nonzero: np.ndarray
    open: set[int]


@dataclass(frozen=True)
class _Frame:
    progressive: bool
    components: dict[int, _Component]
    units: int


@dataclass(frozen=True)
class _Scan:
    components: list[tuple[int, int, int]]
    first: int
    last: int
    refines: bool
    shift: int


def check_jpeg(data: bytes) -> None:
    """Raise :class:`JpegError` unless the scans of a JPEG hold all of its blocks, to the last bit, and no more."""
    try:
        _check(data)
    except (IndexError, KeyError, ValueError):
        raise JpegError("its segments do not fit each other") from None


def _check(data: bytes) -> None:
    frame: _Frame | None = None
    tables: dict[int, np.ndarray] = {}
    interval = 0
    for marker, content, picture in _segments(data):
        if marker in (*_BASELINE, _PROGRESSIVE):
            frame = _frame(content, marker == _PROGRESSIVE)
        elif marker in _OTHER_FRAMES:
            raise JpegError("it is coded in a way that photos are not; convert it")
        elif marker == _TABLES:
            tables |= _huffman_tables(content)
        elif marker == _RESTART:
            interval = int.from_bytes(content[:2], "big")
        elif marker == _SCAN:
            if frame is None:
                raise JpegError("a scan comes before the header")
            _check_scan(frame, _scan(content), tables, interval, picture)
    if frame is None or any(component.open for component in frame.components.values()):
        raise JpegError("scans are missing")


def _segments(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Marker, content, and, of a scan, the data of the picture, of each segment up to the end of the image. What lies between segments is
    passed over, as decoders do."""
    at = 2
    while True:
        at = data.index(b"\xff", at)
        while data[at] == 0xFF:
            at += 1
        marker, at = data[at], at + 1
        if marker == _END:
            return
        if marker == 0 or marker in _WITHOUT_LENGTH:
            continue
        length = int.from_bytes(data[at : at + 2], "big")
        if length < 2 or at + length > len(data):
            raise JpegError("it is cut short")
        end = after = at + length
        if marker == _SCAN:
            stop = _AFTER_SCAN.search(data, end)
            if stop is None:
                raise JpegError("it is cut short")
            after = stop.start()
        yield marker, data[at + 2 : end], data[end:after]
        at = after


def _frame(content: bytes, progressive: bool) -> _Frame:
    height, width = int.from_bytes(content[1:3], "big"), int.from_bytes(content[3:5], "big")
    entries = [content[6 + 3 * i : 9 + 3 * i] for i in range(content[5])]
    factors = {entry[0]: (entry[1] >> 4, entry[1] & 15) for entry in entries}
    if not factors or not all(1 <= h <= 4 and 1 <= v <= 4 for h, v in factors.values()):
        raise JpegError("its components do not fit each other")
    h_most, v_most = max(h for h, _ in factors.values()), max(v for _, v in factors.values())
    components = {}
    for name, (h, v) in factors.items():
        across, down = _up(_up(width * h, h_most), 8), _up(_up(height * v, v_most), 8)
        nonzero = np.zeros(across * down if progressive else 0, np.uint64)
        components[name] = _Component(across, down, h, v, nonzero, set(range(_COEFFICIENTS)))
    return _Frame(progressive, components, _up(width, 8 * h_most) * _up(height, 8 * v_most))


def _up(a: int, b: int) -> int:
    return -(-a // b)


def _scan(content: bytes) -> _Scan:
    n = content[0]
    components = [(content[1 + 2 * i], content[2 + 2 * i] >> 4, content[2 + 2 * i] & 15) for i in range(n)]
    first, last, shifts = content[1 + 2 * n : 4 + 2 * n]
    if n == 0 or not first <= last < _COEFFICIENTS:
        raise JpegError("a scan without components or coefficients")
    return _Scan(components, first, last, shifts >> 4 != 0, shifts & 15)


def _huffman_tables(content: bytes) -> dict[int, np.ndarray]:
    found, at = {}, 0
    while at < len(content):
        size = 17 + sum(content[at + 1 : at + 17])
        if at + size > len(content):
            raise JpegError("a table is cut short")
        found[content[at]] = _lookup(content[at + 1 : at + size])
        at += size
    return found


@lru_cache(maxsize=64)
def _lookup(table: bytes) -> np.ndarray:
    """Length and symbol, as 256 * length + symbol, of the code that the next bits begin with, or 0: for each value of the next
    ``FAST_BITS`` bits, in which longer codes are 0, and after those for each value of the next 16."""
    found, at, symbol = np.zeros(1 << 16, np.uint16), 0, 16
    for length in range(1, 17):
        for _ in range(table[length - 1]):
            found[at : at + (1 << (16 - length))] = length << 8 | table[symbol]
            at, symbol = at + (1 << (16 - length)), symbol + 1
    short = found[:: 1 << (16 - FAST_BITS)]
    return np.concatenate([np.where(short >> 8 <= FAST_BITS, short, 0), found])


def _check_scan(frame: _Frame, scan: _Scan, tables: dict[int, np.ndarray], interval: int, data: bytes) -> None:
    members = [frame.components[name] for name, _, _ in scan.components]
    ac_only = scan.first > 0
    if ac_only and (len(members) > 1 or not frame.progressive):
        raise JpegError("a scan mixes components")
    units, blocks = (members[0].across * members[0].down, [1]) if len(members) == 1 else (frame.units, [m.h * m.v for m in members])
    order = np.repeat(np.arange(len(members)), blocks)
    nothing = _lookup(bytes(16))
    needs_dc, needs_ac = not ac_only and not scan.refines, ac_only or not frame.progressive
    dc = np.stack([tables[number] if needs_dc else nothing for _, number, _ in scan.components])
    ac = np.stack([tables[16 + number] if needs_ac else nothing for _, _, number in scan.components])
    parts = (
        [part.replace(b"\xff\x00", b"\xff") for part in _RESTARTS.split(data)] if interval else [data.replace(b"\xff\x00", b"\xff")]
    )
    interval = interval or units
    if len(parts) != _up(units, interval):
        raise JpegError(f"it has the data of {len(parts)} parts, its header promises {_up(units, interval)}")
    kind = _KINDS[ac_only, scan.refines] if frame.progressive else WHOLE_BLOCKS
    for number, part in enumerate(parts):
        wanted = min(interval, units - number * interval)
        bits = np.frombuffer(part + bytes(4), np.uint8)
        nonzero = members[0].nonzero[number * interval :]
        used = bits_of_scan(bits, 8 * len(part), wanted, order, dc, ac, kind, scan.first, scan.last, nonzero)
        if used < 0:
            raise JpegError("it holds less than its header promises")
        if len(part) - _up(used, 8) > _MOST_LEFT_OVER:
            raise JpegError("it holds more than its header promises")
    for member in members:
        if scan.shift == 0:
            member.open -= set(range(scan.first, scan.last + 1))

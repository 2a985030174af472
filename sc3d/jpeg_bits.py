"""The compiled loop of :mod:`sc3d.jpeg`: how many bits the blocks of a scan take."""

from __future__ import annotations

import numpy as np

from sc3d.kernels import compiled

DC_FIRST, DC_REFINES, AC_FIRST, AC_REFINES, WHOLE_BLOCKS = range(5)


FAST_BITS = 10
"""Codes up to this length are looked up in a table that stays in the processor's first cache."""


@compiled
def _peek(bits: np.ndarray, at: int) -> int:
    """The 16 bits from bit ``at`` on."""
    # Unsigned, since an index that may be negative is looked at twice.
    byte = np.uint64(at) >> np.uint64(3)
    three = (np.int64(bits[byte]) << 16) | (np.int64(bits[byte + np.uint64(1)]) << 8) | np.int64(bits[byte + np.uint64(2)])
    return (three >> (8 - (at & 7))) & 0xFFFF


@compiled
def _code(bits: np.ndarray, at: int, tables: np.ndarray, row: int) -> int:
    """256 * length + symbol of the code at bit ``at``, or 0 if there is none."""
    ahead = _peek(bits, at)
    short = np.int64(tables[row, np.uint64(ahead >> (16 - FAST_BITS))])
    return short if short != 0 else np.int64(tables[row, np.uint64((1 << FAST_BITS) + ahead)])


@compiled
def _whole_block(bits: np.ndarray, n_bits: int, at: int, dc: np.ndarray, ac: np.ndarray, row: int) -> int:
    code = _code(bits, at, dc, row)
    if code == 0:
        return -1
    at += (code >> 8) + (code & 15)
    k = 1
    while k < 64:
        if at > n_bits:
            return -1
        code = _code(bits, at, ac, row)
        if code == 0:
            return -1
        run, size = (code >> 4) & 15, code & 15
        at += (code >> 8) + size
        if size == 0 and run != 15:
            break
        k += run + 1
    return at


@compiled
def _ac_first(
    bits: np.ndarray, n_bits: int, at: int, ac: np.ndarray, row: int, first: int, last: int, nonzero: np.ndarray, block: int
) -> tuple[int, int]:
    """Where the block ends, and how many blocks after it have no bits of their own."""
    k = first
    while k <= last:
        if at > n_bits:
            return -1, 0
        code = _code(bits, at, ac, row)
        if code == 0:
            return -1, 0
        run, size = (code >> 4) & 15, code & 15
        at += code >> 8
        if size == 0 and run != 15:
            if at > n_bits:
                return -1, 0
            return at + run, (1 << run) - 1 + (_peek(bits, at) >> (16 - run))
        at += size
        k += run
        if size != 0 and k < 64:
            nonzero[block] |= np.uint64(1) << np.uint64(k)
        k += 1
    return at, 0


@compiled
def _ac_refines(
    bits: np.ndarray,
    n_bits: int,
    at: int,
    ac: np.ndarray,
    row: int,
    first: int,
    last: int,
    nonzero: np.ndarray,
    block: int,
    ended: int,
) -> tuple[int, int]:
    """As :func:`_ac_first`; ``ended``: of how many blocks, with this one, no new coefficients come."""
    k, one = first, np.uint64(1)
    if ended == 0:
        while k <= last:
            if at > n_bits:
                return -1, 0
            code = _code(bits, at, ac, row)
            if code == 0:
                return -1, 0
            run, size = (code >> 4) & 15, code & 15
            at += code >> 8
            if size == 0 and run != 15:
                if at > n_bits:
                    return -1, 0
                ended = (1 << run) + (_peek(bits, at) >> (16 - run))
                at += run
                break
            at += 1 if size != 0 else 0
            # Past the coefficients that are there already, each with a bit, and past as many others as the run says.
            while k <= last:
                if nonzero[block] >> np.uint64(k) & one:
                    at += 1
                elif run == 0:
                    break
                else:
                    run -= 1
                k += 1
            if size != 0 and k <= last:
                nonzero[block] |= one << np.uint64(k)
            k += 1
    if ended > 0:
        while k <= last:
            at += 1 if nonzero[block] >> np.uint64(k) & one else 0
            k += 1
        ended -= 1
    return at, ended


@compiled
def bits_of_scan(
    bits: np.ndarray,
    n_bits: int,
    units: int,
    order: np.ndarray,
    dc: np.ndarray,
    ac: np.ndarray,
    kind: int,
    first: int,
    last: int,
    nonzero: np.ndarray,
) -> int:
    """Bits that ``units`` units take, or -1 if there are fewer, or some that no code begins with.

    Args:
        bits: (B,) uint8, four more than hold ``n_bits`` bits.
        order: (b,) row of ``dc`` and ``ac`` (n, 1024 + 65536) of each block of a unit.
        kind: one of the constants above.
        first, last: coefficients of the scan.
        nonzero: (units,) uint64, a bit a coefficient that earlier scans brought; brought up to date.
    """
    at, ended = 0, 0
    for unit in range(units):
        for row in order:
            if kind == WHOLE_BLOCKS:
                at = _whole_block(bits, n_bits, at, dc, ac, row)
            elif kind == DC_FIRST:
                code = _code(bits, at, dc, row)
                at = at + (code >> 8) + (code & 15) if code != 0 else -1
            elif kind == DC_REFINES:
                at += 1
            elif kind == AC_REFINES:
                at, ended = _ac_refines(bits, n_bits, at, ac, row, first, last, nonzero, unit, ended)
            elif ended > 0:
                ended -= 1
            else:
                at, ended = _ac_first(bits, n_bits, at, ac, row, first, last, nonzero, unit)
            if at < 0 or at > n_bits:
                return -1
    return at

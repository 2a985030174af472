"""Seconds as people say them."""

from __future__ import annotations

import math

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def duration(seconds: float) -> str:
    """A time in its two largest units: ``4.2 s``, ``52 s``, ``3 min 20 s``, ``2 h 5 min``, ``3 d 4 h``; of the smaller one no zeros."""
    if not math.isfinite(seconds) or seconds < 0:
        return "-"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    # Rounded to what will be shown before it is taken apart, so that nothing is said to be 60 s or 24 h long.
    whole = round(seconds)
    whole = whole if whole < 3600 else 60 * round(seconds / 60)
    whole = whole if whole < 86400 else 3600 * round(seconds / 3600)
    place = next(i for i, (size, _) in enumerate(_UNITS) if whole >= size)
    parts = []
    for size, name in _UNITS[place : place + 2]:
        count, whole = divmod(whole, size)
        parts += [f"{count:,} {name}"] if count else []
    return " ".join(parts)

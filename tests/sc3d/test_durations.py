"""Durations are said in two units, and no unit is said to hold more than it does."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sc3d.durations import duration

SIZES = {"s": 1, "min": 60, "h": 3600, "d": 86400}


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0.0 s"),
        (4.24, "4.2 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (3599.7, "1 h"),
        (7512.0, "2 h 5 min"),
        (86399, "1 d"),
        (3 * 86400 + 4 * 3600 + 59, "3 d 4 h"),
        (math.inf, "-"),
        (math.nan, "-"),
    ],
)
def test_durations_as_people_say_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@given(st.floats(0, 1e8))
def test_what_is_said_is_what_was_measured(seconds: float) -> None:
    parts = re.findall(r"([\d,.]+) (d|h|min|s)\b", duration(seconds))
    counts = [(float(count.replace(",", "")), unit) for count, unit in parts]
    assert " ".join(f"{count} {unit}" for count, unit in parts) == duration(seconds)
    assert 1 <= len(counts) <= 2
    units = list(SIZES)
    assert all(count < SIZES[units[units.index(unit) + 1]] / SIZES[unit] for count, unit in counts if unit != "d")
    smallest = {"d": 3600, "h": 60, "min": 1, "s": 1}[counts[0][1]]
    assert sum(count * SIZES[unit] for count, unit in counts) == pytest.approx(seconds, abs=0.5 * smallest + 1e-6)

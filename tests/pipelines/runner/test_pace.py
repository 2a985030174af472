"""The estimate of a training: from steps that were timed, said once, and not where there is nothing to say."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from pipelines.runner.pace import Pace


def told(left: int, seconds: list[float]) -> list[str]:
    """What is said when steps take so many seconds each."""
    now, said = [0.0], []
    pace = Pace(left, said.append, lambda: now[0])
    for one in seconds:
        now[0] += one
        pace.step()
    return said


def test_it_is_said_once_from_the_steps_after_the_first_ones() -> None:
    (line,) = told(1003, [60.0] * 3 + [0.5] * 500)
    # 980 steps of half a second each: the slow first ones are not counted.
    assert "about 8 min 10 s left for 980 steps, estimated from 20 steps" in line


def test_a_short_training_is_over_before_it_could_be_told() -> None:
    assert told(23, [1.0] * 23) == []
    assert told(100, [1.0] * 10) == []
    assert len(told(24, [1.0] * 24)) == 1


@given(st.floats(0.001, 5), st.integers(30, 10**6))
def test_steady_steps_are_told_as_they_are(seconds: float, left: int) -> None:
    said = told(left, [seconds] * min(left, 4000))
    for line in said:
        count, timed = (int(number.replace(",", "")) for number in re.findall(r"([\d,]+) steps", line))
        assert count + timed == left - 3
        assert timed * seconds >= 2.0 - 1e-6
    assert len(said) <= 1
    if left > 4000:
        assert len(said) == (1 if 3997 * seconds >= 2.001 else 0) or abs(3997 * seconds - 2) < 0.01

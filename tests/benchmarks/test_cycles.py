"""What the benchmark says of estimates: how far they are from the truth, and how often their interval holds it."""

from __future__ import annotations

import pytest

from benchmarks.cycles import Compared, figures
from sc3d.matching.cycle_precision import CyclePrecision


def compared(category: str, true: float, wrong: float, low: float, high: float) -> Compared:
    return Compared(category, 0.05, 100, true, CyclePrecision(wrong, low, high, (low, high), 900, 90))


def test_estimates_are_compared_with_the_truth() -> None:
    rows = [
        compared("", 0.02, 0.03, 0.01, 0.05),
        compared("", 0.04, 0.01, 0.0, 0.03),
        Compared("", 0.05, 100, 0.5, None),
        compared("car", 0.01, 0.05, 0.02, 0.08),
    ]
    found = {one["figure"]: (one["value"], one["n"]) for one in figures(rows)}
    assert found["wrong labels, mixed toys, tau 0.05"] == (pytest.approx(3.0), 2)
    assert found["wrong labels by cycles, mixed toys, tau 0.05"] == (pytest.approx(2.0), 2)
    assert found["cycles, mixed toys: away from the truth"] == (pytest.approx(2.0), 2)
    assert found["cycles, mixed toys: interval holds the truth"] == (50.0, 2)
    assert found["cycles, mixed toys: estimated at all"][0] == pytest.approx(200 / 3, abs=0.01)
    assert found["cycles, mixed toys: interval holds the truth of a category"] == (0.0, 1)
    assert found["cycles, mixed toys: truth below the high end of a category"] == (100.0, 1)

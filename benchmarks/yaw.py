"""The yaw vote: injected quarter turns that are undone, and turns made on a split vote."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks import row
from sc3d.geometry.yaw import TURNS, OracleEstimator, vote_yaw

TRIALS = 1000
RIGHT = 0.7


def run() -> Iterator[dict[str, Any]]:
    """Shares over 1,000 seeded trials each."""
    for views in (8, 16):
        known = np.arange(views) * 360.0 / views
        undone, wrong = _shares(known, independent=True)
        figure = f"quarter turns undone, each of {views} views right with probability {RIGHT}"
        yield row("yaw", figure, 100 * undone, "%", "higher", n=TRIALS)
        yield row("yaw", f"wrong turns instead, {views} views", 100 * wrong, "%", "lower", n=TRIALS)
    undone, wrong = _shares(np.arange(10) * 36.0, independent=False)
    yield row("yaw", "quarter turns undone, exactly 7 of 10 views right", 100 * undone, "%", "higher", n=TRIALS)
    undone, wrong = _shares(np.arange(8) * 45.0, independent=False)
    yield row("yaw", "quarter turns undone, exactly 5 or 6 of 8 views right", 100 * undone, "%", "higher", n=TRIALS)
    yield row("yaw", "silent turns on a split vote, random estimator", 100 * _silent(), "%", "lower", n=TRIALS)


def _shares(known: np.ndarray, independent: bool) -> tuple[float, float]:
    """Shares of injected turns that the vote undid, and that it turned otherwise."""
    rng, undone, wrong = np.random.default_rng(0), 0, 0
    for trial in range(TRIALS):
        injected = TURNS[1 + trial % 3]
        if independent:
            oracle = OracleEstimator((known + injected) % 360, error_rate=1 - RIGHT, seed=trial)
            estimated = oracle.estimate(np.zeros((len(known), 8, 8))).yaw_degrees
        else:
            misled = rng.choice(len(known), round((1 - RIGHT) * len(known)) + trial % 2 * (len(known) == 8), replace=False)
            estimated = known + injected
            estimated[misled] += rng.choice(TURNS[1:], len(misled))
        turn = vote_yaw(estimated % 360, known).turn
        undone += turn == 360 - injected
        wrong += turn not in (0, 360 - injected)
    return undone / TRIALS, wrong / TRIALS


def _silent() -> float:
    rng, known, silent = np.random.default_rng(0), np.arange(8) * 45.0, 0
    for _ in range(TRIALS):
        vote = vote_yaw(rng.uniform(0, 360, len(known)), known)
        counts = np.sort([np.count_nonzero(vote.votes == turn) for turn in TURNS])
        split = counts[-1] < len(known) / 2 or counts[-1] == counts[-2]
        silent += bool(split and vote.turn)
    return silent / TRIALS

"""How sure a share is that was counted: intervals of binomial shares, and of the difference of two."""

from __future__ import annotations

import math

from scipy.stats import binomtest


def share_interval(count: int, total: int) -> tuple[float, float]:
    """Wilson's 95 % interval of the share count / total.

    It takes what was counted for independent. Points of one pair are not quite, so it is rather too narrow than too wide.

    Raises:
        ValueError: nothing was counted, or more than there is.
    """
    found = binomtest(count, total).proportion_ci(0.95, method="wilson")
    return float(found.low), float(found.high)


def is_told_apart(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two shares, each (count, total), differ by more than chance explains: whether Newcombe's 95 % interval of their difference,
    which is made of Wilson's two, leaves out zero.

    Counted on the same points, the shares of two settings vary together, so that some that differ are not told apart.
    """
    (p, p_low, p_high), (q, q_low, q_high) = ((count / total, *share_interval(count, total)) for count, total in (one, other))
    difference = p - q
    low = difference - math.hypot(p - p_low, q_high - q)
    high = difference + math.hypot(p_high - p, q - q_low)
    return low > 0 or high < 0

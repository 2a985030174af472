"""What to show of much: deterministic choices that show variety."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def spread(n: int, count: int) -> list[int]:
    """``count`` different positions of ``n`` in ascending order, evenly spaced, both ends included; all where there are fewer."""
    if count <= 0:
        return []
    if n <= count:
        return list(range(n))
    if count == 1:
        return [n // 2]
    return [int(i) for i in np.round(np.linspace(0, n - 1, count))]


def choose_pairs(kept: Mapping[str, Sequence[tuple[str, float]]], total: int, most: int) -> list[str]:
    """Pairs to show: of each category those with the largest, middle and smallest share of kept matches.

    Args:
        kept: category -> (pair id, share of its candidates that were kept).
        total: pairs to show in all; with more categories than that, categories spread over the alphabet.
        most: pairs of one category at most.

    Returns:
        Pair ids, category by category, the largest share first.
    """
    names = sorted(category for category, pairs in kept.items() if pairs)
    shown = [names[i] for i in spread(len(names), total)]
    quotas = [min(most, total // len(shown) + (i < total % len(shown))) for i in range(len(shown))]
    chosen = []
    for category, quota in zip(shown, quotas, strict=True):
        ordered = sorted(kept[category], key=lambda pair: (-pair[1], pair[0]))
        chosen += [ordered[i][0] for i in spread(len(ordered), quota)]
    return chosen


def worst_and_best(values: Mapping[str, float], each: int) -> tuple[list[str], list[str]]:
    """The ``each`` names with the lowest and with the highest value, no name twice; the lowest, and the highest, first."""
    ordered = sorted(values, key=lambda name: (values[name], name))
    worst = ordered[: min(each, (len(ordered) + 1) // 2)]
    best = ordered[len(worst) :][::-1][:each]
    return worst, best


def choose_ranked(ranks: Mapping[str, int], total: int) -> list[str]:
    """At most ``total`` names, low ranks first; a rank that has successors present leaves them at least half of what is left.

    Args:
        ranks: name -> rank, 0 being what a reader should see before anything else.
    """
    chosen: list[str] = []
    present = sorted(set(ranks.values()))
    for rank in present:
        members = sorted(name for name in ranks if ranks[name] == rank)
        left = total - len(chosen)
        quota = left if rank == present[-1] else (left + 1) // 2
        chosen += [members[i] for i in spread(len(members), quota)]
    return chosen

"""How many labels are wrong, without annotation: from chains of three matches that do not come back to where they began.

A match is wrong here if it is farther from the truth than :data:`ALLOWED` diagonals along the surface, about PCK's tenth of a box. Let c be
the chance that an end anywhere on the object is nearer than that to the start. If x is the share of chains in which not all three matches
are right, the share of open ones is x (1 - c). What x says of one match depends on what its errors have to do with those of the others:

* Independent errors: x = 1 - (1 - q)^3, so q = 1 - (1 - x)^(1/3), a third of x where both are small. This is the least that x can mean.
* Errors that cancel around the triangle, as what is wrong with one image's mesh does: the chain closes. On the toys of the development
  seeds about as many are hidden in this way as independence counts too often, so the estimate itself is q = x.

The interval goes from the low end of the first to the high end of the second. It cannot hold what no chain sees: of an object that is
turned round, or swapped left and right, in one image, every chain closes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sc3d.matching.cycle_chains import ChainCounts

ALLOWED = 0.1
"""Distance in diagonals beyond which an end is open: what a mean of two errors of 0.05 allows on one mesh."""

MIN_TRIANGLES = 10
"""Triangles with chains below which nothing is estimated: errors of one triangle come together."""

MATCHES_A_CHAIN = 3
_DRAWS = 1000


@dataclass(frozen=True, eq=False)
class CategoryChains:
    """Of a category: how many ``labels`` there are, and the chains of some triangles."""

    labels: float
    counts: Sequence[ChainCounts]


@dataclass(frozen=True)
class CyclePrecision:
    """The share of ``wrong`` labels, 0 to 1, and its 95 % interval; ``independent`` is the interval if errors are. ``triangles`` with
    ``chains`` were looked at."""

    wrong: float
    low: float
    high: float
    independent: tuple[float, float]
    chains: int
    triangles: int


@dataclass(frozen=True)
class NotEstimated:
    """Nothing can be said, for a ``reason``."""

    reason: str


Estimate = CyclePrecision | NotEstimated


def estimate_wrong(categories: Mapping[str, CategoryChains], seed: int = 0) -> Estimate:
    """The share of wrong labels of some categories together, each weighed by its labels. Those with fewer than :data:`MIN_TRIANGLES` are
    counted as one.

    The interval is that of a bootstrap over images: images are drawn that chains begin from, with all of these. Its high end is at least
    3 / triangles, below which no number of chains without an open one could tell.
    """
    groups = _groups(categories)
    triangles = sum(len(group.counts) for group in groups)
    if triangles < MIN_TRIANGLES:
        return NotEstimated(_too_few(triangles))
    weights = np.array([group.labels for group in groups])
    rng = np.random.default_rng(seed)
    drawn = np.average([_drawn_shares(group.counts, rng) for group in groups], axis=0, weights=weights)
    share = float(np.average([_share(group.counts) for group in groups], weights=weights))
    spread = np.percentile(drawn, (2.5, 97.5))
    low, high = (1 - (1 - spread) ** (1 / MATCHES_A_CHAIN)).tolist()
    return CyclePrecision(
        wrong=share,
        low=min(low, share),
        high=max(float(spread[1]), share, min(3 / triangles, 1.0)),
        independent=(low, max(high, 1 - (1 - min(3 / triangles, 1.0)) ** (1 / MATCHES_A_CHAIN))),
        chains=sum(one.chains for group in groups for one in group.counts),
        triangles=triangles,
    )


def _groups(categories: Mapping[str, CategoryChains]) -> list[CategoryChains]:
    """The categories with chains, fewest triangles first, neighbours joined until each group has enough of them."""
    used = [
        CategoryChains(found.labels, [one for one in found.counts if one.chains])
        for _, found in sorted(categories.items())
        if found.labels > 0
    ]
    groups: list[CategoryChains] = []
    for found in sorted((one for one in used if one.counts), key=lambda one: len(one.counts)):
        if groups and len(groups[-1].counts) < MIN_TRIANGLES:
            found = CategoryChains(groups[-1].labels + found.labels, [*groups.pop().counts, *found.counts])
        groups.append(found)
    return groups


def _too_few(triangles: int) -> str:
    return (
        f"{triangles} triangles of images A, B, C have labels that go all the way round, and {MIN_TRIANGLES} are needed: plan more pairs "
        "of the same images (pairs.targets, or pairs.strategy=all of few images), or take a wider tau_geo"
    )


def _share(counts: Sequence[ChainCounts]) -> float:
    """The share x of chains with a wrong match, by what would be open by chance."""
    by_chance = sum(one.by_chance for one in counts)
    return min(1.0, sum(one.open for one in counts) / by_chance) if by_chance > 0 else 0.0


def _drawn_shares(counts: Sequence[ChainCounts], rng: np.random.Generator) -> np.ndarray:
    """The shares (draws,) when other images had been drawn for chains to begin from."""
    images = sorted({one.triangle.first for one in counts})
    row_of = {image: row for row, image in enumerate(images)}
    totals = np.zeros((len(images), 2))
    for one in counts:
        totals[row_of[one.triangle.first]] += one.open, one.by_chance
    times = rng.multinomial(len(images), np.full(len(images), 1 / len(images)), _DRAWS)
    opened, by_chance = (times @ totals).T
    return np.minimum(1.0, np.divide(opened, by_chance, out=np.zeros(_DRAWS), where=by_chance > 0))


@dataclass(frozen=True)
class ThresholdEstimate:
    """What a threshold ``tau_geo`` keeps, in ``labels`` a pair, and how many of these are wrong."""

    tau_geo: float
    labels: float
    estimate: Estimate


def monotone(rows: Sequence[ThresholdEstimate]) -> list[ThresholdEstimate]:
    """The rows by ascending threshold, when a wider one keeps no smaller share of wrong labels.

    The estimates become their isotonic regression, weighed by labels. What bounds the share at one threshold from above bounds it at
    each tighter one too, and from below at each wider one.
    """
    rows = sorted(rows, key=lambda row: row.tau_geo)
    known = [(row, row.estimate) for row in rows if isinstance(row.estimate, CyclePrecision)]
    if not known:
        return rows
    wrong = _rising(np.array([one.wrong for _, one in known]), np.array([max(row.labels, 1e-9) for row, _ in known]))
    low = np.maximum.accumulate([one.low for _, one in known])
    high = np.minimum.accumulate([one.high for _, one in known][::-1])[::-1]
    fitted = {
        row.tau_geo: replace(
            one, wrong=float(np.clip(w, min(lo, hi), max(lo, hi))), low=float(min(lo, hi)), high=float(max(lo, hi))
        )
        for (row, one), w, lo, hi in zip(known, wrong, low, high, strict=True)
    }
    return [replace(row, estimate=fitted.get(row.tau_geo, row.estimate)) for row in rows]


def _rising(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Isotonic regression (N,): at each place the largest over all beginnings of the smallest over all ends of the mean in between."""
    sums, totals = (np.concatenate([[0.0], np.cumsum(one)]) for one in (values * weights, weights))
    n = len(values)
    return np.array(
        [
            max(min((sums[j] - sums[i]) / (totals[j] - totals[i]) for j in range(k + 1, n + 1)) for i in range(k + 1))
            for k in range(n)
        ]
    )


def widest_threshold(rows: Sequence[ThresholdEstimate], precision: float) -> ThresholdEstimate | None:
    """Of rows as :func:`monotone` makes them the widest threshold of which the low end of the estimated precision is at least
    ``precision``; ``None``: there is none."""
    enough = [row for row in rows if isinstance(row.estimate, CyclePrecision) and 1 - row.estimate.high >= precision]
    return max(enough, key=lambda row: row.tau_geo) if enough else None

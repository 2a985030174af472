"""Precision from cycles: right about errors that are independent, on the safe side of it, and blind to what it says that it is blind to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sc3d.features import Surface
from sc3d.geometry.geodesic import Geodesic
from sc3d.geometry.mesh import Mesh
from sc3d.grid import SIDE
from sc3d.matching.cycle_chains import CellMatches, ChainCounts, SeenSurface, Triangle, count_chains, triangles_of
from sc3d.matching.cycle_precision import (
    ALLOWED,
    MIN_TRIANGLES,
    CategoryChains,
    CyclePrecision,
    Estimate,
    NotEstimated,
    ThresholdEstimate,
    estimate_wrong,
    monotone,
    widest_threshold,
)

# A flat object of 40 x 40 cells, its diagonal the unit: all images show it alike, so the truth is the identity.
OBJECT = np.array([row * SIDE + column for row in range(10, 50) for column in range(10, 50)])
MatchesOf = dict[tuple[str, str], CellMatches]


def flat_distance(cells: np.ndarray, others: np.ndarray) -> np.ndarray:
    away = np.hypot(cells % SIDE - others % SIDE, cells // SIDE - others // SIDE)
    return np.asarray(away / np.hypot(39, 39))


FLAT = SeenSurface(OBJECT, flat_distance)


def made_matches(images: int, targets: int, share: float, seed: int, labels: int = 400) -> tuple[MatchesOf, float]:
    """Matches of which about ``share`` end anywhere, independently, more so of some images than of others; and the share that is wrong."""
    rng = np.random.default_rng(seed)
    names = [f"{i:02}" for i in range(images)]
    worse = np.exp(0.4 * rng.normal(size=images))
    matches, wrong = {}, []
    for a in range(images):
        for b in rng.choice([i for i in range(images) if i != a], targets, replace=False):
            source = np.sort(rng.choice(OBJECT, labels, replace=False))
            stray = rng.random(labels) < share * worse[a] * worse[b] / np.mean(worse) ** 2
            target = np.where(stray, rng.choice(OBJECT, labels), source)
            matches[names[a], names[b]] = CellMatches(source, target)
            wrong.append(flat_distance(source, target) > ALLOWED)
    return matches, float(np.concatenate(wrong).mean())


def estimated(matches: Mapping[tuple[str, str], CellMatches], most: int = 60) -> Estimate:
    counts = count_chains(matches, triangles_of(matches, most), lambda image: FLAT, ALLOWED)
    return estimate_wrong({"car": CategoryChains(sum(len(one.source_cells) for one in matches.values()), counts)})


@pytest.mark.parametrize("share", [0.04, 0.15, 0.4])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(share: float) -> None:
    held, safe, widths = 0, 0, []
    for seed in range(12):
        matches, truth = made_matches(12, 4, share, seed)
        found = estimated(matches)
        assert isinstance(found, CyclePrecision)
        low, high = found.independent
        held += low <= truth <= high
        safe += found.low <= truth <= found.high
        widths.append(high - low)
        assert found.low <= found.wrong <= found.high
        assert found.wrong > 1.5 * truth or truth > 0.25, "independent errors add up in a chain"
    # 95 % of 12 are 11.4; ten or fewer come in one of 8 such tests, nine or fewer in one of 50.
    assert held >= 10
    assert safe >= held
    assert np.mean(widths) < 0.05 + share / 2, "it says something"


def test_matches_that_end_anywhere_are_known_as_all_wrong() -> None:
    matches, _ = made_matches(8, 4, 1e9, 0)
    found = estimated(matches)
    assert isinstance(found, CyclePrecision)
    assert found.wrong > 0.9, "without the chance to end near the start this would be 0.9"
    assert found.independent[0] > 0.5


def test_what_is_wrong_with_one_image_is_not_seen() -> None:
    matches, _ = made_matches(8, 4, 0.0, 0)

    def swapped(cells: np.ndarray) -> np.ndarray:
        return cells - cells % SIDE + (SIDE - 1 - cells % SIDE)

    turned = {
        (source, target): CellMatches(
            swapped(one.source_cells) if source == "03" else one.source_cells,
            swapped(one.target_cells) if target == "03" else one.target_cells,
        )
        for (source, target), one in matches.items()
    }
    found = estimated(turned)
    assert isinstance(found, CyclePrecision)
    assert found.wrong == 0, "the documentation says so: a quarter of these labels is swapped"


def test_the_order_of_pairs_and_matches_does_not_matter() -> None:
    matches, _ = made_matches(8, 4, 0.2, 3)
    rng = np.random.default_rng(1)
    mixed = {}
    for pair in rng.permutation(list(matches)):
        one = matches[pair[0], pair[1]]
        order = rng.permutation(len(one.source_cells))
        mixed[pair[0], pair[1]] = CellMatches(one.source_cells[order], one.target_cells[order])
    assert list(mixed) != list(matches)
    assert estimated(mixed) == estimated(matches)


def test_without_triangles_the_answer_says_what_is_needed() -> None:
    matches, _ = made_matches(6, 5, 0.1, 0)
    star = {pair: one for pair, one in matches.items() if "00" in pair}
    found = estimated(star)
    assert isinstance(found, NotEstimated)
    assert "pairs.targets" in found.reason
    assert isinstance(estimate_wrong({}), NotEstimated)
    few = {pair: one for pair, one in matches.items() if pair in (("00", "01"), ("01", "02"), ("02", "00"))}
    assert len(triangles_of(few, 99)) == 3 < MIN_TRIANGLES
    assert isinstance(estimated(few), NotEstimated)
    assert isinstance(estimated({pair: CellMatches(OBJECT[:0], OBJECT[:0]) for pair in matches}), NotEstimated), "no labels"


def test_categories_weigh_by_their_labels_and_those_with_few_triangles_are_joined() -> None:
    def category(labels: float, triangles: int, share: float) -> CategoryChains:
        counts = [ChainCounts(Triangle(f"{labels}-{i}", "b", "c"), 100, int(100 * share), 100.0) for i in range(triangles)]
        return CategoryChains(labels, counts)

    found = estimate_wrong({"car": category(100, 20, 0.1), "bus": category(300, 20, 0.2), "none": category(999, 0, 0.0)})
    assert isinstance(found, CyclePrecision)
    assert found.wrong == pytest.approx((100 * 0.1 + 300 * 0.2) / 400)
    # Two triangles alone would decide for 1,000 labels.
    found = estimate_wrong({"car": category(100, 18, 0.1), "rare": category(1000, 2, 0.9)})
    assert isinstance(found, CyclePrecision)
    assert found.wrong == pytest.approx((18 * 0.1 + 2 * 0.9) / 20)
    assert found.triangles == 20


def test_triangles_go_back_in_either_direction_and_are_drawn_over_many_pairs() -> None:
    pairs = [("a", "b"), ("c", "b"), ("a", "c"), ("c", "d")]
    assert set(triangles_of(pairs, 99)) == {Triangle("a", "b", "c"), Triangle("c", "b", "a"), Triangle("a", "c", "b")}
    every = [(a, b) for a in "abcdefgh" for b in "abcdefgh" if a != b]
    assert len(triangles_of(every, 9999)) == 8 * 7 * 6
    chosen = triangles_of(every, 50)
    assert len({(one.first, one.second) for one in chosen}) == 50
    assert chosen == triangles_of(every[::-1], 50)
    assert chosen != triangles_of(every, 50, seed=1)


def test_a_chain_follows_a_pair_that_was_planned_the_other_way() -> None:
    start, step = OBJECT[:5], np.array([0, 1, 2, 3, 4]) * SIDE
    matches = {
        ("a", "b"): CellMatches(start, start + step),
        ("c", "b"): CellMatches(start, start + step),
        ("c", "a"): CellMatches(start, start),
    }
    (counts,) = count_chains(matches, [Triangle("a", "b", "c")], lambda image: FLAT, 0.0)
    assert (counts.chains, counts.open) == (5, 0)
    matches["c", "a"] = CellMatches(start, start + 20)
    (counts,) = count_chains(matches, [Triangle("a", "b", "c")], lambda image: FLAT, ALLOWED)
    assert (counts.chains, counts.open) == (5, 5)
    matches["c", "a"] = CellMatches(start + 5 * SIDE, start)
    (counts,) = count_chains(matches, [Triangle("a", "b", "c")], lambda image: FLAT, ALLOWED)
    assert counts.chains == 0, "nothing is matched near enough to go on from"


def test_surface_distances_are_those_of_the_stored_balls() -> None:
    x, y = np.meshgrid(np.arange(5.0), np.arange(5.0))
    vertices = np.stack([x.ravel(), y.ravel(), np.zeros(25)], axis=1)
    corners = [(i, i + 1, i + 5) for i in range(19) if i % 5 < 4] + [(i + 1, i + 6, i + 5) for i in range(19) if i % 5 < 4]
    mesh = Mesh(vertices.astype(np.float32), np.array(corners, np.int32))
    balls = Geodesic(mesh).balls(np.arange(25), 2.5)
    seen = np.arange(25) * 3
    own = np.arange(25)
    surface = Surface(
        cells=seen,
        corners=np.repeat(own[:, None], 3, axis=1),
        barycentric=np.tile([1.0, 0.0, 0.0], (25, 1)),
        dominant=own,
        fill_distance=np.zeros(25, np.float16),
        vertices=mesh.vertices,
        diagonal=float(mesh.diagonal),
        balls=balls,
    )
    found = SeenSurface.of(surface).distance(np.array([0, 0, 0, 1]), np.array([0, 6, 72, 0]))
    assert found[:2] == pytest.approx([0.0, 2 / mesh.diagonal], abs=1e-3)
    assert np.isinf(found[2]), "beyond the ball"
    assert np.isinf(found[3]), "not on the surface"


def known(tau: float, wrong: float, low: float, high: float) -> ThresholdEstimate:
    return ThresholdEstimate(tau, 100.0, CyclePrecision(wrong, low, high, (low, wrong), 999, 99))


SHARES = st.tuples(*[st.floats(0, 1)] * 3).map(sorted)


@given(st.lists(SHARES, min_size=1, max_size=6))
def test_a_wider_threshold_is_never_estimated_to_be_more_precise(shares: Iterable[list[float]]) -> None:
    rows = [known(0.01 * (i + 1), wrong, low, high) for i, (low, wrong, high) in enumerate(shares)]
    fitted = [row.estimate for row in monotone(rows[::-1])]
    values = [(one.wrong, one.low, one.high) for one in fitted if isinstance(one, CyclePrecision)]
    assert len(values) == len(rows)
    for wrong, low, high in values:
        assert low <= wrong <= high
    for before, after in pairwise(values):
        assert all(a <= b + 1e-9 for a, b in zip(before, after, strict=True))


def test_the_widest_threshold_that_is_surely_precise_enough_is_chosen() -> None:
    unknown = ThresholdEstimate(0.01, 3.0, NotEstimated("too few"))
    # At 0.02 few triangles leave the interval wide; what bounds 0.05 bounds it too.
    rows = monotone([known(0.05, 0.03, 0.01, 0.05), known(0.02, 0.04, 0.0, 0.3), known(0.1, 0.08, 0.03, 0.15), unknown])
    assert [row.tau_geo for row in rows] == [0.01, 0.02, 0.05, 0.1]
    assert isinstance(rows[1].estimate, CyclePrecision)
    assert rows[1].estimate.high == 0.05
    assert rows[1].estimate.wrong == pytest.approx(0.035)
    for precision, tau in ((0.95, 0.05), (0.85, 0.1), (0.5, 0.1)):
        best = widest_threshold(rows, precision)
        assert best is not None
        assert best.tau_geo == tau
    assert widest_threshold(rows, 0.96) is None
    assert widest_threshold([unknown], 0.5) is None

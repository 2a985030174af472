"""Charts of a search: weights on a triangle, the frontier of wrong and kept labels, settings beside each other, learning curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from sc3d.report.charts import axes, nice_ticks, svg, x_of, y_of

_SHADES = ("#4a3a80", "#3a6896", "#22908c", "#58b14a", "#e3b010")
_SIDE, _MARGIN, _HEAD = 430.0, 65.0, 34.0
_FOOT = 46.0


def shade(share: float) -> str:
    """A colour for a share in [0, 1], dark to bright."""
    place = min(max(share, 0.0), 1.0) * (len(_SHADES) - 1)
    low = min(int(place), len(_SHADES) - 2)
    first, second = (tuple(int(text[i : i + 2], 16) for i in (1, 3, 5)) for text in _SHADES[low : low + 2])
    mixed = (round(a + (b - a) * (place - low)) for a, b in zip(first, second, strict=True))
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def shares(values: Sequence[float | None], lower_is_better: bool) -> list[float | None]:
    """Values as shares of their range: 1 is the best of them. ``None`` stays."""
    known = [value for value in values if value is not None]
    if not known:
        return list(values)
    low, high = min(known), max(known)
    scaled = (None if v is None else 0.5 if high == low else (v - low) / (high - low) for v in values)
    return [s if s is None else 1 - s if lower_is_better and high > low else s for s in scaled]


@dataclass(frozen=True)
class WeightsPoint:
    """Weights of the three groups and their objective in per cent, ``None`` if they never keep enough labels; ``marks``: best, present."""

    alpha: float
    beta: float
    gamma: float
    value: float | None
    tip: str
    marks: tuple[str, ...] = ()


def triangle(points: Sequence[WeightsPoint], steps: int, objective: str, lower_is_better: bool) -> Markup:
    """A ternary plot: each corner is one group alone, each point a setting of the weights, its colour the objective, brighter is better."""
    height = _SIDE * math.sqrt(3) / 2
    inner = []
    for i in range(steps + 1):
        share = i / steps
        # The three lines on which one of the weights is constant.
        for ends in (
            ((share, 1 - share, 0.0), (share, 0.0, 1 - share)),
            ((1 - share, share, 0.0), (0.0, share, 1 - share)),
            ((1 - share, 0.0, share), (0.0, 1 - share, share)),
        ):
            (x1, y1), (x2, y2) = (_corner_mix(*weights, height) for weights in ends)
            inner.append(f'<line class="grid" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')
    radius = min(0.42 * _SIDE / steps, 22.0)
    for point, share_of_best in zip(points, shares([p.value for p in points], lower_is_better), strict=True):
        x, y = _corner_mix(point.alpha, point.beta, point.gamma, height)
        known = point.value is not None and share_of_best is not None
        style = f'fill="{shade(share_of_best)}"' if known and share_of_best is not None else 'class="unknown"'
        inner.append(f'<g class="weights {" ".join(point.marks)}"><title>{escape(point.tip)}</title>')
        inner.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" {style}/>')
        if point.value is not None and share_of_best is not None and radius > 12:
            ink = "#ffffff" if share_of_best < 0.55 else "#16202b"
            inner.append(f'<text class="middle value" x="{x:.1f}" y="{y + 4:.1f}" style="fill:{ink}">{point.value:.3g}</text>')
        inner.append("</g>")
    for text, weights, dy in (
        ("alpha: describe.sd", (1, 0, 0), 40),
        ("beta: describe.dino", (0, 1, 0), 40),
        ("gamma: describe.shape", (0, 0, 1), -27),
    ):
        x, y = _corner_mix(*weights, height)
        inner.append(f'<text class="axis middle corner" x="{x:.1f}" y="{y + dy:.1f}">{text}</text>')
    label = f"{objective} by weights: {len(points)} settings on a triangle"
    return svg(label, inner, _HEAD + height + _FOOT, _SIDE + 2 * _MARGIN + 60)


def _corner_mix(alpha: float, beta: float, gamma: float, height: float) -> tuple[float, float]:
    left, right, top = (_MARGIN + 30, _HEAD + height), (_MARGIN + 30 + _SIDE, _HEAD + height), (_MARGIN + 30 + _SIDE / 2, _HEAD)
    total = alpha + beta + gamma
    x, y = (sum(w * corner[k] for w, corner in zip((alpha, beta, gamma), (left, right, top), strict=True)) / total for k in (0, 1))
    return x, y


@dataclass(frozen=True)
class SettingPoint:
    """A setting: labels that it keeps a pair, and the share of wrong ones in per cent."""

    kept: float
    wrong: float
    tip: str


def frontier_of(points: Sequence[SettingPoint]) -> list[SettingPoint]:
    """The settings that no other one beats in both: from the most kept labels to the fewest, each with fewer wrong than those before."""
    found: list[SettingPoint] = []
    for point in sorted(points, key=lambda p: (-p.kept, p.wrong)):
        if not found or point.wrong < found[-1].wrong:
            found.append(point)
    return found


def frontier(
    points: Sequence[SettingPoint], best: SettingPoint | None, present: SettingPoint | None, wanted: float | None
) -> Markup:
    """All settings as points, wrong labels over kept ones, their frontier as a line, the best and the present one marked."""
    high_x = max([p.kept for p in points] + [wanted or 0.0, 1.0])
    x_ticks = nice_ticks(0, high_x, 6)
    limits = (0.0, x_ticks[-1])
    y_ticks = nice_ticks(0, max([p.wrong for p in points] + [0.1]), 4)
    vertical = (y_ticks[0], y_ticks[-1])
    inner = [axes(limits, x_ticks, y_ticks, "labels kept per pair", "wrong labels, %")]

    def place(point: SettingPoint) -> tuple[float, float]:
        return x_of(point.kept, limits), y_of(point.wrong, vertical)

    for point in points:
        x, y = place(point)
        inner.append(f'<circle class="setting" cx="{x:.1f}" cy="{y:.1f}" r="2.6"><title>{escape(point.tip)}</title></circle>')
    corners = [place(point) for point in frontier_of(points)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
    inner.append(f'<polyline class="curve mean" points="{line}"/>')
    if wanted is not None:
        x = x_of(wanted, limits)
        (_, top), (_, bottom) = (0, y_of(vertical[1], vertical)), (0, y_of(vertical[0], vertical))
        inner.append(f'<line class="threshold" x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}"/>')
    for point_, name in ((present, "present"), (best, "best")):
        if point_ is not None:
            x, y = place(point_)
            tip = f"{name}: {escape(point_.tip)}"
            inner.append(f'<circle class="mark {name}" cx="{x:.1f}" cy="{y:.1f}" r="6"><title>{tip}</title></circle>')
    return svg(f"wrong labels by kept labels of {len(points)} settings", inner)


@dataclass(frozen=True)
class Axis:
    """A setting on a vertical line: its name, and (place in [0, 1], text) of its ticks."""

    name: str
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class TrialLine:
    """A trial: its places on the axes, its validations (step, PCK in per cent), ``share`` of the best PCK for its colour."""

    places: tuple[float, ...]
    curve: tuple[tuple[int, float], ...]
    share: float
    tip: str
    best: bool = False


def parallel(lines: Sequence[TrialLine], names: Sequence[Axis]) -> Markup:
    """Parallel coordinates: a line a trial through its settings to its PCK, brighter is better."""
    width, top, bottom, left, right = 1080.0, 44.0, 260.0, 66.0, 66.0
    step = (width - left - right) / max(len(names) - 1, 1)

    def at(axis: int, place: float) -> tuple[float, float]:
        return left + axis * step, bottom - place * (bottom - top)

    inner = []
    for line in sorted(lines, key=lambda one: one.share):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(i, place) for i, place in enumerate(line.places)))
        style = f'class="trial{" best" if line.best else ""}" stroke="{shade(line.share)}"'
        inner.append(f'<polyline {style} points="{points}"><title>{escape(line.tip)}</title></polyline>')
    for i, axis in enumerate(names):
        x, _ = at(i, 0)
        inner.append(f'<line class="upright" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>')
        inner.append(f'<text class="axis middle" x="{x:.1f}" y="{top - 16}">{escape(axis.name)}</text>')
        for place, text in axis.ticks:
            _, y = at(i, place)
            inner.append(f'<text class="tick on-line" x="{x + 6:.1f}" y="{y + 4:.1f}">{escape(text)}</text>')
    return svg(f"settings and PCK of {len(lines)} trials", inner, bottom + 16, width)


def learning_curves(lines: Sequence[TrialLine]) -> Markup:
    """PCK by step, a line a trial; one that ends early was stopped."""
    steps = [step for line in lines for step, _ in line.curve]
    values = [value for line in lines for _, value in line.curve]
    x_ticks, y_ticks = nice_ticks(0, max(steps), 6), nice_ticks(min(values), max(values), 4)
    limits, vertical = (0.0, float(max(steps))), (y_ticks[0], y_ticks[-1])
    inner = [axes(limits, x_ticks, y_ticks, "step", "PCK@0.10, %")]
    for line in sorted(lines, key=lambda one: one.share):
        places = [(x_of(step, limits), y_of(value, vertical)) for step, value in line.curve]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        colour, mark, tip = shade(line.share), " best" if line.best else "", escape(line.tip)
        x, y = places[-1]
        inner.append(f'<polyline class="trial{mark}" stroke="{colour}" points="{points}"><title>{tip}</title></polyline>')
        inner.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"><title>{tip}</title></circle>')
    return svg(f"PCK by step of {len(lines)} trials", inner)

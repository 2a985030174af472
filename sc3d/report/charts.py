"""Charts as inline SVG: crisp at any size, coloured by the page's style sheet in light and dark, each value readable as a tooltip.

Every function returns markup that is safe to put into a page: text from outside is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

_WIDTH, _HEIGHT = 560.0, 240.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 14.0, 14.0, 44.0


@dataclass(frozen=True, eq=False)
class Series:
    """Values of one colour. ``style`` is a class of the style sheet: series-a, series-b, series-c."""

    label: str
    values: np.ndarray
    style: str


def histogram(
    series: Sequence[Series],
    limits: tuple[float, float],
    bins: int,
    x_label: str,
    y_label: str,
    threshold: tuple[float, str] | None = None,
) -> Markup:
    """Counts of each series' values in equal bins over ``limits``, side by side; values outside are counted at the ends.

    Args:
        threshold: position of a marked vertical line, and its text.
    """
    edges = np.linspace(*limits, bins + 1)
    counts = [np.histogram(np.clip(s.values, *limits), edges)[0] for s in series]
    top = max([int(c.max()) for c in counts if len(c)] + [1])
    ticks = nice_ticks(0, top, 4)
    scale_y = (_HEIGHT - _TOP - _BOTTOM) / ticks[-1]
    step = (_WIDTH - _LEFT - _RIGHT) / bins
    width = (step - 1) / max(len(series), 1)
    inner = [axes(limits, nice_ticks(*limits, 6), ticks, x_label, y_label)]
    for nth, (s, count) in enumerate(zip(series, counts, strict=True)):
        for i in np.flatnonzero(count):
            height = count[i] * scale_y
            tip = f"{s.label}: {count[i]:,} from {edges[i]:.3g} to {edges[i + 1]:.3g}"
            inner.append(
                f'<rect class="bar {s.style}" x="{_LEFT + i * step + nth * width + 0.5:.1f}" y="{_HEIGHT - _BOTTOM - height:.1f}" '
                f'width="{width:.1f}" height="{height:.1f}"><title>{escape(tip)}</title></rect>'
            )
    if threshold is not None:
        x = x_of(threshold[0], limits)
        inner.append(
            f'<line class="threshold" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>'
            f'<text class="note" x="{x + 6:.1f}" y="{_TOP + 11}">{escape(threshold[1])}</text>'
        )
    names = ", ".join(f"{s.label} ({len(s.values):,})" for s in series)
    return svg(f"histogram of {x_label}: {names}", inner)


def curve(x: np.ndarray, y: np.ndarray, x_label: str, y_label: str, window: int) -> Markup:
    """A noisy curve, faint, with its running mean over ``window`` values on top; the y axis holds the mean and 98 % of the values."""
    finite = np.isfinite(y)
    x, y = np.asarray(x, np.float64)[finite], np.asarray(y, np.float64)[finite]
    window = max(1, min(window, len(y)))
    mean = np.convolve(y, np.ones(window) / window, "valid")
    mean_x = np.convolve(x, np.ones(window) / window, "valid")
    low, high = min(float(mean.min()), float(np.percentile(y, 1))), max(float(mean.max()), float(np.percentile(y, 99)))
    ticks = nice_ticks(low, high, 4)
    limits_x, limits_y = (float(x[0]), float(max(x[-1], x[0] + 1))), (ticks[0], ticks[-1])
    inner = [axes(limits_x, nice_ticks(*limits_x, 6), ticks, x_label, y_label)]
    for name, xs, ys in (("raw", x, y), ("mean", mean_x, mean)):
        every = -(-len(xs) // 1000)
        points = " ".join(f"{x_of(a, limits_x):.1f},{y_of(b, limits_y):.1f}" for a, b in zip(xs[::every], ys[::every], strict=True))
        inner.append(f'<polyline class="curve {name}" points="{points}"/>')
    return svg(f"{y_label} by {x_label}: from {mean[0]:.3g} to {mean[-1]:.3g}", inner)


def lines(series: Sequence[Series], x_label: str, y_label: str) -> Markup:
    """Curves over the same steps 0, 1, ..., each with the last value in its tooltip; values that are not finite are left out."""
    values = [s.values[np.isfinite(s.values)] for s in series]
    steps = max([len(v) for v in values] + [2])
    every = np.concatenate([*values, np.zeros(0)])
    low, high = (float(every.min()), float(every.max())) if len(every) else (0.0, 0.0)
    ticks = nice_ticks(low, high, 4)
    limits_x, limits_y = (0.0, float(steps - 1)), (ticks[0], ticks[-1])
    inner = [axes(limits_x, nice_ticks(*limits_x, 6), ticks, x_label, y_label)]
    for s, known in zip(series, values, strict=True):
        if not len(known):
            continue
        points = " ".join(f"{x_of(float(i), limits_x):.1f},{y_of(float(v), limits_y):.1f}" for i, v in enumerate(known))
        tip = escape(f"{s.label}: {known[-1]:.3g} at the end")
        inner.append(f'<polyline class="curve {s.style}" points="{points}"><title>{tip}</title></polyline>')
    return svg(f"{y_label} by {x_label}: {', '.join(s.label for s in series)}", inner)


def bars(series: Sequence[Series], names: Sequence[str], x_label: str) -> Markup:
    """Shares in [0, 1] as bars from the left: a group a name, a bar a series. NaN, what was not measured, has no bar.

    Args:
        series: each with one value a name.
    """
    longest = max((len(name) for name in names), default=0)
    left = min(16.0 + 6.6 * longest, _WIDTH / 2)
    thick = 9.0
    step = thick * len(series) + 8
    height = _TOP + step * len(names) + _BOTTOM
    top = max([float(np.nanmax(s.values, initial=0.0)) for s in series] + [0.01])
    ticks = [tick for tick in nice_ticks(0, top, 5) if tick <= 1]
    scale = (_WIDTH - left - 46) / max(ticks[-1], top)
    inner = []
    for tick in ticks:
        x = left + tick * scale
        inner.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{height - _BOTTOM:.1f}"/>')
        inner.append(f'<text class="tick middle" x="{x:.1f}" y="{height - _BOTTOM + 16:.1f}">{100 * tick:g} %</text>')
    for i, name in enumerate(names):
        y = _TOP + i * step
        inner.append(f'<text class="tick end" x="{left - 6:.1f}" y="{y + step / 2:.1f}">{escape(name)}</text>')
        for nth, s in enumerate(series):
            value = float(s.values[i])
            if math.isnan(value):
                continue
            place = f'x="{left:.1f}" y="{y + nth * thick:.1f}" width="{max(value * scale, 0.5):.1f}" height="{thick - 1:.1f}"'
            tip = escape(f"{name}, {s.label}: {100 * value:.1f} %")
            inner.append(f'<rect class="bar {s.style}" {place}><title>{tip}</title></rect>')
    inner.append(f'<text class="axis middle" x="{(left + _WIDTH - 46) / 2:.1f}" y="{height - 8:.1f}">{escape(x_label)}</text>')
    return svg(f"{x_label} of {len(names)} categories: {', '.join(s.label for s in series)}", inner, height)


def nice_ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers around ``low`` to ``high``, about ``count`` steps: the first is at most ``low``, the last at least ``high``."""
    if high <= low:
        high = low + 1
    raw = (high - low) / count
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def x_of(value: float, limits: tuple[float, float]) -> float:
    """Where a value is on the x axis of a chart with these limits, in the chart's own pixels."""
    return _LEFT + (value - limits[0]) / (limits[1] - limits[0]) * (_WIDTH - _LEFT - _RIGHT)


def y_of(value: float, limits: tuple[float, float]) -> float:
    """Where a value is on the y axis; values outside the limits are at its ends."""
    part = (value - limits[0]) / (limits[1] - limits[0])
    return _HEIGHT - _BOTTOM - min(max(part, 0.0), 1.0) * (_HEIGHT - _TOP - _BOTTOM)


def axes(limits: tuple[float, float], x_ticks: Sequence[float], y_ticks: Sequence[float], x_label: str, y_label: str) -> str:
    """Grid lines, ticks and labels. ``limits`` are those of the x axis; the y axis goes from its first to its last tick."""
    parts = []
    for tick in y_ticks:
        y = y_of(tick, (y_ticks[0], y_ticks[-1]))
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick end" x="{_LEFT - 6}" y="{y + 4:.1f}">{_short(tick)}</text>')
    inside = [tick for tick in x_ticks if limits[0] - 1e-9 <= tick <= limits[1] + 1e-9]
    baseline = _HEIGHT - _BOTTOM + 16
    parts += [f'<text class="tick middle" x="{x_of(tick, limits):.1f}" y="{baseline}">{_short(tick)}</text>' for tick in inside]
    middle = _TOP + (_HEIGHT - _TOP - _BOTTOM) / 2
    parts.append(
        f'<text class="axis middle" x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 8}">{escape(x_label)}</text>'
        f'<text class="axis middle y" transform="translate(12 {middle}) rotate(-90)">{escape(y_label)}</text>'
    )
    return "".join(parts)


def _short(value: float) -> str:
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= 10 * size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def svg(label: str, inner: Sequence[str], height: float = _HEIGHT, width: float = _WIDTH) -> Markup:
    """A chart of escaped parts; ``label`` says what it shows to who cannot see it."""
    head = f'<svg class="chart" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}">'
    return Markup(head + "".join(inner) + "</svg>")  # noqa: S704  (numbers, and text that was escaped above)

"""What a search of label settings can tell and what not: the interval of each share of wrong labels, and which settings it leaves open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sc3d.evaluation.intervals import is_told_apart, share_interval


def wrong_points(row: Mapping[str, Any]) -> tuple[int, int] | None:
    """Of a setting's judged points, how many are wrong, and how many there are; ``None`` where nothing was judged."""
    if row["fpr"] is None or not row["judged"]:
        return None
    return round(row["fpr"] * row["judged"]), int(row["judged"])


def interval_text(row: Mapping[str, Any]) -> str:
    """The 95 % interval of a setting's share of wrong labels, in per cent; empty where nothing was judged."""
    points = wrong_points(row)
    if points is None:
        return ""
    low, high = share_interval(*points)
    return f"{100 * low:.1f} to {100 * high:.1f}"


def verdict(rows: Sequence[Mapping[str, Any]], wanted: float) -> str:
    """How sure it is that the best setting, the first of ``rows``, is better than the present one and than the others that keep as many
    labels as are ``wanted``; empty where nothing was judged."""
    best = rows[0]
    points = wrong_points(best)
    if points is None:
        return ""
    said = [f"The best setting has {_counted(best, points)}."]
    present = next((row for row in rows if row["present"]), None)
    other = wrong_points(present) if present is not None and present is not best else None
    if present is not None and other is not None:
        apart = is_told_apart(points, other)
        how = "they differ by more than chance" if apart else "that difference is within chance, so they are not told apart"
        said.append(f"The present one has {_counted(present, other)}: {how}.")
    others = [found for row in rows[1:] if row["kept"] >= wanted and (found := wrong_points(row)) is not None]
    alike = sum(not is_told_apart(points, found) for found in others)
    if alike:
        said.append(f"Of the {len(others):,} others that keep enough labels, {alike:,} {_are(alike)} not told apart from the best.")
    return " ".join(said)


def _counted(row: Mapping[str, Any], points: tuple[int, int]) -> str:
    return f"{points[0]:,} of {points[1]:,} judged points wrong (95 %: {interval_text(row)} %)"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"

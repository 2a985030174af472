"""What a search varies: settings, each one of some values or a number of a range."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Choice:
    """One of some values of any kind."""

    values: tuple[Any, ...]


@dataclass(frozen=True)
class Range:
    """A number from ``low`` to ``high``, a whole one if both are; ``log``: magnitudes are equally likely."""

    low: float
    high: float
    log: bool = False


Space = Mapping[str, Choice | Range]


def contains(domain: Choice | Range, value: Any) -> bool:
    """Whether a setting may have a value."""
    if isinstance(domain, Choice):
        return value in domain.values
    return isinstance(value, (int, float)) and domain.low <= value <= domain.high


def decoded(space: Space, encoded: Mapping[str, Any]) -> dict[str, Any]:
    """Settings from what a search algorithm chose, which for a :class:`Choice` is the place of a value."""
    return {name: _value(space[name], value) for name, value in encoded.items()}


def encoded(space: Space, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Inverse of :func:`decoded`; raises ValueError if a value is not among the choices."""
    return {name: _place(space[name], value) for name, value in settings.items()}


def _value(domain: Choice | Range, found: Any) -> Any:
    if isinstance(domain, Choice):
        return domain.values[found]
    # More digits mean nothing, and somebody is going to read them.
    return min(max(float(f"{found:.3g}"), domain.low), domain.high) if isinstance(found, float) else found


def _place(domain: Choice | Range, value: Any) -> Any:
    return domain.values.index(value) if isinstance(domain, Choice) else value

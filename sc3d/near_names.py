"""What somebody may have meant who mistyped a name."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_MOST = 3


def near_names(name: str, known: Iterable[str]) -> list[str]:
    """Those of the ``known`` names that look like ``name``, the most similar first; capitals do not count."""
    spelt = {one.lower(): one for one in known}
    return [spelt[one] for one in get_close_matches(name.lower(), list(spelt), n=_MOST)]


def did_you_mean(names: Iterable[str]) -> str:
    """A question in brackets, behind a name that there is not; empty where nothing is near."""
    listed = " or ".join(names)
    return f" (did you mean {listed}?)" if listed else ""

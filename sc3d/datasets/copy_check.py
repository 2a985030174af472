"""What is found out about a copy of a data set."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Count:
    """How many there are of something, and how many a whole copy has, where that is known."""

    what: str
    found: int
    expected: int | None = None

    @property
    def fits(self) -> bool:
        return self.expected is None or self.found == self.expected


@dataclass(frozen=True)
class Problem:
    """What is wrong with a copy; ``fatal`` if numbers made with it cannot be compared with published ones, or none can be made."""

    message: str
    fatal: bool = True


@dataclass
class CopyCheck:
    """What was found out about a copy of a data set.

    Attributes:
        name: of the data set.
        root: the folder.
        counts, problems: see there.
        get: how to get a whole copy, a line a step.
    """

    name: str
    root: Path
    get: tuple[str, ...]
    counts: list[Count] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def usable(self) -> bool:
        """Whether there is nothing fatally wrong."""
        return not any(problem.fatal for problem in self.problems)

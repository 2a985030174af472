"""How sure a run is of each category: which way its meshes face, how well they meet when registered, how many labels are right."""

from __future__ import annotations

from dataclasses import dataclass

from sc3d.matching.cycle_precision import CyclePrecision, Estimate


@dataclass(frozen=True)
class CertaintyRow:
    """Of a category: ``images``; ``sure``, how many of them are known to face forward, and ``posterior``, the mean probability of the
    likeliest turn (``None`` where views voted); ``gap``, the mean distance in diagonals that registrations leave between two meshes
    (``None``: not registered); ``labels``, what is estimated of them (``None``: not looked at)."""

    category: str
    images: int
    sure: int
    posterior: float | None
    gap: float | None
    labels: Estimate | None

    @property
    def right(self) -> tuple[float, float, float] | None:
        """The estimated share of right labels, the low and the high end of its interval."""
        one = self.labels
        return (1 - one.wrong, 1 - one.high, 1 - one.low) if isinstance(one, CyclePrecision) else None


@dataclass(frozen=True)
class LeastSure:
    """An image or a pair of a category that is less sure than the others: ``what`` in words, and the ``card`` on the page that shows it,
    empty if none does."""

    category: str
    id: str
    what: str
    card: str = ""

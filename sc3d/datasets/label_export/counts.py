"""What a set of labels amounts to, added up shard by shard: it never grows with the number of pairs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

HISTOGRAM = (0, 1, 10, 30, 100, 300, 1000)
"""Lower ends of the histogram's bins of labels a pair; the last bin is open."""


@dataclass(frozen=True)
class LabelCounts:
    """Counts of some label rows.

    ``pairs``: rows; ``labels``; ``candidates``, ``cycle``: sums of ``n_candidates`` and ``n_cycle``; ``histogram``: pairs in each bin of
    :data:`HISTOGRAM`; ``size``: bytes of the table in memory.
    """

    pairs: int = 0
    labels: int = 0
    candidates: int = 0
    cycle: int = 0
    size: int = 0
    histogram: tuple[int, ...] = field(default=(0,) * len(HISTOGRAM))

    @classmethod
    def of(cls, table: pa.Table) -> LabelCounts:
        """Counts of a table of :class:`~sc3d.records.Labels`."""
        kept = pc.list_value_length(table["cosine"]).to_numpy()
        bins = np.bincount(np.searchsorted(HISTOGRAM, kept, side="right") - 1, minlength=len(HISTOGRAM))
        candidates, cycle = (pc.sum(table[name]).as_py() or 0 for name in ("n_candidates", "n_cycle"))
        return cls(len(kept), int(kept.sum()), candidates, cycle, table.nbytes, tuple(bins.tolist()))

    @classmethod
    def total(cls, parts: Iterable[LabelCounts]) -> LabelCounts:
        """The sum of some counts."""
        return sum(parts, cls())

    def __add__(self, other: LabelCounts) -> LabelCounts:
        return LabelCounts(
            self.pairs + other.pairs,
            self.labels + other.labels,
            self.candidates + other.candidates,
            self.cycle + other.cycle,
            self.size + other.size,
            tuple(a + b for a, b in zip(self.histogram, other.histogram, strict=True)),
        )

    @property
    def rejected(self) -> float:
        """Share of the candidates that became no label; 0 without candidates."""
        return 1 - self.labels / self.candidates if self.candidates else 0.0

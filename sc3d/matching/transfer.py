"""Cross-mesh prediction: where a point of one mesh lies on another (3D-SC, stage 2).

:class:`Transfer` is the place for stronger correspondences than nearest neighbours, for instance optimal transport or functional maps.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from sc3d.matching.described import DescribedSurface


class Transfer(Protocol):
    """Predicts vertices on another mesh of the category."""

    def predict(self, hits: np.ndarray, origin: DescribedSurface, destination: DescribedSurface) -> np.ndarray:
        """The vertex (K,) int64 of ``destination`` that corresponds to each surface hit (K,) of ``origin``."""
        ...


class NearestTransfer:
    """The paper's: the shape descriptor interpolated at the hit, and its nearest vertex descriptor by cosine."""

    def predict(self, hits: np.ndarray, origin: DescribedSurface, destination: DescribedSurface) -> np.ndarray:
        """See :meth:`Transfer.predict`. Each distinct hit is searched once, however many matches end in it."""
        distinct, inverse = np.unique(hits, return_inverse=True)
        return destination.vertices.nearest(origin.queries.numpy()[distinct])[inverse]

"""Transfer by registration: what both meshes were warped to on one reference of their category is at one place."""

from __future__ import annotations

import numpy as np

from sc3d.errors import FeatureError
from sc3d.matching.described import DescribedSurface
from sc3d.matching.lift import interpolated

NOT_REGISTERED = "match.transfer = registration, but the meshes were not registered; run sc3d label"


class RegistrationTransfer:
    """The vertex whose registered place and normal are nearest to the hit's, under one of the references that both meshes have.

    Args:
        reference: number of the reference.
    """

    def __init__(self, reference: int = 0) -> None:
        self._reference = reference

    def predict(self, hits: np.ndarray, origin: DescribedSurface, destination: DescribedSurface) -> np.ndarray:
        """See :meth:`~sc3d.matching.transfer.Transfer.predict`; raises as :meth:`find`."""
        return self.find(hits, origin, destination)[0]

    def find(self, hits: np.ndarray, origin: DescribedSurface, destination: DescribedSurface) -> tuple[np.ndarray, np.ndarray]:
        """The predicted vertices (K,), and the gaps (K,) float64 that the registrations leave between them and the hits, in diagonals:
        where one body lacks what the other has, the nearest place is far.

        Raises:
            FeatureError: the meshes were not registered.
        """
        if origin.places is None or destination.places is None:
            raise FeatureError(NOT_REGISTERED)
        distinct, inverse = np.unique(hits, return_inverse=True)
        queries = interpolated(origin.places[self._reference], origin.surface, distinct)
        gap, vertex = destination.place_trees[self._reference].query(queries)
        return np.asarray(vertex[inverse], np.int64), np.asarray(gap[inverse])

    def each(self, origin: DescribedSurface) -> tuple[RegistrationTransfer, ...]:
        """One a reference of a mesh."""
        return (
            tuple(RegistrationTransfer(reference) for reference in range(len(origin.places)))
            if origin.places is not None
            else (self,)
        )

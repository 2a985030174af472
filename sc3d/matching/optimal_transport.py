"""Transfer by optimal transport between the descriptors of two meshes: not all points flock to one vertex that resembles them all.

A plan between all vertices would be too large, so it is solved between landmarks of both meshes. Its potential, which says how sought-after
a place is, extends to every vertex in closed form (Pooladian and Niles-Weed 2021), so that any hit finds any vertex. The transport is
unbalanced (Chizat et al. 2018): a part that the other mesh lacks need not go anywhere.
"""

from __future__ import annotations

import numpy as np
import torch

from sc3d.errors import ConfigError
from sc3d.matching.described import DescribedSurface

_ENTROPY = 0.02
"""Regularisation of the plan, in cosines."""
_MARGINALS = 0.1
"""Weight in cosines of the divergence between the mass that a landmark has and what the plan moves."""
_ITERATIONS = 100
_TOLERANCE = 1e-4


class TransportTransfer:
    """The vertex that the entropic transport plan sends most of the hit to: the highest cosine less the vertex's potential.

    Raises:
        ConfigError: the library POT is not installed.
    """

    def __init__(self) -> None:
        try:
            from ot.unbalanced import sinkhorn_unbalanced
        except ImportError:
            raise ConfigError(
                "match.transfer = transport needs the library POT; install it with: pip install 'sc3d[transport]'"
            ) from None
        self._sinkhorn = sinkhorn_unbalanced

    def predict(self, hits: np.ndarray, origin: DescribedSurface, destination: DescribedSurface) -> np.ndarray:
        """See :meth:`~sc3d.matching.transfer.Transfer.predict`."""
        distinct, inverse = np.unique(hits, return_inverse=True)
        vertices = destination.vertices.descriptors()
        to_vertices = (origin.landmarks @ vertices.T).numpy()
        between = (origin.landmarks @ destination.landmarks.T).numpy()
        scores = origin.queries[torch.from_numpy(distinct)] @ vertices.T - torch.from_numpy(self._potential(between, to_vertices))
        return np.asarray(scores.numpy().argmax(axis=1)[inverse])

    def _potential(self, between: np.ndarray, to_vertices: np.ndarray) -> np.ndarray:
        """How sought-after each vertex of the destination is: (V,) float32 in cosines, up to a constant.

        Args:
            between: (m, n) cosines between the landmarks of the origin and of the destination.
            to_vertices: (m, V) cosines between the landmarks of the origin and all vertices of the destination.
        """
        m, n = between.shape
        masses = np.full(m, 1 / m), np.full(n, 1 / n)
        options = {"numItermax": _ITERATIONS, "stopThr": _TOLERANCE, "log": True}
        log_scaling = self._sinkhorn(*masses, 1.0 - between.astype(np.float64), _ENTROPY, _MARGINALS, **options)[1]["logu"]
        demand = np.exp((to_vertices - 1) / _ENTROPY + (log_scaling - log_scaling.max())[:, None]).sum(axis=0)
        share = _MARGINALS / (_MARGINALS + _ENTROPY)
        return (_ENTROPY * share * np.log(np.maximum(demand, np.finfo(np.float64).tiny))).astype(np.float32)

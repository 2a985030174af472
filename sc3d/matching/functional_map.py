"""Transfer by a functional map (Ovsjanikov et al. 2012): a small matrix that takes functions on one mesh to functions on the other."""

from __future__ import annotations

import numpy as np
import torch

from sc3d.matching.described import DescribedSurface
from sc3d.matching.fusion import Taps
from sc3d.matching.spectral import Spectral

_COMMUTATIVITY = 1e-2
"""Weight of commutativity with the Laplacian, relative to the mean energy of the descriptors' coefficients. Ours."""


def functional_map(origin: Spectral, destination: Spectral) -> np.ndarray:
    """The matrix C (m, k) that takes coefficients on ``origin`` (k eigenfunctions) to coefficients on ``destination`` (m).

    It minimises ``|C A - B|^2 + w sum_ij (lambda_i - lambda_j)^2 C_ij^2``: descriptors go to descriptors, and smooth functions to
    functions as smooth. Each row of C is a linear problem of its own.
    """
    a, b = origin.coefficients, destination.coefficients
    k = len(a)
    gram = a @ a.T
    energy = max(float(np.trace(gram)) / k, 1e-12)
    scale = max(float(origin.values[-1]), float(destination.values[-1]), 1e-12)
    gaps = ((destination.values[:, None] - origin.values) / scale) ** 2
    # A function that no descriptor has is taken to nothing rather than to anything.
    systems = gram + energy * (_COMMUTATIVITY * gaps + 1e-9)[:, None, :] * np.eye(k)
    solved: np.ndarray = np.linalg.solve(systems, (b @ a.T)[:, :, None])[:, :, 0]
    return solved


class FunctionalMapTransfer:
    """The hit's spectral embedding, taken across by the functional map, and the vertex whose embedding is nearest to it."""

    def predict(self, hits: np.ndarray, origin: DescribedSurface, destination: DescribedSurface) -> np.ndarray:
        """See :meth:`~sc3d.matching.transfer.Transfer.predict`.

        Raises:
            GeometryError: the vertices of a mesh span no surface.
        """
        distinct, inverse = np.unique(hits, return_inverse=True)
        here, there = origin.spectral, destination.spectral
        corners = torch.from_numpy(origin.surface.corners[distinct].astype(np.int64))
        weights = torch.from_numpy(origin.surface.barycentric[distinct].astype(np.float32))
        points = Taps(corners, weights).apply(torch.from_numpy(here.functions))
        functions = torch.from_numpy(there.functions)
        moved = points @ torch.from_numpy(functional_map(here, there).astype(np.float32)).T
        # The least squared distance, without the term that is the same for all vertices.
        scores = moved @ functions.T - functions.square().sum(dim=1) / 2
        return np.asarray(scores.numpy().argmax(axis=1)[inverse])

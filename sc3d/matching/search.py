"""Exact nearest neighbours among the vertex descriptors of one mesh.

Neighbouring vertices have similar descriptors, so a mesh's descriptors form tight clusters and most of them can be ruled out for a query
by the triangle inequality on the sphere: a vertex within angle ``r`` of a centre that is at angle ``a`` from the query has at most the
cosine ``cos(a - r)``. The search stays exact whatever the descriptors are; without structure it only loses its speed.

All products run in PyTorch, as those of the candidates do: NumPy's own linear algebra keeps threads that wait for more work on the cores
that PyTorch's next product needs, which nearly doubled the time of a pair.
"""

from __future__ import annotations

import numpy as np
import torch

from sc3d.errors import FeatureError

_LLOYD_ITERATIONS = 4
_SAMPLE = 16
"""Vertices a centre that k-means is fitted to."""
_PLAIN_BELOW = 512
"""Meshes with fewer vertices are searched by one matrix product."""
_CLUSTER_SIZE = 96
_GIVE_UP = 0.4
"""Share of all comparisons beyond which one product with all vertices is faster than visiting clusters."""
_MARGIN = 1e-5
"""Slack of the bound in cosine: float32 dot products of unit vectors are right to about 1e-6."""


class VertexIndex:
    """Vertex descriptors (V, D) of a mesh, L2-normalised and clustered for :meth:`nearest`.

    Raises:
        FeatureError: there are no vertices, or descriptors that are not finite.
    """

    def __init__(self, descriptors: np.ndarray) -> None:
        values = np.ascontiguousarray(descriptors, np.float32)
        if values.ndim != 2 or len(values) == 0 or not np.isfinite(values).all():
            raise FeatureError(f"vertex descriptors must be finite and of shape (V, D), got {values.shape}")
        values = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
        centres, assignment = _cluster(values)
        self._vertices = np.argsort(assignment, kind="stable")
        ordered = np.ascontiguousarray(values[self._vertices])
        self._offsets = np.concatenate([[0], np.cumsum(np.bincount(assignment, minlength=len(centres)))])
        # Radii from chords: the angle of a nearly coincident pair drowns in the rounding of a float32 cosine.
        chords = np.linalg.norm(ordered - centres[assignment[self._vertices]], axis=1).astype(np.float64)
        radii = 2 * np.arcsin(np.minimum(np.maximum.reduceat(chords, self._offsets[:-1]) / 2, 1.0))
        self._cos_radii, self._sin_radii = np.cos(radii).astype(np.float32), np.sin(radii).astype(np.float32)
        self._values, self._centres = torch.from_numpy(ordered), torch.from_numpy(centres)

    @property
    def n_bytes(self) -> int:
        """Memory of the arrays."""
        return self._values.nbytes + self._centres.nbytes + self._vertices.nbytes

    def descriptors(self) -> torch.Tensor:
        """The L2-normalised descriptors (V, D) in the order of the vertices."""
        values = torch.empty_like(self._values)
        values[torch.from_numpy(self._vertices)] = self._values
        return values

    def nearest(self, queries: np.ndarray) -> np.ndarray:
        """The vertex (K,) int64 with the largest cosine to each L2-normalised query (K, D) float32."""
        if len(queries) == 0:
            return np.zeros(0, np.int64)
        if len(self._centres) == 1:
            return self._vertices[_product(queries, self._values).argmax(axis=1)]
        cosines = _product(queries, self._centres)
        bounds = self._bounds(cosines)
        best = np.full(len(queries), -np.inf, np.float32)
        position = np.zeros(len(queries), np.int64)
        first = cosines.argmax(axis=1)
        order = np.argsort(first, kind="stable")
        starts = np.searchsorted(first[order], np.arange(len(self._centres) + 1))
        for cluster in np.flatnonzero(np.diff(starts)).tolist():
            self._visit(cluster, order[starts[cluster] : starts[cluster + 1]], queries, best, position)
        bounds[np.arange(len(queries)), first] = -np.inf
        pending = best < bounds.T
        if pending.sum(axis=1) @ np.diff(self._offsets) > _GIVE_UP * len(queries) * len(self._vertices):
            return self._vertices[_product(queries, self._values).argmax(axis=1)]
        for cluster in np.flatnonzero(pending.any(axis=1)).tolist():
            rows = np.flatnonzero(pending[cluster])
            rows = rows[bounds[rows, cluster] > best[rows]]
            if len(rows):
                self._visit(cluster, rows, queries, best, position)
        return self._vertices[position]

    def _bounds(self, cosines: np.ndarray) -> np.ndarray:
        """The largest cosine (K, k) that a member of each cluster can have to each query, from the cosines to the centres."""
        sines = np.sqrt(np.maximum(1 - cosines * cosines, 0))
        # cos(a - r) without the angles; inside the cluster's radius nothing can be ruled out.
        bounds = cosines * self._cos_radii + sines * self._sin_radii + np.float32(_MARGIN)
        bounds[cosines >= self._cos_radii] = 1 + _MARGIN
        return bounds

    def _visit(self, cluster: int, rows: np.ndarray, queries: np.ndarray, best: np.ndarray, position: np.ndarray) -> None:
        low, high = self._offsets[cluster], self._offsets[cluster + 1]
        similarity = _product(queries[rows], self._values[low:high])
        column = similarity.argmax(axis=1)
        value = similarity[np.arange(len(rows)), column]
        better = value > best[rows]
        best[rows[better]] = value[better]
        position[rows[better]] = low + column[better]


def _product(queries: np.ndarray, values: torch.Tensor) -> np.ndarray:
    """Cosines (K, n) of unit rows (K, D) and (n, D)."""
    return np.asarray((torch.from_numpy(queries) @ values.T).numpy())


def _cluster(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spherical k-means, fitted to a sample: unit centres (k, D) and the centre of each row (V,); every centre has a member."""
    n = len(values)
    if n < _PLAIN_BELOW:
        return values[:1], np.zeros(n, np.int64)
    n_centres = n // _CLUSTER_SIZE
    sample = values[np.random.default_rng(0).permutation(n)[: max(n_centres * _SAMPLE, _PLAIN_BELOW)]]
    centres = sample[:n_centres]
    for _ in range(_LLOYD_ITERATIONS):
        used, assignment = np.unique(_product(sample, torch.from_numpy(centres)).argmax(axis=1), return_inverse=True)
        members = np.zeros((len(used), len(sample)), np.float32)
        members[assignment, np.arange(len(sample))] = 1
        sums = (torch.from_numpy(members) @ torch.from_numpy(sample)).numpy()
        centres = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    used, assignment = np.unique(_product(values, torch.from_numpy(centres)).argmax(axis=1), return_inverse=True)
    return np.ascontiguousarray(centres[used]), assignment

"""The keypoints' mean shape, by their geometric statistics alone.

The authors place one point after the other by a search over a 100 x 100 x 100 grid and refine all of them for 20,000 steps. Ours: the
ratios of edges give all relative lengths by one least-squares problem, these a cloud by multidimensional scaling, and its two mirror
images are two starts, of which the one of less energy is refined. What the energy's minimum decides, not the start, is the shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, shortest_path
from scipy.sparse.linalg import spsolve

from sc3d.class_shapes.statistics import GeometricEnergy, GeometryStatistics
from sc3d.errors import InputError

_ITERATIONS = 300
_LEAST = 4
_MIRROR = np.array([1.0, 1.0, -1.0])


@dataclass(frozen=True, eq=False)
class SparseCloud:
    """K keypoints in a frame of their own: centred, the farthest two of them 1 apart.

    ``points`` (K, 3) float64, NaN for those that the statistics do not place; ``energy`` of the cloud; ``mirror_gap`` what its mirror
    image has more: where that is near 0, nothing in the statistics tells left from right.
    """

    points: np.ndarray
    energy: float
    mirror_gap: float

    @property
    def placed(self) -> np.ndarray:
        """Which keypoints (K,) have a place."""
        return np.isfinite(self.points).all(axis=1)


def build_sparse_cloud(statistics: GeometryStatistics, n_points: int) -> SparseCloud:
    """The cloud of least energy.

    Raises:
        InputError: fewer than four keypoints are related to each other by enough images.
    """
    lengths = _relative_lengths(statistics, n_points)
    distances = shortest_path(lengths.tocsr(), directed=False)
    placed = _largest_group(distances)
    if len(placed) < _LEAST:
        raise InputError(
            f"{len(placed)} keypoints are seen together in at least four images; a class shape takes {_LEAST}: annotate more images"
        )
    start = _scaled(_multidimensional_scaling(distances[np.ix_(placed, placed)]))
    energy = GeometricEnergy(only(statistics, placed, n_points), dtype=torch.float64)
    found = _refined(min(start, start * _MIRROR, key=lambda one: _value(energy, one)), energy)
    points = np.full((n_points, 3), np.nan)
    points[placed] = found
    least = _value(energy, found)
    return SparseCloud(points, least, _value(energy, found * _MIRROR) - least)


def _relative_lengths(statistics: GeometryStatistics, n_points: int) -> coo_array:
    """Lengths of the edges that the statistics relate, as a symmetric graph of the points; one unit a connected group of edges.

    A ratio r = a / (a + b) says log a - log b = log r - log(1 - r): least squares over all pairs of edges, of the largest group.
    """
    names = {edge: number for number, edge in enumerate(combinations(range(n_points), 2))}
    edges = np.array(list(names), np.int64)
    number = np.zeros((n_points, n_points), np.int64)
    number[edges[:, 0], edges[:, 1]] = np.arange(len(edges))
    first, second = (number[statistics.pairs[:, at], statistics.pairs[:, at + 1]] for at in (0, 2))
    alpha, beta = statistics.pair_ab[:, 1].astype(np.float64).T
    mode = (alpha - 1) / (alpha + beta - 2)
    difference = np.log(mode) - np.log1p(-mode)
    weight = alpha + beta
    graph = coo_array((weight, (first, second)), (len(edges), len(edges)))
    _, group = connected_components(graph, directed=False)
    related = np.unique(np.concatenate([first, second]))
    if not len(related):
        return coo_array((n_points, n_points))
    largest = np.bincount(group[related]).argmax()
    known = np.flatnonzero(group == largest)
    inside = group[first] == largest
    row = np.zeros(len(edges), np.int64)
    row[known] = np.arange(len(known))
    logs = _from_differences(len(known), row[first[inside]], row[second[inside]], difference[inside], weight[inside])
    ends = edges[known]
    return coo_array((np.exp(logs), (ends[:, 0], ends[:, 1])), (n_points, n_points))


def _from_differences(count: int, first: np.ndarray, second: np.ndarray, difference: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Values (count,) of mean 0 whose weighted differences ``first - second`` are nearest to those wanted."""
    rows, columns = np.concatenate([first, second, first, second]), np.concatenate([first, second, second, first])
    entries = np.concatenate([weight, weight, -weight, -weight])
    laplacian = coo_array((entries, (rows, columns)), (count, count)).tocsc()
    pull = np.bincount(first, weight * difference, count) - np.bincount(second, weight * difference, count)
    # The differences leave the mean open; the first value is held instead, and the mean taken off.
    values = np.zeros(count)
    values[1:] = spsolve(laplacian[1:, 1:], pull[1:])
    return np.asarray(values - values.mean())


def _largest_group(distances: np.ndarray) -> np.ndarray:
    """Indices of the largest set of points between which all distances are finite."""
    finite = np.isfinite(distances)
    return np.flatnonzero(finite[finite.sum(axis=1).argmax()])


def _multidimensional_scaling(distances: np.ndarray) -> np.ndarray:
    """Points (n, 3) whose distances are nearest to those given (n, n): classical scaling (Torgerson, 1952)."""
    centring = np.eye(len(distances)) - 1 / len(distances)
    values, vectors = np.linalg.eigh(-0.5 * centring @ distances**2 @ centring)
    return np.asarray(vectors[:, -3:] * np.sqrt(np.maximum(values[-3:], 0)))


def only(statistics: GeometryStatistics, placed: np.ndarray, n_points: int) -> GeometryStatistics:
    """The statistics of the placed points (P,) of ``n_points`` alone, under their numbers among these."""
    row = np.full(n_points, -1)
    row[placed] = np.arange(len(placed))
    pairs, fours = row[statistics.pairs], row[statistics.corners]
    keep_pairs, keep_fours = (pairs >= 0).all(axis=1), (fours >= 0).all(axis=1)
    return GeometryStatistics(
        pairs[keep_pairs], statistics.pair_ab[keep_pairs], fours[keep_fours], statistics.corner_ab[keep_fours]
    )


def _value(energy: GeometricEnergy, points: np.ndarray) -> float:
    return energy(torch.from_numpy(points)).item()


def _refined(start: np.ndarray, energy: GeometricEnergy) -> np.ndarray:
    """The nearest minimum of the energy, which knows no size, so the cloud is scaled back."""

    def value(numbers: np.ndarray) -> tuple[float, np.ndarray]:
        points = torch.from_numpy(numbers.reshape(-1, 3).copy()).requires_grad_()
        found = energy(points)
        found.backward()
        return found.item(), points.grad.numpy().ravel()  # type: ignore[union-attr]

    found = minimize(value, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": _ITERATIONS})
    return _scaled(found.x.reshape(-1, 3))


def _scaled(points: np.ndarray) -> np.ndarray:
    """Centred, and the farthest two 1 apart."""
    points = points - points.mean(axis=0)
    return np.asarray(points / max(np.linalg.norm(points[:, None] - points[None], axis=-1).max(), 1e-12))

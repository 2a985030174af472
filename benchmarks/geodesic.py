"""Geodesic distances: speed beside Dijkstra, the heat method and the exact algorithm, and accuracy on toys and sample meshes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import potpourri3d
import pygeodesic.geodesic as exact
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra

from benchmarks import row
from benchmarks.meshes import decimated_blob, seconds, toy_and_sample_meshes
from sc3d.geometry.geodesic import Geodesic, lookup
from sc3d.geometry.mesh import Mesh

_RADIUS = 0.1
_TAU = 0.05
_VERTICES = 5000
_SOURCES = 20


def run() -> Iterator[dict[str, Any]]:
    """All figures."""
    mesh = decimated_blob(_VERTICES)
    yield from _geodesic_speed(mesh)
    yield from _balls(mesh)
    yield from _accuracy([("blob", mesh), *toy_and_sample_meshes(_VERTICES)])


def _row(
    figure: str, value: float, unit: str, n: int, alternative: str | None = None, ratio: float | None = None
) -> dict[str, Any]:
    return row(bench="geodesic", figure=figure, value=value, unit=unit, better="lower", alternative=alternative, ratio=ratio, n=n)


def _edge_graph(mesh: Mesh) -> coo_matrix:
    a, b = mesh.edges.T
    lengths = np.linalg.norm(mesh.vertices[a] - mesh.vertices[b], axis=1)
    size = len(mesh.vertices)
    return coo_matrix((np.r_[lengths, lengths], (np.r_[a, b], np.r_[b, a])), shape=(size, size)).tocsr()


def _geodesic_speed(mesh: Mesh) -> Iterator[dict[str, Any]]:
    solver, graph = Geodesic(mesh), _edge_graph(mesh)
    sources = np.random.default_rng(0).choice(len(mesh.vertices), 200, replace=False)
    radius = _RADIUS * mesh.diagonal
    ours = seconds(lambda: solver.distances(sources, radius)) / len(sources)
    full = seconds(lambda: solver.distances(sources)) / len(sources)
    edges = seconds(lambda: dijkstra(graph, indices=sources, limit=radius)) / len(sources)
    heat_solver = potpourri3d.MeshHeatMethodDistanceSolver(mesh.vertices, mesh.faces)
    heat = seconds(lambda: [heat_solver.compute_distance(s) for s in sources[:20]]) / 20
    exact_solver = exact.PyGeodesicAlgorithmExact(mesh.vertices, mesh.faces)
    mmp = seconds(lambda: [exact_solver.geodesicDistances(np.array([s])) for s in sources[:4]], 1) / 4
    name = f"{len(mesh.vertices)} vertices"
    yield _row(
        f"within {_RADIUS} diagonals a source, {name}",
        1e3 * ours,
        "ms",
        len(sources),
        "scipy Dijkstra on edges",
        edges / ours,
    )
    yield _row(f"to all a source, {name}", 1e3 * full, "ms", len(sources), "heat method (potpourri3d)", heat / full)
    yield _row(f"to all a source, {name}", 1e3 * full, "ms", len(sources), "exact (pygeodesic)", mmp / full)


def _accuracy(meshes: list[tuple[str, Mesh]]) -> Iterator[dict[str, Any]]:
    """Over all meshes: the mean and, as the honest bound, the worst mesh."""
    found: dict[str, list[tuple[float, float]]] = {}
    for _, mesh in meshes:
        sources = np.random.default_rng(1).choice(len(mesh.vertices), _SOURCES, replace=False)
        exact_solver = exact.PyGeodesicAlgorithmExact(mesh.vertices, mesh.faces)
        truth = np.stack([exact_solver.geodesicDistances(np.array([s]))[0] for s in sources])
        heat_solver = potpourri3d.MeshHeatMethodDistanceSolver(mesh.vertices, mesh.faces)
        distances = {
            "ours": Geodesic(mesh).distances(sources),
            "scipy Dijkstra on edges": dijkstra(_edge_graph(mesh), indices=sources),
            "heat method (potpourri3d)": np.stack([heat_solver.compute_distance(s) for s in sources]),
        }
        for name, values in distances.items():
            found.setdefault(name, []).append(_errors(values, truth, mesh.diagonal))
    ours = np.array(found.pop("ours"))
    worst = [meshes[i][0] for i in ours.argmax(axis=0)]
    for name, others in found.items():
        ratio = np.array(others).mean(axis=0) / np.maximum(ours.mean(axis=0), 1e-9)
        for i, what in enumerate((f"mean relative error within {_RADIUS} diagonals", f"decisions at {_TAU} diagonals that differ")):
            yield _row(f"{what}, mean of {len(meshes)} meshes", 100 * ours[:, i].mean(), "%", _SOURCES, name, ratio[i])
    yield _row(f"mean relative error, worst mesh ({worst[0]})", 100 * ours[:, 0].max(), "%", _SOURCES)
    yield _row(f"decisions that differ, worst mesh ({worst[1]})", 100 * ours[:, 1].max(), "%", _SOURCES)


def _errors(distances: np.ndarray, truth: np.ndarray, diagonal: float) -> tuple[float, float]:
    """Mean relative error within the radius, and decisions at tau that differ from the exact ones, as a share of those accepted."""
    near = (truth > 0) & (truth <= _RADIUS * diagonal)
    accepted = (truth > 0) & (truth <= _TAU * diagonal)
    differ = (truth > 0) & ((distances <= _TAU * diagonal) != accepted)
    return float(np.mean(np.abs(distances[near] - truth[near]) / truth[near])), float(differ.sum() / accepted.sum())


def _balls(mesh: Mesh) -> Iterator[dict[str, Any]]:
    solver, rng = Geodesic(mesh), np.random.default_rng(2)
    centres = rng.choice(len(mesh.vertices), 1600, replace=False)
    name = f"{len(mesh.vertices)} vertices"
    yield _row(f"solver, {name}", 1e3 * seconds(lambda: Geodesic(mesh)), "ms", 3)
    for radius in (_RADIUS, 0.4):
        balls = solver.balls(centres, radius * mesh.diagonal)
        size = balls.offsets.nbytes + balls.members.nbytes + balls.distances.nbytes
        building = seconds(partial(solver.balls, centres, radius * mesh.diagonal), 1)
        yield _row(f"1,600 balls of {radius} diagonals, {name}", building, "s", 1)
        yield _row(f"1,600 balls of {radius} diagonals, {name}", size / 1e6, "MB", 1)
    vertices = rng.integers(0, len(mesh.vertices), len(centres))
    yield _row("1,600 look-ups in them", 1e3 * seconds(lambda: lookup(balls, centres, vertices), 10), "ms", 10)

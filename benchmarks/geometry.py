"""Ray casting, geodesics and shape descriptors on generated meshes; one process, one core.

Meshes: a bumpy blob as an image-to-3D model would export it (dense, decimated by quadrics to 5,000 vertices), and a torus of 20,480 faces.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import potpourri3d
import pygeodesic.geodesic as exact
import trimesh
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra

from benchmarks import row
from sc3d.geometry.camera import Camera, Pose, yaw_rotation
from sc3d.geometry.geodesic import Geodesic, lookup
from sc3d.geometry.mesh import Mesh, clean_mesh, decimate
from sc3d.geometry.raster import Raster
from sc3d.geometry.shape_descriptors import shape_descriptors
from sc3d.grid import Letterbox

_RADIUS = 0.1
_TAU = 0.05
_BLOB_VERTICES = 5000


def blob(subdivisions: int) -> Mesh:
    """A sphere with bumps, 10 * 4^subdivisions + 2 vertices."""
    sphere = trimesh.creation.icosphere(subdivisions)
    x, y, _ = sphere.vertices.T[:, :, None]
    return Mesh(sphere.vertices * (1 + 0.1 * np.sin(5 * x) * np.sin(7 * y)), sphere.faces)


def seconds(work: Callable[[], Any], repeats: int = 3) -> float:
    """Processor time of the quickest of ``repeats`` calls, after one that warms up. It does not count what other processes take."""
    work()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def run() -> Iterator[dict[str, Any]]:
    """All figures of this room."""
    yield from _casting()
    mesh = clean_mesh(*_arrays(blob(6)), max_vertices=_BLOB_VERTICES)
    yield from _geodesic_speed(mesh)
    yield from _geodesic_accuracy(mesh)
    yield from _balls(mesh)
    yield from _cleaning()


def _arrays(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    return mesh.vertices, mesh.faces


def _row(
    figure: str, value: float, unit: str, n: int, alternative: str | None = None, ratio: float | None = None
) -> dict[str, Any]:
    return row(bench="geometry", figure=figure, value=value, unit=unit, better="lower", alternative=alternative, ratio=ratio, n=n)


def _casting() -> Iterator[dict[str, Any]]:
    torus = trimesh.creation.torus(0.35, 0.15, major_sections=160, minor_sections=64)
    mesh = Mesh(torus.vertices, torus.faces)
    pose, camera, box = Pose(yaw_rotation(35), np.array([0.0, 0.0, 1.3])), Camera.from_focal(600, 640, 480), Letterbox(640, 480)
    raster = Raster(mesh)
    build = seconds(lambda: Raster(mesh))
    xy = box.centres()
    cast = seconds(lambda: raster.cast(pose, camera, xy), 10)
    directions = np.concatenate([xy, np.ones((len(xy), 1))], axis=1) @ np.linalg.inv(camera.K).T @ pose.R
    plain = 60 * seconds(lambda: every_face(mesh, -pose.t @ pose.R, directions[::60]), 1)
    yield _row(f"index of {len(mesh.faces)} faces", 1e3 * build, "ms", 3)
    yield _row(
        f"cast 60 x 60 rays on {len(mesh.faces)} faces", 1e3 * cast, "ms", 10, "every ray with every face (numpy)", plain / cast
    )
    render = seconds(lambda: raster.render(pose, camera, 640, 480))
    yield _row(f"render 640 x 480 of {len(mesh.faces)} faces", 1e3 * render, "ms", 3)


def every_face(mesh: Mesh, origin: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Distance (N,) along each direction (N, 3) from ``origin`` to the first face, inf for none (Moeller and Trumbore 1997)."""
    first, second, third = mesh.vertices[mesh.faces].transpose(1, 0, 2)
    one, other, offset = second - first, third - first, origin - first
    result = np.full(len(directions), np.inf)
    for i, direction in enumerate(directions):
        across = np.cross(direction, other)
        volume = np.einsum("ij,ij->i", one, across)
        up = np.cross(offset, one)
        with np.errstate(divide="ignore", invalid="ignore"):
            u, v = np.einsum("ij,ij->i", offset, across) / volume, up @ direction / volume
            t = np.einsum("ij,ij->i", other, up) / volume
        hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0)
        result[i] = t[hit].min(initial=np.inf)
    return result


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
        f"geodesic within {_RADIUS} diagonals a source, {name}",
        1e3 * ours,
        "ms",
        len(sources),
        "scipy Dijkstra on edges",
        edges / ours,
    )
    yield _row(f"geodesic to all a source, {name}", 1e3 * full, "ms", len(sources), "heat method (potpourri3d)", heat / full)
    yield _row(f"geodesic to all a source, {name}", 1e3 * full, "ms", len(sources), "exact (pygeodesic)", mmp / full)


def _geodesic_accuracy(mesh: Mesh) -> Iterator[dict[str, Any]]:
    sources = np.random.default_rng(1).choice(len(mesh.vertices), 30, replace=False)
    exact_solver = exact.PyGeodesicAlgorithmExact(mesh.vertices, mesh.faces)
    truth = np.stack([exact_solver.geodesicDistances(np.array([s]))[0] for s in sources])
    heat_solver = potpourri3d.MeshHeatMethodDistanceSolver(mesh.vertices, mesh.faces)
    error, flips = _errors(Geodesic(mesh).distances(sources), truth, mesh.diagonal)
    others = {
        "scipy Dijkstra on edges": dijkstra(_edge_graph(mesh), indices=sources),
        "heat method (potpourri3d)": np.stack([heat_solver.compute_distance(s) for s in sources]),
    }
    for name, distances in others.items():
        other_error, other_flips = _errors(distances, truth, mesh.diagonal)
        yield _row(
            f"geodesic mean relative error within {_RADIUS} diagonals", 100 * error, "%", len(sources), name, other_error / error
        )
        ratio = other_flips / flips if flips else None
        yield _row(f"geodesic decisions at {_TAU} diagonals that differ", 100 * flips, "%", len(sources), name, ratio)


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
    yield _row(f"geodesic solver, {name}", 1e3 * seconds(lambda: Geodesic(mesh)), "ms", 3)
    for radius in (_RADIUS, 0.4):
        balls = solver.balls(centres, radius * mesh.diagonal)
        size = balls.offsets.nbytes + balls.members.nbytes + balls.distances.nbytes
        building = seconds(partial(solver.balls, centres, radius * mesh.diagonal), 1)
        yield _row(f"1,600 balls of {radius} diagonals, {name}", building, "s", 1)
        yield _row(f"1,600 balls of {radius} diagonals, {name}", size / 1e6, "MB", 1)
    vertices = rng.integers(0, len(mesh.vertices), len(centres))
    yield _row("1,600 look-ups in them", 1e3 * seconds(lambda: lookup(balls, centres, vertices), 10), "ms", 10)


def _cleaning() -> Iterator[dict[str, Any]]:
    for subdivisions in (6, 7):
        mesh = blob(subdivisions)
        soup = mesh.vertices[mesh.faces].reshape(-1, 3)
        faces = np.arange(len(soup)).reshape(-1, 3)
        yield _row(f"clean {len(soup)} unwelded vertices to 8,000", seconds(partial(clean_mesh, soup, faces), 1), "s", 1)
        yield _row(
            f"decimation error of {len(mesh.vertices)} vertices to 8,000", 100 * decimate(mesh, 8000)[1], "% of the diagonal", 1
        )
    described = clean_mesh(*_arrays(blob(6)), max_vertices=3000)
    yield _row(
        f"shape descriptors of {len(described.vertices)} vertices", 1e3 * seconds(partial(shape_descriptors, described)), "ms", 3
    )

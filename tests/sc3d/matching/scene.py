"""Small described images without any mesh or renderer: random features, random surface hits, random geodesic balls."""

from __future__ import annotations

import numpy as np

from sc3d.features import Features, GeodesicBalls, Surface
from sc3d.geometry.geodesic import LEVELS
from sc3d.grid import Letterbox

SIDE = 12
DIAGONAL = 2.0
RADIUS = 0.8


def random_balls(rng: np.random.Generator, n_vertices: int, centres: np.ndarray) -> GeodesicBalls:
    """Balls of radius 0.4 diagonals whose members and distances are random; a centre is at distance 0 from itself."""
    rows, steps = [], []
    for centre in centres:
        members = np.union1d(rng.choice(n_vertices, n_vertices // 2, replace=False), [centre])
        distance = rng.integers(1, LEVELS + 1, len(members)).astype(np.uint16)
        distance[members == centre] = 0
        rows.append(members)
        steps.append(distance)
    offsets = np.concatenate([[0], np.cumsum([len(r) for r in rows])]).astype(np.int64)
    members = np.concatenate([*rows, np.zeros(0, np.int64)]).astype(np.uint16)
    return GeodesicBalls(centres.astype(np.int32), offsets, members, np.concatenate([*steps, np.zeros(0, np.uint16)]), RADIUS)


def random_features(
    seed: int,
    image_id: str = "image",
    n_foreground: int = 60,
    n_vertices: int = 40,
    n_covered: int | None = None,
    mesh: bool = True,
    size: tuple[int, int] = (200, 120),
) -> Features:
    """Sources on three grids and, with a mesh, random hits at the foreground cells.

    All images share an underlying field, so that their cells and vertices do match.
    """
    rng = np.random.default_rng(seed)
    shared = np.random.default_rng(7)

    def layer(channels: int, side: int) -> np.ndarray:
        return (shared.normal(size=(channels, side, side)) + 0.4 * rng.normal(size=(channels, side, side))).astype(np.float16)

    sources = {"dino": layer(6, SIDE), "sd.s3": layer(5, SIDE), "sd.s4": layer(7, SIDE // 2), "sd.s5": layer(4, SIDE // 4)}
    vertices = shared.normal(size=(n_vertices, 3)).astype(np.float32)
    shape = (shared.normal(size=(n_vertices, 8)) + 0.2 * rng.normal(size=(n_vertices, 8))).astype(np.float16)
    cells = np.sort(rng.choice(SIDE * SIDE, n_foreground, replace=False))
    foreground = np.zeros(SIDE * SIDE, bool)
    foreground[cells] = True
    box = Letterbox(*size, side=SIDE, cell_size=10)
    surface = None
    if mesh:
        covered = cells[: n_foreground if n_covered is None else n_covered]
        corners = np.stack([rng.choice(n_vertices, 3, replace=False) for _ in covered]) if len(covered) else np.zeros((0, 3), int)
        barycentric = rng.dirichlet((0.5, 0.5, 0.5), len(covered)).astype(np.float32)
        dominant = corners[np.arange(len(covered)), barycentric.argmax(axis=1)]
        surface = Surface(
            cells=covered.astype(np.int32),
            corners=corners.astype(np.int32),
            barycentric=barycentric,
            dominant=dominant.astype(np.int32),
            fill_distance=rng.choice([0, 0, 0, 1, 1.414, 3], len(covered)).astype(np.float16),
            vertices=vertices,
            diagonal=DIAGONAL,
            balls=random_balls(rng, n_vertices, np.unique(dominant)),
        )
    return Features(image_id, box, foreground.reshape(SIDE, SIDE), 80.0, sources, shape if mesh else None, surface)

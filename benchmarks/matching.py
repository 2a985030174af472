"""Matching: verified pairs a second, candidates alone, memory, and DIY-SC's plain two-product method measured in the same run.

Run with ``python -m benchmarks.matching [pairs]``; one JSON line a figure.

The scene has the paper's sizes: 1,600 foreground cells of a 60 x 60 grid, 3,968 channels (Stable Diffusion 640, 1280 and 1280 at their
native grids of 60, 30 and 15 cells, DINO 768), 448 shape channels, and meshes of 10,242 vertices. Features are smooth random functions
of the canonical position plus noise, so that neighbours are about as alike as on real objects; how many candidates pass the cycle is
printed with the figures. The search among vertices profits from smoothness; it is also measured on descriptors without any structure.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
import trimesh

from benchmarks import row
from sc3d.config import MatchConfig
from sc3d.features import Features, Surface
from sc3d.geometry.geodesic import Geodesic
from sc3d.geometry.mesh import Mesh
from sc3d.grid import Letterbox
from sc3d.matching.candidates import find_candidates
from sc3d.matching.described import Described
from sc3d.matching.fusion import fuse, group_descriptors, group_weights
from sc3d.matching.label import match_pair
from sc3d.matching.search import VertexIndex

SIDE, BLOCK = 60, 40
LAYERS = {"sd.s3": (640, 60), "sd.s4": (1280, 30), "sd.s5": (1280, 15), "dino": (768, 60)}
SHAPE_CHANNELS = 448
BALL_RADIUS = 0.4
CONFIG = MatchConfig()


def smooth_function(channels: int, frequency: float, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    """Random sinusoids of a canonical position: (..., 3) -> (..., channels)."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(0, frequency, (3, channels))
    phases = rng.uniform(0, 2 * np.pi, channels)
    return lambda x: np.sin(x @ directions + phases)


def make_scene(name: str, seed: int, noise: float = 0.5) -> Features:
    """An ellipsoid seen from the front and turned a little by ``seed``, its features noisy functions of the canonical position."""
    rng = np.random.default_rng(seed)
    sphere = trimesh.creation.icosphere(5)
    mesh = Mesh(sphere.vertices * rng.uniform((0.25, 0.25, 0.45), (0.35, 0.35, 0.5)), sphere.faces)
    turn = np.radians(rng.uniform(-20, 20))
    rotation = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
    first = (SIDE - BLOCK) // 2
    rows, columns = np.divmod(np.arange(BLOCK * BLOCK), BLOCK)
    cells = (rows + first) * SIDE + columns + first
    plane = (np.stack([columns, rows], axis=1) + 0.5) / BLOCK * 2 - 1
    # The concentric map of the square onto the disc, so that every cell of the block sees the ellipsoid.
    disc = np.stack([plane[:, 0] * np.sqrt(1 - plane[:, 1] ** 2 / 2), plane[:, 1] * np.sqrt(1 - plane[:, 0] ** 2 / 2)], axis=1)
    depth = np.sqrt(np.maximum(1 - (disc**2).sum(axis=1), 0))
    directions = np.column_stack([disc, depth]) @ rotation.T
    corners = sphere.faces[(sphere.triangles_center @ directions.T).argmax(axis=0)]
    barycentric = rng.dirichlet((2, 2, 2), len(cells)).astype(np.float32)
    points = (sphere.vertices[corners] * barycentric[..., None]).sum(axis=1)
    dominant = corners[np.arange(len(cells)), barycentric.argmax(axis=1)]
    shape = smooth_function(SHAPE_CHANNELS, 2.0, 1)(sphere.vertices) + rng.normal(0, 0.1, (len(sphere.vertices), SHAPE_CHANNELS))
    surface = Surface(
        cells=cells,
        corners=corners.astype(np.int32),
        barycentric=barycentric,
        dominant=dominant.astype(np.int32),
        fill_distance=np.zeros(len(cells), np.float16),
        vertices=mesh.vertices.astype(np.float32),
        diagonal=mesh.diagonal,
        balls=Geodesic(mesh).balls(np.unique(dominant), BALL_RADIUS * mesh.diagonal),
    )
    foreground = np.zeros(SIDE * SIDE, bool)
    foreground[cells] = True
    positions = rng.normal(0, 3, (SIDE * SIDE, 3))
    positions[cells] = points
    sources = {layer: _layer(positions, channels, side, noise, rng) for layer, (channels, side) in LAYERS.items()}
    box = Letterbox(500, 375)
    return Features(name, box, foreground.reshape(SIDE, SIDE), BLOCK * box.cell_pixels, sources, shape.astype(np.float16), surface)


def _layer(positions: np.ndarray, channels: int, side: int, noise: float, rng: np.random.Generator) -> np.ndarray:
    step = SIDE // side
    at = positions.reshape(side, step, side, step, 3).mean(axis=(1, 3))
    values = smooth_function(channels, 4.0, channels)(at) + rng.normal(0, noise, (side, side, channels))
    return values.transpose(2, 0, 1).astype(np.float16)


def two_products(source: torch.Tensor, target: torch.Tensor, image: Described) -> np.ndarray:
    """The plain method, as DIY-SC's label generation does it: one float32 product for each direction, kept by the round trip.

    Args:
        source, target: (N, C) fused, L2-normalised descriptors at the foreground cells, which are the same cells in both images here.
            Resizing and normalising them is not counted.

    Returns:
        (K, 2) matched cells.
    """
    forward = (source @ target.T).argmax(dim=1)
    backward = (target[forward] @ source.T).argmax(dim=1)
    there, back, cells = image.cells[forward.numpy()], image.cells[backward.numpy()], image.cells
    error = np.hypot(back // SIDE - cells // SIDE, back % SIDE - cells % SIDE) * image.letterbox.cell_pixels
    return np.stack([cells, there], axis=1)[error <= max(CONFIG.tau_cc * image.extent, image.letterbox.cell_pixels)]


def rate(task: Callable[[int], object], n: int) -> float:
    """Calls a second: from the median time of ``n`` calls after one that is not counted."""
    task(0)
    seconds = []
    for i in range(n):
        start = time.perf_counter()
        task(i)
        seconds.append(time.perf_counter() - start)
    return 1 / float(np.median(seconds))


def run(pairs: int = 12) -> Iterator[dict[str, Any]]:
    """Measure, and yield one row a figure."""
    scenes = [make_scene(f"image-{i}", i) for i in range(3)]
    start = time.perf_counter()
    images = [Described(scene, CONFIG) for scene in scenes]
    preparing = (time.perf_counter() - start) / len(images)
    order = [(a, b) for a in range(3) for b in range(3) if a != b]

    def verify(i: int) -> object:
        a, b = order[i % len(order)]
        return match_pair(images[a], images[b], "ellipsoid", CONFIG)

    def propose(i: int) -> object:
        a, b = order[i % len(order)]
        return find_candidates(images[a], images[b])

    verified, candidates = rate(verify, pairs), rate(propose, pairs)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    matches = match_pair(images[0], images[1], "ellipsoid", CONFIG)
    kept = f"{matches.n_cycle} of {matches.n_candidates} candidates pass the cycle, {len(matches)} are kept"
    fused = [fuse(group_descriptors(s, d.cells), group_weights(CONFIG)) for s, d in zip(scenes, images, strict=True)]

    def plainly(i: int) -> object:
        a, b = order[i % len(order)]
        return two_products(fused[a], fused[b], images[0])

    plain = rate(plainly, max(pairs // 2, 1))
    reference = f"DIY-SC's two float32 products: {plain:.2f} pairs/s"
    yield _row(f"verified pairs ({kept})", verified, "pairs/s", "higher", n=pairs)
    yield _row("candidates and cycle", candidates, "pairs/s", "higher", reference, candidates / plain, pairs)
    yield _row("preparing an image", preparing, "s", "lower", n=len(images))
    yield _row("prepared image", images[0].n_bytes / 2**20, "MiB", "lower", n=1)
    yield _row("peak memory of the process", peak, "GiB", "lower", n=1)
    yield from _searches(images, pairs)


def _searches(images: list[Described], n: int) -> Iterator[dict[str, Any]]:
    rng = np.random.default_rng(0)
    assert images[0].mesh is not None
    assert images[1].mesh is not None
    queries, smooth = images[0].mesh.queries.numpy(), images[1].mesh.vertices
    values = rng.normal(size=(10_242, SHAPE_CHANNELS)).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    full = rate(lambda _: (queries @ values.T).argmax(axis=1), n)
    noise = VertexIndex(values)
    for name, index in (("smooth descriptors", smooth), ("descriptors without structure", noise)):
        speed = rate(partial(_search, index, queries), n)
        alternative = f"one float32 product with all vertices: {1000 / full:.1f} ms"
        yield _row(
            f"nearest of 10,242 vertices for {len(queries)} hits, {name}", 1000 / speed, "ms", "lower", alternative, speed / full, n
        )


def _search(index: VertexIndex, queries: np.ndarray, _: int) -> np.ndarray:
    return index.nearest(queries)


def _row(
    figure: str, value: float, unit: str, better: str, alternative: str | None = None, ratio: float | None = None, n: int = 1
) -> dict[str, Any]:
    return row(bench="matching", figure=figure, value=value, unit=unit, better=better, alternative=alternative, ratio=ratio, n=n)


if __name__ == "__main__":
    for line in run(int(sys.argv[1]) if len(sys.argv) > 1 else 12):
        print(json.dumps(line))

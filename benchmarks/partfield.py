"""PartField at its full size: seconds and memory for 100,000 points, and what float16 and fewer channels cost in nearest neighbours.

Run with ``python -m benchmarks partfield``. The network has random weights, for which time and memory are those of the published ones;
for the neighbours they stand in only roughly. Whoever has the weights measures :func:`agreement` on features of their own meshes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np

from actors.foundation.partfield.actor import reference_axes
from actors.foundation.partfield.model import PartField
from actors.foundation.partfield.network import random_network
from actors.foundation.partfield.projection import onto_axes, principal_axes
from benchmarks import row
from benchmarks.pairs import peak_memory
from sc3d.datasets.toys.catalogue import CATALOGUE
from sc3d.datasets.toys.meshing import mesh_toy
from sc3d.geometry.mesh import Mesh

UPSTREAM, UPSTREAM_SECONDS, UPSTREAM_GIB = "upstream's network on other two cores", 23.6, 1.33
"""Measured once with 100,000 points in float32 and random weights; upstream needs packages that this project does without."""

DIMS = (16, 32, 64, 128, 256)
NEAR = 0.01
"""Distance of two vertices, in mesh diagonals, within which they count as the same."""


def run() -> Iterator[dict[str, Any]]:
    """Time and memory in a process of its own, then the agreement of nearest neighbours between two cars."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        seconds, processor_seconds, memory, features, target, axes = fresh.submit(_measure).result()
    yield _row("100,000 points, time", seconds, "s", "lower", UPSTREAM, UPSTREAM_SECONDS / seconds)
    yield _row("100,000 points, processor time", processor_seconds, "s", "lower")
    yield _row("100,000 points, peak memory of the process", memory, "GiB", "lower", UPSTREAM, UPSTREAM_GIB / memory)
    stored = [f.astype(np.float16) for f in features]
    n = len(features[0])
    yield _row("same neighbour in float16", 100 * agreement(features, stored, target), "%", "higher", n=n)
    own = principal_axes(features, max(DIMS))
    for dims in DIMS:
        for name, chosen in (("the toys'", axes), ("the two meshes' own", own)):
            projected = [onto_axes(f, chosen[:, :dims]).astype(np.float16) for f in features]
            share = agreement(features, projected, target)
            yield _row(f"same neighbour in {dims} of {own.shape[0]} channels, {name} axes", 100 * share, "%", "higher", n=n)


def agreement(exact: list[np.ndarray], other: list[np.ndarray], target: Mesh) -> float:
    """Share of the source's vertices whose nearest neighbour among the target's stays within :data:`NEAR` of where it was.

    Args:
        exact: features (V_source, D) and (V_target, D).
        other: the same vertices' features in another form, of any number of channels.
        target: the target's mesh.
    """
    moved = target.vertices[_nearest(*exact)] - target.vertices[_nearest(*other)]
    return float(np.mean(np.linalg.norm(moved, axis=1) <= NEAR * target.diagonal))


def _nearest(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    values = target.astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return (source.astype(np.float32) @ values.T).argmax(axis=1)


def _measure() -> tuple[float, float, float, list[np.ndarray], Mesh, np.ndarray]:
    """Seconds, processor seconds and peak GiB for one car; features of two cars, the second car, and the axes of the reference toys."""
    model = PartField(random_network())
    cars = [_car(seed) for seed in (1, 2)]
    start, processor_start = time.perf_counter(), time.process_time()
    features = model.describe(cars[:1])
    seconds, processor_seconds = time.perf_counter() - start, time.process_time() - processor_start
    memory = peak_memory() / 2**10
    features += model.describe(cars[1:])
    return seconds, processor_seconds, memory, features, cars[1], reference_axes(model, max(DIMS))


def _car(seed: int) -> Mesh:
    toy = mesh_toy(CATALOGUE["car"].build(np.random.default_rng(seed)))
    return Mesh(toy.vertices, toy.faces)


def _row(
    figure: str, value: float, unit: str, better: str, alternative: str | None = None, ratio: float | None = None, n: int = 1
) -> dict[str, Any]:
    return row("partfield", figure, value, unit, better, alternative, ratio, n)

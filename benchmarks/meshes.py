"""Meshes that the geometry benchmarks measure on, and how they take the time of one process on one core."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import trimesh

from sc3d.datasets.toys.catalogue import CATALOGUE
from sc3d.datasets.toys.meshing import mesh_toy
from sc3d.geometry.mesh import Mesh, clean_mesh, components, load_mesh

SAMPLES = Path(__file__).parents[2] / "shared" / "data" / "meshes"
"""Sample meshes beside the checkout; without them the others are measured alone."""


def blob(subdivisions: int) -> Mesh:
    """A sphere with bumps, 10 * 4^subdivisions + 2 vertices."""
    sphere = trimesh.creation.icosphere(subdivisions)
    x, y, _ = sphere.vertices.T[:, :, None]
    return Mesh(sphere.vertices * (1 + 0.1 * np.sin(5 * x) * np.sin(7 * y)), sphere.faces)


def decimated_blob(vertices: int) -> Mesh:
    """A bumpy blob as an image-to-3D model would export it: dense, then decimated by quadrics."""
    dense = blob(6)
    return clean_mesh(dense.vertices, dense.faces, max_vertices=vertices)


def toy_and_sample_meshes(max_vertices: int) -> Iterator[tuple[str, Mesh]]:
    """The largest component of one toy of each category and of the sample meshes that are there, with their names.

    Meshes with an edge of more than two faces are left out: the exact algorithm cannot take them.
    """
    toys = {name: mesh_toy(CATALOGUE[name].build(np.random.default_rng(0))) for name in CATALOGUE}
    meshes = {name: Mesh(toy.vertices, toy.faces) for name, toy in toys.items()}
    meshes |= {path.stem: load_mesh(path) for path in sorted(SAMPLES.glob("*.glb"))}
    for name, mesh in meshes.items():
        piece = largest_component(clean_mesh(mesh.vertices, mesh.faces, max_vertices=max_vertices))
        sides = np.sort(piece.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
        if np.unique(sides, axis=0, return_counts=True)[1].max() <= 2:
            yield name, piece


def largest_component(mesh: Mesh) -> Mesh:
    """The component with the most vertices."""
    labels = components(mesh)
    keep = labels == np.bincount(labels).argmax()
    return Mesh(mesh.vertices[keep], (np.cumsum(keep) - 1)[mesh.faces[keep[mesh.faces[:, 0]]]])


def seconds(work: Callable[[], Any], repeats: int = 3) -> float:
    """Processor time of the quickest of ``repeats`` calls, after one that warms up. It does not count what other processes take."""
    work()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)

"""Which way meshes of mixed build face: injected turns that are undone, right meshes that are turned, and how sure that is.

Toys of mixed build, disturbed as bad reconstructions are: smoothed, bumpy, with holes, stretched, and turned a little about all axes. In
each trial some meshes of a category are drawn, and each is turned by a quarter turn with a probability of 6 %. A turn rolls the rows of
a descriptor, so meshes are described once. The vote of the views is measured on the same trials.

A part of ``python -m benchmarks truth``; ``python -m benchmarks.orientation --seeds 41`` prints it alone. Seeds as there.
"""

from __future__ import annotations

import argparse
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import trimesh

from actors.light.network import Lite0
from actors.light.renders import Lite0Renders, render_describer
from actors.offline.disturb import smooth_noise
from actors.offline.renders import NormalRenders
from benchmarks import row
from benchmarks.__main__ import as_text
from sc3d.datasets.toys.catalogue import MIXED
from sc3d.datasets.toys.meshing import mesh_toy
from sc3d.geometry.camera import looking_from, yaw_rotation
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.orientation.joint import UNKNOWN, gram_matrix, settle
from sc3d.geometry.orientation.pooling import describe_normals, describe_renders
from sc3d.geometry.yaw import YAWS, describe_views, estimates_from_agreement, render_yaw_views, vote_yaw

SEEDS = (41,)
CATEGORIES = ("car", "quadruped")
SIZES = (16, 32)
POOL = 40
TRIALS = 200
RIGHT = 0.94

_JOINT, _NORMALS, _VOTE = "joint", "joint, view normals", "vote of views"
_REFERENCES = 12
_UNSURE = 0.8

Oriented = tuple[np.ndarray, np.ndarray]
"""Quarter turns that some meshes are turned by (n,), and which of them are unsure (n,)."""


@dataclass(frozen=True)
class Counts:
    """Of some meshes: how many were ``injected`` with a turn and how many of these were ``undone``; how many were ``right`` and how many of
    these were ``harmed``; how many are ``unsure``."""

    injected: int = 0
    undone: int = 0
    right: int = 0
    harmed: int = 0
    unsure: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, name) + getattr(other, name) for name in Counts.__dataclass_fields__))


def run(seeds: Sequence[int] = SEEDS) -> Iterator[dict[str, Any]]:
    """The figures over all seeds, categories and sizes, and for each of the latter two."""
    network = render_describer(Lite0.from_package())
    found: dict[tuple[str, int, str], Counts] = {}
    seconds = 0.0
    for category, seed in product(CATEGORIES, seeds):
        meshes = mixed_meshes(category, POOL, seed)
        started = time.process_time()
        learned = np.stack([describe_renders(mesh, network) for mesh in meshes])
        seconds += time.process_time() - started
        plain = np.stack([describe_normals(mesh) for mesh in meshes])
        methods: dict[str, Callable[[np.ndarray, np.ndarray], Oriented]] = {
            _JOINT: Joint(learned, Lite0Renders.sharpness),
            _NORMALS: Joint(plain, NormalRenders.sharpness),
            _VOTE: Vote(meshes),
        }
        for size, (name, method) in product(SIZES, methods.items()):
            key = (category, size, name)
            found[key] = found.get(key, Counts()) + trials(method, len(meshes), size, seed)
    joint, vote = (_total(counts for (_, _, name), counts in found.items() if name == wanted) for wanted in (_JOINT, _VOTE))
    yield from _figures(joint, vote, "")
    n = len(CATEGORIES) * len(seeds) * POOL
    yield row("truth", "seconds a mesh, orientation", seconds / n, "s", "lower", n=n)
    for (category, size, name), counts in found.items():
        yield from _figures(counts, None, f", {size} of {category}, {name}")


def _total(counts: Iterable[Counts]) -> Counts:
    total = Counts()
    for one in counts:
        total += one
    return total


def _figures(counts: Counts, other: Counts | None, suffix: str) -> Iterator[dict[str, Any]]:
    for figure, better, part, whole in (
        ("injected turns undone", "higher", "undone", "injected"),
        ("right views turned", "lower", "harmed", "right"),
        ("unsure", "lower", "unsure", ""),
    ):
        value, n = _share(counts, part, whole)
        beside, _ = _share(other, part, whole) if other else (0.0, 0)
        ratio = None
        if other and min(value, beside) > 0:
            ratio = value / beside if better == "higher" else beside / value
        alternative = f"vote of views, {beside:.2f} %" if other else None
        yield row("truth", f"{figure}, mixed toys{suffix}", value, "%", better, alternative, ratio, n)


def _share(counts: Counts, part: str, whole: str) -> tuple[float, int]:
    n = getattr(counts, whole) if whole else counts.injected + counts.right
    return 100 * getattr(counts, part) / max(n, 1), n


def trials(method: Callable[[np.ndarray, np.ndarray], Oriented], meshes: int, size: int, seed: int) -> Counts:
    """What a method makes of ``size`` of the meshes with injected turns, over all trials."""
    rng, total = np.random.default_rng([seed, size]), Counts()
    for _ in range(TRIALS):
        chosen = rng.choice(meshes, size, replace=False)
        injected = np.where(rng.random(size) < RIGHT, 0, rng.integers(1, 4, size))
        turns, unsure = method(chosen, injected)
        forward, wrong = (injected + turns) % 4 == 0, injected > 0
        numbers = (wrong.sum(), (wrong & forward).sum(), (~wrong).sum(), (~wrong & ~forward).sum(), unsure.sum())
        total += Counts(*map(int, numbers))
    return total


class Joint:
    """The joint problem of the chosen meshes, from descriptors (N, 8, D) of all."""

    def __init__(self, descriptors: np.ndarray, sharpness: float) -> None:
        self._gram, self._sharpness = gram_matrix(descriptors), sharpness

    def __call__(self, chosen: np.ndarray, injected: np.ndarray) -> Oriented:
        """Orient the chosen meshes after the injected quarter turns."""
        rows = (4 * chosen[:, None] + (np.arange(4) + injected[:, None]) % 4).ravel()
        found = settle(self._gram[np.ix_(rows, rows)], self._sharpness, np.full(len(chosen), UNKNOWN)).posteriors
        best = found.max(axis=1)
        return np.where(best > 0.5, found.argmax(axis=1), 0), best < _UNSURE


class Vote:
    """The vote of eight views of each chosen mesh, by agreement with twelve others, four votes needed."""

    def __init__(self, meshes: Sequence[Mesh]) -> None:
        views = np.stack([describe_views(render_yaw_views(mesh)) for mesh in meshes])
        flat = views.reshape(-1, views.shape[-1])
        self._cosines = (flat @ flat.T).reshape(len(meshes), len(YAWS), len(meshes), len(YAWS)).transpose(0, 2, 1, 3)

    def __call__(self, chosen: np.ndarray, injected: np.ndarray) -> Oriented:
        """Orient the chosen meshes after the injected quarter turns."""
        views = (np.arange(len(YAWS)) + 2 * injected[:, None]) % len(YAWS)
        turns, unsure = np.zeros(len(chosen), int), np.zeros(len(chosen), bool)
        for place, mesh in enumerate(chosen):
            others = np.delete(np.arange(len(chosen)), place)[:_REFERENCES]
            cosines = np.stack([self._cosines[mesh, chosen[o]][np.ix_(views[place], views[o])] for o in others])
            found = estimates_from_agreement(np.median(cosines, axis=0))
            vote = vote_yaw(found.yaw_degrees, np.array(YAWS), found.symmetry)
            turns[place], unsure[place] = vote.turn // 90, vote.uncertain
        return turns, unsure


def mixed_meshes(category: str, n: int, seed: int) -> list[Mesh]:
    """Disturbed meshes of n toys of mixed build."""
    rng = np.random.default_rng([seed, zlib.crc32(category.encode())])
    found = []
    for _ in range(n):
        made = mesh_toy(MIXED[category].build(rng))
        found.append(disturbed(Mesh(made.vertices, made.faces), rng))
    return found


def disturbed(mesh: Mesh, rng: np.random.Generator) -> Mesh:
    """A mesh as a bad reconstruction has it: smoothed, with bumps, 2 to 5 holes, other proportions, and turned a little about all axes."""
    smooth = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    trimesh.smoothing.filter_taubin(smooth, iterations=20)
    vertices = np.asarray(smooth.vertices) / mesh.diagonal
    vertices = vertices + 0.01 * smooth_noise(vertices, rng)
    middles = vertices[mesh.faces].mean(axis=1)
    whole = np.ones(len(middles), bool)
    for _ in range(int(rng.integers(2, 6))):
        whole &= np.linalg.norm(middles - middles[rng.integers(len(middles))], axis=1) > rng.uniform(0.03, 0.1)
    yaw, pitch, roll = rng.normal(size=3) * (6, 4, 3)
    upright = np.diag([1.0, -1.0, -1.0])
    turn = upright @ looking_from(0, pitch, roll) @ yaw_rotation(yaw)
    return Mesh(vertices * rng.uniform(0.82, 1.18, 3) @ turn.T, mesh.faces[whole])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Injected turns undone on toys of mixed build.")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="of the toys; 51 to 53 are held out")
    for figure in run(parser.parse_args().seeds):
        print(as_text(figure), flush=True)

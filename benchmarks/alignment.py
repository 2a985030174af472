"""Alignment: accuracy over seeded trials on generated meshes, and the time of its steps.

Run with ``python -m benchmarks.alignment [trials]``; one JSON line a figure.

A trial is a primitive or an assembly of primitives under a random upright rotation. The start's scale is off by up to 1.5 either way, its
depth by up to 10 %, and it is shifted by up to 1.5 object sizes, which leaves nearly half of the starts without any overlap. Scale and
depth trade against each other in an image, so the scale that is judged is the apparent one, scale over depth. *occluded*: a half plane
hides 40 % of the object and only the visible mask is given. *cut*: 40 % of the object is outside the image. *deformed*: the mesh is not the
object's; its box is stretched by some 10 % and it is bent. The alternative for accuracy is the paper's two phases alone
(``occlusion=False``).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import trimesh

from benchmarks import row
from sc3d.config import AlignConfig
from sc3d.geometry.align import Aligner, Alignment, align_batch
from sc3d.geometry.camera import Camera, Pose, project, yaw_rotation
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.silhouette import SIGMA, OutlineRenderer

Condition = Literal["unoccluded", "occluded", "cut", "deformed"]
PAPER_ALONE = AlignConfig(occlusion=False)
# Share of the object that an occluder hides, or that the image's border cuts off.
HIDDEN = 0.4
SIZE, FOCAL = 256, 320.0


@dataclass(frozen=True, eq=False)
class Trial:
    """A mesh, the mask of its true pose, and a disturbed start."""

    mesh: Mesh
    mask: np.ndarray
    truth: Pose
    start: Pose
    camera: Camera


@dataclass(frozen=True)
class Outcome:
    """How one trial ended. ``scale`` is the relative error of the apparent size (scale over depth), ``centre`` the error of the projected
    centre in projected object sizes; ``full_iou`` compares the complete silhouettes."""

    alignment: Alignment
    scale: float
    centre: float
    full_iou: float
    seconds: float


def random_mesh(rng: np.random.Generator) -> Mesh:
    """A primitive, or two boxes and two cylinders stuck together, in a unit box."""
    make = [
        lambda: trimesh.creation.box(rng.uniform(0.4, 1.0, 3)).subdivide().subdivide().subdivide(),
        lambda: trimesh.creation.cylinder(rng.uniform(0.2, 0.6), rng.uniform(0.5, 1.5), sections=48),
        lambda: trimesh.creation.cone(rng.uniform(0.3, 0.6), rng.uniform(0.6, 1.5), sections=48),
        lambda: trimesh.creation.capsule(rng.uniform(0.5, 1.5), rng.uniform(0.2, 0.5)),
        lambda: trimesh.creation.torus(1.0, rng.uniform(0.2, 0.5), major_sections=48, minor_sections=24),
        lambda: trimesh.creation.annulus(0.3, 0.6, rng.uniform(0.2, 1.0), sections=48),
        lambda: _assembly(rng),
        lambda: _assembly(rng),
    ]
    mesh = make[rng.integers(len(make))]()
    vertices = mesh.vertices - mesh.bounds.mean(axis=0)
    return Mesh(vertices / np.ptp(vertices, axis=0).max(), mesh.faces)


def _assembly(rng: np.random.Generator) -> Any:
    """An asymmetric object of four parts."""
    parts = [trimesh.creation.box([0.5, 0.4, 1.0])]
    parts.append(trimesh.creation.box(rng.uniform(0.2, 0.5, 3)).apply_translation([0, 0.3, rng.uniform(0.1, 0.4)]))
    for side in (-0.35, 0.35):
        leg = trimesh.creation.cylinder(rng.uniform(0.06, 0.15), rng.uniform(0.4, 0.8), sections=24)
        leg.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, [1, 0, 0]))
        parts.append(leg.apply_translation([0.15, -0.3, side]))
    return trimesh.util.concatenate(parts)


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """An upright object seen from a random side, up to 30 degrees from above: R (3, 3) into the OpenCV frame."""
    tilt = np.deg2rad(rng.uniform(-5, 30))
    c, s = np.cos(tilt), np.sin(tilt)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ np.diag([1.0, -1.0, -1.0]) @ yaw_rotation(rng.uniform(0, 360))


def make_trial(rng: np.random.Generator, condition: Condition) -> Trial:
    """One seeded trial: scale off by up to 1.5, depth by up to 10 %, and a shift up to where the silhouettes no longer meet."""
    mesh, camera, R = random_mesh(rng), Camera.from_focal(FOCAL, SIZE, SIZE), random_rotation(rng)
    depth = rng.uniform(2.5, 4.0)
    truth = Pose(R, np.array([*rng.uniform(-0.15, 0.15, 2) * depth, depth]), rng.uniform(0.8, 1.2))
    angle = rng.uniform(0, 2 * np.pi)
    if condition == "cut":
        truth = _push_out(mesh, truth, camera, np.array([np.cos(angle), np.sin(angle)]))
    mask = hard_mask(mesh, truth, camera)
    if condition == "occluded":
        rows, columns = np.nonzero(mask)
        along = columns * np.cos(angle) + rows * np.sin(angle)
        hidden = along > np.quantile(along, 1 - HIDDEN)
        mask[rows[hidden], columns[hidden]] = False
    direction = rng.uniform(0, 2 * np.pi)
    shift = rng.uniform(0, 1.5) * truth.scale * np.array([np.cos(direction), np.sin(direction), 0.0])
    stretch = np.array([1.0, 1.0, rng.uniform(0.9, 1.1)])
    start = truth.replace(t=(truth.t + shift) * stretch, scale=truth.scale * float(np.exp(rng.uniform(-1, 1) * np.log(1.5))))
    return Trial(_deformed(mesh, rng) if condition == "deformed" else mesh, mask, truth, start, camera)


def _deformed(mesh: Mesh, rng: np.random.Generator) -> Mesh:
    """The mesh with its box stretched by about 10 % a side, and bent by about 5 % of its size."""
    vertices = mesh.vertices * np.exp(rng.normal(0, 0.1, 3))
    waves, phases = rng.normal(0, 1, (3, 3)), rng.uniform(0, 2 * np.pi, 3)
    waves /= np.linalg.norm(waves, axis=1, keepdims=True)
    return Mesh(vertices + 0.05 * np.sin(3 * vertices @ waves.T + phases), mesh.faces)


def hard_mask(mesh: Mesh, pose: Pose, camera: Camera, margin: int = 0) -> np.ndarray:
    """The hard silhouette (H, W) bool, with ``margin`` pixels around the image."""
    return OutlineRenderer(mesh, pose.R, camera, margin).render(float(np.log(pose.scale)), pose.t).coverage


def _push_out(mesh: Mesh, pose: Pose, camera: Camera, direction: np.ndarray) -> Pose:
    """Move the object along ``direction`` (2,) until the hidden share of it is outside the image, by bisection."""
    low, high = 0.0, 2.0
    for _ in range(12):
        middle = (low + high) / 2
        moved = pose.replace(t=pose.t + np.array([*direction * middle * pose.scale, 0.0]))
        whole = hard_mask(mesh, moved, camera, SIZE)
        share = 1 - whole[SIZE:-SIZE, SIZE:-SIZE].sum() / whole.sum()
        low, high = (middle, high) if share < HIDDEN else (low, middle)
    return moved


def run_trial(trial: Trial, config: AlignConfig) -> Outcome:
    """Align one trial and measure the result against the truth."""
    begin = time.perf_counter()
    alignment = Aligner(trial.mesh, config).align(trial.mask, trial.start, trial.camera)
    seconds = time.perf_counter() - begin
    ends = {}
    for name, pose in (("truth", trial.truth), ("result", alignment.pose)):
        whole = hard_mask(trial.mesh, pose, trial.camera, SIZE)
        rows, columns = np.nonzero(whole)
        middle = np.array([columns.min() + columns.max(), rows.min() + rows.max()]) / 2
        ends[name] = (whole, middle, max(np.ptp(columns), np.ptp(rows)) + 1)
    (mask, centre, size), (found, found_centre, _) = ends["truth"], ends["result"]
    apparent = (alignment.pose.scale / alignment.pose.t[2]) / (trial.truth.scale / trial.truth.t[2])
    iou = np.count_nonzero(mask & found) / np.count_nonzero(mask | found)
    return Outcome(alignment, abs(apparent - 1), float(np.linalg.norm(centre - found_centre)) / size, iou, seconds)


def run_trials(n: int, condition: Condition, config: AlignConfig | None = None, seed: int = 0) -> list[Outcome]:
    """``n`` seeded trials under one condition."""
    trials = (make_trial(np.random.default_rng((seed, i)), condition) for i in range(n))
    return [run_trial(trial, config or AlignConfig()) for trial in trials]


def share(outcomes: list[Outcome], holds: Callable[[Outcome], bool]) -> float:
    """Share of the outcomes for which something holds, in per cent."""
    return 100.0 * sum(map(holds, outcomes)) / len(outcomes)


def fits(outcome: Outcome) -> bool:
    """IoU with the mask of at least 0.95."""
    return outcome.alignment.iou_after >= 0.95


def recovers(outcome: Outcome) -> bool:
    """Apparent scale within 5 % and centre within 3 % of the object's size."""
    return outcome.scale <= 0.05 and outcome.centre <= 0.03


def run(n: int = 300) -> Iterator[dict[str, Any]]:
    """Accuracy over ``n`` trials a condition, and times."""
    yield from _accuracy(n)
    yield from _in_step()
    yield from _times()


def _accuracy(n: int) -> Iterator[dict[str, Any]]:
    judged: list[tuple[Condition, str, Callable[[Outcome], bool]]] = [
        ("unoccluded", "IoU of at least 0.95", fits),
        ("occluded", "40 % occluded: scale within 5 % and centre within 3 %", recovers),
        ("cut", "40 % cut off by the border: scale within 5 % and centre within 3 %", recovers),
        (
            "deformed",
            "a mesh of another shape: centre within 5 % and scale within 10 %",
            lambda o: o.scale <= 0.1 and o.centre <= 0.05,
        ),
    ]
    for condition, figure, holds in judged:
        ours, paper = run_trials(n, condition), run_trials(n, condition, PAPER_ALONE)
        value, other = share(ours, holds), share(paper, holds)
        alternative = f"the paper's two phases: {other:.1f} %"
        yield row("alignment", figure, value, "%", "higher", alternative, value / other if other else None, n)
        if condition == "unoccluded":
            yield row("alignment", "median IoU", float(np.median([o.alignment.iou_after for o in ours])), "IoU", "higher", n=n)
        seconds = float(np.median([o.seconds for o in ours]))
        yield row("alignment", f"median time of an alignment, {condition}", seconds, "s", "lower", n=n)
        worse = share(ours, lambda o: o.alignment.iou_after < o.alignment.iou_before)
        yield row("alignment", f"results worse than their start, {condition}", worse, "%", "lower", n=n)


def _in_step(n: int = 32) -> Iterator[dict[str, Any]]:
    """Many objects in step on each torch device that is here, beside one after the other, without the search for occlusion."""
    trials = [make_trial(np.random.default_rng((0, i)), "unoccluded") for i in range(n)]
    items = [(trial.mesh, trial.mask, trial.start, trial.camera) for trial in trials]

    def timed(device: str | None) -> tuple[float, list[Alignment]]:
        align_batch(items[:1], PAPER_ALONE, device)
        begin = time.perf_counter()
        results = align_batch(items, PAPER_ALONE, device)
        return (time.perf_counter() - begin) / n, [result for result in results if isinstance(result, Alignment)]

    alone, _ = timed(None)
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        seconds, results = timed(device)
        alternative = f"one after the other on one core: {alone:.3g} s"
        yield row(
            "alignment", f"an object in a batch of {n}, torch on {device}", seconds, "s", "lower", alternative, alone / seconds, n
        )
        good = 100.0 * np.mean([result.iou_after >= 0.95 for result in results])
        yield row("alignment", f"IoU of at least 0.95 in a batch, torch on {device}", float(good), "%", "higher", n=n)


def _times(repeats: int = 20) -> Iterator[dict[str, Any]]:
    mesh, pose, camera = _torus(50, 50), Pose(_TILT, np.array([0.0, 0.0, 2.0])), Camera.from_focal(FOCAL, SIZE, SIZE)
    renderer = OutlineRenderer(mesh, pose.R, camera, SIZE // 2)
    weights = np.ones((3, 2 * SIZE, 2 * SIZE), np.float32)
    renderer.render(0.0, pose.t).areas(weights)
    step = _seconds(lambda: renderer.render(0.0, pose.t).areas(weights), repeats)
    yield row("alignment", "150 silhouettes with gradient, 5,000 faces, 256 x 256", 150 * step, "s", "lower", n=repeats)
    small, camera = _torus(48, 24), Camera.from_focal(144, 96, 96)
    renderer = OutlineRenderer(small, pose.R, camera)
    outline = _seconds(lambda: renderer.render(0.0, pose.t).areas(np.ones((1, 96, 96), np.float32)), repeats)
    product = _seconds(lambda: product_silhouette(small, pose, camera), 1)
    alternative = f"product over all triangles and pixels, vectorised numpy, no gradient: {1e3 * product:.0f} ms"
    yield row(
        "alignment",
        "a silhouette with gradient, 2,304 faces, 96 x 96",
        1e3 * outline,
        "ms",
        "lower",
        alternative,
        product / outline,
    )


_TILT = np.array([[1, 0, 0], [0, np.cos(0.6), -np.sin(0.6)], [0, np.sin(0.6), np.cos(0.6)]])


def _torus(major: int, minor: int) -> Mesh:
    torus = trimesh.creation.torus(0.35, 0.15, major_sections=major, minor_sections=minor)
    return Mesh(torus.vertices, torus.faces)


def _seconds(call: Callable[[], object], repeats: int) -> float:
    """Median wall-clock seconds of a call."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return float(np.median(times))


def product_silhouette(mesh: Mesh, pose: Pose, camera: Camera) -> np.ndarray:
    """Soft silhouette (H, W) as the soft rasteriser defines it: ``1 - prod_f (1 - logistic(sign d_f^2 / sigma))`` over all triangles."""
    xy, _ = project(mesh.vertices, pose, camera)
    rows, columns = np.mgrid[: camera.height, : camera.width] + 0.5
    points = np.column_stack([columns.ravel(), rows.ravel()])
    sigma = SIGMA * (min(camera.width, camera.height) / 2) ** 2
    empty = np.ones(len(points))
    for triangle in xy[mesh.faces]:
        squared, sides = np.full(len(points), np.inf), []
        for a, b in ((0, 1), (1, 2), (2, 0)):
            edge, arm = triangle[b] - triangle[a], points - triangle[a]
            along = np.clip(arm @ edge / max(edge @ edge, 1e-12), 0, 1)
            squared = np.minimum(squared, ((arm - along[:, None] * edge) ** 2).sum(axis=1))
            sides.append(edge[0] * arm[:, 1] - edge[1] * arm[:, 0])
        inside = np.all(np.array(sides) >= 0, axis=0) | np.all(np.array(sides) <= 0, axis=0)
        empty *= 1 - 1 / (1 + np.exp(np.clip(np.where(inside, -squared, squared) / sigma, -50, 50)))
    return (1 - empty).reshape(rows.shape)


if __name__ == "__main__":
    for figure in run(int(sys.argv[1]) if len(sys.argv) > 1 else 300):
        print(json.dumps(figure))

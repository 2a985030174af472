"""Alignment: accuracy over seeded trials on generated meshes, and the time of a full run.

Run with ``python -m benchmarks.alignment [n]``; one JSON line a figure.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import trimesh

from sc3d.config import AlignConfig
from sc3d.geometry.align import Aligner, Alignment
from sc3d.geometry.camera import Camera, Pose, yaw_rotation
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.silhouette import OutlineRenderer

Condition = Literal["unoccluded", "occluded", "cut"]
CONDITIONS: tuple[Condition, ...] = ("unoccluded", "occluded", "cut")
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


def _assembly(rng: np.random.Generator) -> trimesh.Trimesh:
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
    return Trial(mesh, mask, truth, start, camera)


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
    config = config or AlignConfig()
    return [run_trial(make_trial(np.random.default_rng((seed, i)), condition), config) for i in range(n)]

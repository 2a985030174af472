"""A known mesh and pose made worse on purpose, in the ways in which a learned reconstruction is wrong.

The 3D-SC paper (arXiv 2605.30093) reports of SAM 3D Objects that its rotation is good, its scale and translation are often off, and
about 6 % of its meshes are turned by a quarter turn about the vertical axis. The errors here are drawn from these kinds; their sizes
are our choice, not measured.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from sc3d.geometry.camera import Pose, yaw_rotation

MAX_SCALE = 1.5
MIN_SCALE = 1.1
# Shift across the image in object diagonals, and relative change of the depth.
SHIFT = (0.05, 0.15)
MAX_DEPTH_CHANGE = 0.1
# Root mean square displacement of the surface, in mesh diagonals.
NOISE = 0.005
_WAVES = 12


@dataclass(frozen=True)
class Disturbed:
    """``vertices`` (V, 3) after noise and turn, the wrong ``pose``, and the ``turn`` in degrees (0, 90, 180 or 270) that was injected."""

    vertices: np.ndarray
    pose: Pose
    turn: int


def seeded_generator(seed: int, key: str) -> np.random.Generator:
    """A random generator that depends on (seed, key) alone: not on the process, the order of the rows or ``PYTHONHASHSEED``."""
    digest = hashlib.sha256(f"{seed}/{key}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def disturb(vertices: np.ndarray, pose: Pose, wrong_yaw: float, generator: np.random.Generator) -> Disturbed:
    """Add smooth surface noise, a wrong scale (a factor of 1.1 to 1.5 either way), a wrong translation and, sometimes, a wrong yaw.

    The rotation stays right: where the mesh is turned, the pose is turned back (:meth:`~sc3d.geometry.camera.Pose.turned`), so that
    the image does not show it.

    Args:
        vertices: (V, 3) of the true mesh, canonical frame.
        pose: its true pose, in front of the camera.
        wrong_yaw: probability of a turn by 90, 180 or 270 degrees.
    """
    diagonal = float(np.linalg.norm(np.ptp(vertices, axis=0)))
    turned_at_all, turn = generator.random() < wrong_yaw, int(generator.choice((90, 180, 270)))
    if not turned_at_all:
        turn = 0
    factor = float(np.exp(generator.uniform(np.log(MIN_SCALE), np.log(MAX_SCALE)) * generator.choice((-1, 1))))
    angle, length = generator.uniform(0, 2 * np.pi), generator.uniform(*SHIFT) * diagonal * pose.scale
    shift = np.array([length * np.cos(angle), length * np.sin(angle), 0.0])
    translation = (pose.t + shift) * (1 + generator.uniform(-MAX_DEPTH_CHANGE, MAX_DEPTH_CHANGE))
    noisy = vertices + NOISE * diagonal * smooth_noise(vertices / diagonal, generator)
    wrong = pose.replace(scale=pose.scale * factor, t=translation).turned(turn)
    return Disturbed(noisy @ yaw_rotation(turn).T, wrong, turn)


def smooth_noise(points: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A smooth random vector field at ``points`` (N, 3), in units of the object's diagonal: (N, 3), root mean square length about 1.

    A function of position, so vertices at one place move together and closed surfaces stay closed.
    """
    directions = generator.normal(size=(_WAVES, 3))
    frequencies = generator.uniform(1, 4, (_WAVES, 1)) * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    phases = generator.uniform(0, 2 * np.pi, _WAVES)
    amplitudes = generator.normal(size=(_WAVES, 3)) * np.sqrt(2 / (3 * _WAVES))
    return np.cos(2 * np.pi * points @ frequencies.T + phases) @ amplitudes

"""A mesh whose yaw can be read off a picture of it, and the reader: in place of a network, in the conventions that upstream documents."""

from __future__ import annotations

import numpy as np
import trimesh

from sc3d.geometry.camera import yaw_rotation
from sc3d.geometry.mesh import Mesh

# Around the vertical axis, from the front (+z) to the left (+x, for y is up).
SECOND_MAST = 45.0
TALL, SHORT = 1.3, 0.7


def masts(turn: float = 0.0) -> Mesh:
    """A disc with a tall mast at its front and a shorter one on its left, turned by ``turn`` degrees."""
    parts = [trimesh.creation.cylinder(radius=1.0, height=0.2, sections=48)]
    for angle, height in ((0.0, TALL), (SECOND_MAST, SHORT)):
        mast = trimesh.creation.cylinder(radius=0.05, height=height, sections=12)
        a = np.deg2rad(angle)
        # trimesh's cylinders are along z; with z up, the mesh's (z, x) is the (x, y) here.
        mast.apply_translation([0.85 * np.cos(a), 0.85 * np.sin(a), height / 2])
        parts.append(mast)
    both = trimesh.util.concatenate(parts)
    vertices = both.vertices[:, [1, 2, 0]]
    return Mesh(vertices @ yaw_rotation(turn).T, both.faces)


def read_azimuth(covered: np.ndarray) -> float:
    """Azimuth in degrees, as upstream has it, of a picture (h, w) bool of :func:`masts`.

    With R = Rx(rotation) Ry(elevation) Rz(-azimuth) from the object's frame (front, left, up) to that of the camera (towards the viewer,
    right, up), the front appears at -sin(azimuth) to the right of the axis, and what is at ``a`` to the left of it at -sin(azimuth - a).
    """
    rows, columns = np.flatnonzero(covered.any(axis=1)), np.flatnonzero(covered.any(axis=0))
    centre, radius = (columns[0] + columns[-1]) / 2, (columns[-1] - columns[0]) / 2
    tall = float(np.flatnonzero(covered[rows[0] + 2]).mean())
    height = rows[-1] - rows[0]
    for row in range(rows[0] + 3, rows[0] + int(0.75 * height)):
        here = np.flatnonzero(covered[row])
        beside = here[np.abs(here - tall) > 0.12 * radius]
        if len(beside) > 2:
            break
    front, second = (tall - centre) / (0.85 * radius), (float(beside.mean()) - centre) / (0.85 * radius)
    a = np.deg2rad(SECOND_MAST)
    sine = -front
    cosine = (second + np.cos(a) * sine) / np.sin(a)
    return float(np.rad2deg(np.arctan2(sine, cosine)) % 360)

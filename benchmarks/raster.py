"""Ray casting, cleaning and shape descriptors, on a torus of 20,480 faces and on bumpy blobs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import trimesh

from benchmarks import row
from benchmarks.meshes import blob, decimated_blob, seconds
from sc3d.geometry.camera import Camera, Pose, yaw_rotation
from sc3d.geometry.mesh import Mesh, clean_mesh, decimate
from sc3d.geometry.raster import Raster
from sc3d.geometry.shape_descriptors import shape_descriptors
from sc3d.grid import Letterbox


def run() -> Iterator[dict[str, Any]]:
    """All figures."""
    yield from _casting()
    yield from _cleaning()


def _row(
    figure: str, value: float, unit: str, n: int, alternative: str | None = None, ratio: float | None = None
) -> dict[str, Any]:
    return row(bench="raster", figure=figure, value=value, unit=unit, better="lower", alternative=alternative, ratio=ratio, n=n)


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


def _cleaning() -> Iterator[dict[str, Any]]:
    for subdivisions in (6, 7):
        mesh = blob(subdivisions)
        soup = mesh.vertices[mesh.faces].reshape(-1, 3)
        faces = np.arange(len(soup)).reshape(-1, 3)
        yield _row(f"clean {len(soup)} unwelded vertices to 8,000", seconds(partial(clean_mesh, soup, faces), 1), "s", 1)
        yield _row(
            f"decimation error of {len(mesh.vertices)} vertices to 8,000", 100 * decimate(mesh, 8000)[1], "% of the diagonal", 1
        )
    described = decimated_blob(3000)
    yield _row(
        f"shape descriptors of {len(described.vertices)} vertices", 1e3 * seconds(partial(shape_descriptors, described)), "ms", 3
    )

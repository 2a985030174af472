"""Compiles all loops of sc3d into a folder, for images: ``python -m sc3d.kernels_ahead FOLDER``, with ``NUMBA_CPU_NAME=generic``.

Each is called once, with little, through the functions that call it in a run, so that the types are those of a run.
"""

from __future__ import annotations

import argparse
import io
import os
from collections.abc import Sequence
from pathlib import Path

from sc3d.kernels import KEPT


def call_geometry() -> None:
    """Rays, outlines and geodesics of a small sphere."""
    import numpy as np
    import trimesh

    from sc3d.geometry.align import align
    from sc3d.geometry.camera import Camera, Pose
    from sc3d.geometry.geodesic import Geodesic
    from sc3d.geometry.mesh import Mesh
    from sc3d.geometry.raster import Raster
    from sc3d.geometry.templates.views import view_silhouettes

    sphere = trimesh.creation.icosphere(2)
    mesh, camera = Mesh(np.asarray(sphere.vertices), np.asarray(sphere.faces)), Camera.from_focal(64, 64, 64)
    pose = Pose(np.eye(3), np.array([0.0, 0.0, 4.0]))
    mask = Raster(mesh).render(pose, camera, 64, 64).mask
    # What is read from a file cannot be written to, which makes another type of it.
    read = np.eye(3)
    read.flags.writeable = False
    Raster(mesh).render(Pose(read, pose.t), camera, 64, 64)
    align(mesh, np.roll(mask, 2, axis=1), pose, camera)
    view_silhouettes(mesh)
    geodesic = Geodesic(mesh)
    geodesic.distances(np.array([0]))
    geodesic.balls(np.array([0]), 0.5)


def call_matching() -> None:
    """Tiles of a few pairs, and neighbours under two weightings."""
    import numpy as np

    from sc3d.matching.tiles import plan_tiles
    from sc3d.matching.weighted_nearest import weighted_nearest

    plan_tiles(np.array([0, 1, 2, 0]), np.array([1, 2, 0, 3]), 2)
    one = np.eye(3, dtype=np.float32)
    weighted_nearest((one, one, one), np.ones((2, 3), np.float32))


def call_pictures() -> None:
    """Sequential and progressive JPEGs."""
    import numpy as np
    from PIL import Image

    from sc3d.jpeg import check_jpeg

    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))
    for progressive in (False, True):
        stream = io.BytesIO()
        picture.save(stream, "JPEG", progressive=progressive)
        check_jpeg(stream.getvalue())


def main(arguments: Sequence[str] | None = None) -> None:
    """Compile into the folder that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m sc3d.kernels_ahead", description="Compiles all loops of sc3d into a folder.")
    parser.add_argument("folder", type=Path, help="where they go; it is made if it is not there")
    folder = parser.parse_args(arguments).folder
    folder.mkdir(parents=True, exist_ok=True)
    import numba

    os.environ[KEPT] = str(folder)
    numba.config.reload_config()
    for call in (call_geometry, call_matching, call_pictures):
        call()


if __name__ == "__main__":
    main()

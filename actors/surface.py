"""Surface hits and geodesic balls of the posed mesh: the part of an image's description that is pure geometry."""

from __future__ import annotations

import numpy as np

from actors.base import Actor, Row
from sc3d.errors import InputError
from sc3d.features import Surface
from sc3d.geometry.camera import Camera, Pose
from sc3d.geometry.geodesic import Geodesic
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.raster import Raster
from sc3d.grid import Letterbox


class SurfaceActor(Actor):
    """Casts a ray through every foreground cell onto the posed mesh and measures the geodesic ball around each hit."""

    requires = {
        "mask": "object mask (H, W) bool",
        "vertices": "canonical mesh (V, 3), after the yaw correction",
        "faces": "triangles (F, 3)",
        "intrinsics": "K (3, 3) in pixels",
        "rotation": "R (3, 3) that belongs to the turned mesh",
        "scale": "aligned scale",
        "translation": "aligned translation (3,)",
    }
    provides = {
        "letterbox": "the image's working grid",
        "foreground": "foreground cells (side, side) bool",
        "extent": "max(height, width) of the object's box in pixels",
        "surface": "surface hits and geodesic balls",
    }
    version = "surface-1"
    options = ("describe.ball_radius",)

    def process(self, row: Row) -> Row:
        mask = row["mask"]
        height, width = mask.shape
        box = Letterbox(width, height)
        foreground = box.sample_mask(mask)
        if not foreground.any():
            raise InputError("the mask covers no cell of the working grid; the object is too small in the image")
        mesh = Mesh(row["vertices"], row["faces"])
        pose = Pose(row["rotation"], row["translation"], row["scale"])
        hits = Raster(mesh).surface_cells(pose, Camera(row["intrinsics"], width, height), box, foreground)
        balls = Geodesic(mesh).balls(np.unique(hits.dominant), self.config.describe.ball_radius * mesh.diagonal)
        surface = Surface(
            cells=hits.cells,
            corners=hits.corners,
            barycentric=hits.barycentric,
            dominant=hits.dominant,
            fill_distance=hits.fill_distance,
            vertices=mesh.vertices.astype(np.float32),
            diagonal=mesh.diagonal,
            balls=balls,
        )
        return {"letterbox": box, "foreground": foreground, "extent": object_extent(mask), "surface": surface}


def object_extent(mask: np.ndarray) -> float:
    """max(height, width) in pixels of the box around a non-empty mask (H, W)."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1)

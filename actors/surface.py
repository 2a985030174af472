"""Surface hits and geodesic balls of the posed mesh: the part of an image's description that is pure geometry."""

from __future__ import annotations

from actors.base import Actor, Row
from sc3d.errors import InputError
from sc3d.geometry.camera import Camera, Pose
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.posed_mesh import PosedMesh
from sc3d.grid import Letterbox, object_extent


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
        pose = Pose(row["rotation"], row["translation"], row["scale"])
        posed = PosedMesh(Mesh(row["vertices"], row["faces"]), pose, Camera(row["intrinsics"], width, height), mask)
        surface = posed.cell_surface(box, foreground, self.config.describe.ball_radius)
        return {"letterbox": box, "foreground": foreground, "extent": object_extent(mask), "surface": surface}

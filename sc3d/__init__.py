"""sc3d: geometry-verified semantic correspondence. This package is the method itself and does not import Ray.

Its front door is ``import sc3d``; what stands in :data:`__all__` is loaded when it is first asked for, so that the import is quick.
docs/python.md has an example of each.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sc3d.errors import Sc3dError as Sc3dError
    from sc3d.geometry.align import align as align
    from sc3d.geometry.camera import Camera as Camera
    from sc3d.geometry.camera import Pose as Pose
    from sc3d.geometry.camera import looking_from as looking_from
    from sc3d.geometry.geodesic import Geodesic as Geodesic
    from sc3d.geometry.mesh import Mesh as Mesh
    from sc3d.geometry.mesh import clean_mesh as clean_mesh
    from sc3d.geometry.mesh import load_mesh as load_mesh
    from sc3d.geometry.posed_mesh import PosedMesh as PosedMesh
    from sc3d.label_reader import labels as labels
    from sc3d.matching.photos import label_pair as label_pair
    from sc3d.matching.pixels import verify as verify
    from sc3d.mesh_reader import meshes as meshes

__version__ = "0.1.0"

_HOMES = {
    "Camera": "sc3d.geometry.camera",
    "Geodesic": "sc3d.geometry.geodesic",
    "Mesh": "sc3d.geometry.mesh",
    "Pose": "sc3d.geometry.camera",
    "PosedMesh": "sc3d.geometry.posed_mesh",
    "Sc3dError": "sc3d.errors",
    "align": "sc3d.geometry.align",
    "clean_mesh": "sc3d.geometry.mesh",
    "label_pair": "sc3d.matching.photos",
    "labels": "sc3d.label_reader",
    "load_mesh": "sc3d.geometry.mesh",
    "looking_from": "sc3d.geometry.camera",
    "meshes": "sc3d.mesh_reader",
    "verify": "sc3d.matching.pixels",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sc3d' has no attribute '{name}'")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})

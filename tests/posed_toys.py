"""Small posed meshes of the toys' shapes, and features that know where on the object they are: what a user would bring."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from sc3d.datasets.toys.template import toy_template
from sc3d.datasets.toys.views import sample_view
from sc3d.geometry.camera import project
from sc3d.geometry.mesh import Mesh, clean_mesh
from sc3d.geometry.posed_mesh import PosedMesh

SIZE = (160, 120)


@lru_cache(maxsize=8)
def toy_mesh(instance: int = 0, category: str = "car", max_vertices: int = 500) -> Mesh:
    """An instance of a category, in the canonical frame."""
    template = toy_template(category, instance)
    assert template is not None
    return clean_mesh(template.mesh.vertices, template.mesh.faces, max_vertices)


def posed_toy(instance: int = 0, azimuth: float = 40.0, mesh: Mesh | None = None, size: tuple[int, int] = SIZE) -> PosedMesh:
    """A toy, or another mesh, as a camera on that side sees all of it."""
    mesh = toy_mesh(instance) if mesh is None else mesh
    view = sample_view(np.random.default_rng(instance), mesh.vertices, size, azimuth, 15.0, truncated=False)
    return PosedMesh(mesh, view.pose, view.camera)


def shown_in_both(source: PosedMesh, target: PosedMesh) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (N, 2) of the vertices that two photos of one mesh both show: true matches."""
    seen = source.raster.visible_vertices(source.pose, source.camera) & target.raster.visible_vertices(target.pose, target.camera)
    source_xy, target_xy = (project(one.mesh.vertices[seen], one.pose, one.camera)[0] for one in (source, target))
    return source_xy, target_xy


def place_features(posed: PosedMesh, grid: tuple[int, int] = (40, 52), channels: int = 32) -> np.ndarray:
    """Features (rows, columns, C) float32 of a photo: what a network would see that tells places of the object apart."""
    rows, columns = grid
    y, x = (np.arange(n) + 0.5 for n in grid)
    xy = np.stack(np.meshgrid(x * posed.camera.width / columns, y * posed.camera.height / rows), axis=-1).reshape(-1, 2)
    hits = posed.raster.cast(posed.pose, posed.camera, xy)
    corners = posed.mesh.vertices[posed.mesh.faces[np.maximum(hits.face, 0)]]
    angles = (corners * hits.barycentric[..., None]).sum(axis=1) @ np.random.default_rng(0).normal(size=(3, channels // 2)) * 5
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1).reshape(rows, columns, -1).astype(np.float32)

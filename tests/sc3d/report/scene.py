"""Images of one posed blob through the real records: photo, reconstruction, orientation, features. Everything follows from a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import trimesh

from sc3d.features import Features, Surface
from sc3d.geometry.camera import Camera, Pose, yaw_rotation
from sc3d.geometry.geodesic import Geodesic
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.raster import Raster
from sc3d.grid import Letterbox
from sc3d.images import encode_mask
from sc3d.records import Orientation, Reconstruction

WIDTH, HEIGHT = 192, 144


@dataclass(frozen=True, eq=False)
class SceneImage:
    """Everything the pipeline would store of one image, and the photo itself (H, W, 3)."""

    photo: np.ndarray
    reconstruction: Reconstruction
    orientation: Orientation
    features: Features


def blob() -> Mesh:
    """A long body with a bump on top towards the front: no symmetry but left and right."""
    sphere = trimesh.creation.icosphere(subdivisions=3)
    vertices = np.asarray(sphere.vertices) * [0.28, 0.22, 0.5]
    vertices[:, 1] += 0.2 * np.exp(-(((vertices[:, 2] - 0.2) / 0.15) ** 2)) * (vertices[:, 1] > 0)
    return Mesh(vertices, np.asarray(sphere.faces))


def scene_image(image_id: str, seed: int, category: str = "blob", turn: int = 0) -> SceneImage:
    """An image of the blob from a direction of its own; ``turn`` is what its orientation asks for."""
    rng = np.random.default_rng(seed)
    mesh = blob()
    camera = Camera.from_focal(180.0, WIDTH, HEIGHT)
    pitch = np.deg2rad(20)
    tilt = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    pose = Pose(tilt @ np.diag([1.0, -1.0, -1.0]) @ yaw_rotation(rng.uniform(20, 70)), np.array([0.0, 0.0, 1.8]))
    start = pose.replace(t=pose.t + np.array([0.12, -0.05, 0.3]))
    raster = Raster(mesh)
    maps = raster.render(pose, camera, WIDTH, HEIGHT)
    before = raster.render(start, camera, WIDTH, HEIGHT).mask
    photo = np.full((HEIGHT, WIDTH, 3), 150, np.uint8) + rng.integers(0, 40, (HEIGHT, WIDTH, 1)).astype(np.uint8)
    tint = 255 * (mesh.vertices[mesh.faces].mean(axis=1) + 0.5)
    photo[maps.mask] = np.clip(tint[maps.face[maps.mask]], 0, 255)
    reconstruction = Reconstruction(
        image_id=image_id,
        category=category,
        width=WIDTH,
        height=HEIGHT,
        mask=encode_mask(maps.mask),
        vertices=mesh.vertices,
        faces=mesh.faces,
        intrinsics=camera.K,
        rotation=pose.R,
        scale_initial=1.0,
        translation_initial=start.t,
        scale=1.0,
        translation=pose.t,
        iou_before=float((before & maps.mask).sum() / (before | maps.mask).sum()),
        iou_after=1.0,
        flags=("low_iou",) if turn else (),
        injected_turn=(360 - turn) % 360,
    )
    votes = np.full(8, turn)
    votes[0] = -1
    orientation = Orientation(image_id, category, turn, votes, uncertain=False)
    return SceneImage(photo, reconstruction, orientation, _features(image_id, mesh, pose, camera, maps.mask, rng))


def _features(image_id: str, mesh: Mesh, pose: Pose, camera: Camera, mask: np.ndarray, rng: np.random.Generator) -> Features:
    box = Letterbox(WIDTH, HEIGHT)
    foreground = box.sample_mask(mask)
    raster = Raster(mesh)
    hits = raster.surface_cells(pose, camera, box, foreground)
    balls = Geodesic(mesh).balls(np.unique(hits.dominant), 0.4 * mesh.diagonal)
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
    waves = np.random.default_rng(1).normal(0, 4, (3, 12))
    points = np.zeros((box.side**2, 3))
    points[hits.cells] = (mesh.vertices[hits.corners] * hits.barycentric[..., None]).sum(axis=1)
    # Appearance cannot tell left from right: matches across the symmetry are what the geodesic test is for.
    looks = np.sin(np.abs(points) * [0.3, 1, 1] @ waves)
    sources = {}
    for name, side in (("dino", 60), ("sd.s3", 60), ("sd.s4", 30), ("sd.s5", 15)):
        step = box.side // side
        noisy = looks.reshape(60, 60, -1)[::step, ::step] + rng.normal(0, 0.25, (side, side, 12))
        sources[name] = noisy.transpose(2, 0, 1).astype(np.float16)
    rows, columns = np.nonzero(mask)
    return Features(
        image_id=image_id,
        letterbox=box,
        foreground=foreground,
        extent=float(max(np.ptp(rows), np.ptp(columns)) + 1),
        sources=sources,
        shape=np.sin(mesh.vertices @ waves).astype(np.float16),
        surface=surface,
    )

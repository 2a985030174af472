"""One image of the benchmark: draw an instance, look at it, and write the image, its masks, its annotation and its truth."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sc3d.datasets.toys.catalogue import category_named
from sc3d.datasets.toys.config import ToysConfig
from sc3d.datasets.toys.meshing import mesh_toy
from sc3d.datasets.toys.places import places_of
from sc3d.datasets.toys.raycast import ToyScene
from sc3d.datasets.toys.render import Picture, render
from sc3d.datasets.toys.truth import ToyTruth, save_truth
from sc3d.datasets.toys.views import View, sample_view
from sc3d.geometry.camera import project
from sc3d.geometry.mesh import Mesh
from sc3d.records import SPLITS

KEYPOINT_SLOTS = 30
MIN_COMMON = 3
_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_OPTIMIZE, 0, cv2.IMWRITE_JPEG_PROGRESSIVE, 0)
_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 3, cv2.IMWRITE_PNG_STRATEGY, 0)
_POSES = ("Frontal", "Left", "Left", "Rear", "Rear", "Right", "Right", "Frontal")
# A picture that shows less than this of a toy is drawn again.
_LEAST_SHOWN = 0.004


@dataclass(frozen=True)
class Drawing:
    """Which image to draw, and below which folder to write it."""

    root: Path
    config: ToysConfig
    split: str
    category: str
    index: int

    @property
    def stem(self) -> str:
        """File name without extension, unique within the category."""
        return f"{self.split}_{self.index:04d}"


def draw(drawing: Drawing) -> dict[str, Any]:
    """Draw one image, write its files, and return its annotation, which is that of SPair-71k."""
    config = drawing.config
    seed = config.held_out_seed if drawing.split == "test" else config.seed
    rng = np.random.default_rng([seed, SPLITS.index(drawing.split), zlib.crc32(drawing.category.encode()), drawing.index])
    while True:
        view, picture, truth = _observe(rng, drawing)
        if picture.mask.mean() >= _LEAST_SHOWN and truth.visible.sum() >= MIN_COMMON:
            break
    annotation = _annotate(drawing, view, picture, truth)
    _write(drawing, picture, truth, annotation)
    return annotation


def _observe(rng: np.random.Generator, drawing: Drawing) -> tuple[View, Picture, ToyTruth]:
    config = drawing.config
    category = category_named(drawing.category, config.mixed)
    toy = category.build(rng)
    mesh = mesh_toy(toy)
    scene = ToyScene(mesh)
    azimuth = float(rng.uniform(0, 360)) if category.turns else 0.0
    elevation = float(rng.uniform(*category.elevation))
    truncated, occluded = rng.random(2) < [config.truncation, config.occlusion]
    view = sample_view(rng, mesh.vertices, (config.width, config.height), azimuth, elevation, bool(truncated))
    picture = render(rng, toy, scene, view, category, bool(occluded))
    has = np.array([name in toy.keypoints for name in category.keypoints])
    points, normals = scene.snap(mesh.canonical(np.array([toy.keypoints.get(name, (0, 0, 0)) for name in category.keypoints])))
    visible = scene.sees(view, points, normals, picture.mask) & has
    places = places_of(toy, mesh.own(mesh.vertices)) if config.mixed else None
    surface = Mesh(mesh.vertices, mesh.faces)
    truth = ToyTruth(surface, view.camera, view.pose, picture.mask, picture.full_mask, points, visible, places)
    return view, picture, truth


def _annotate(drawing: Drawing, view: View, picture: Picture, truth: ToyTruth) -> dict[str, Any]:
    """The fields of an SPair-71k image annotation. Keypoints are whole pixels there; the truth file has them exactly."""
    width, height = drawing.config.width, drawing.config.height
    xy, _ = project(truth.keypoints, view.pose, view.camera)
    outline, _ = project(truth.mesh.vertices, view.pose, view.camera)
    rounded = np.clip(np.round(xy), 0, [width - 1, height - 1]).astype(int)
    kps = {str(slot): None for slot in range(KEYPOINT_SLOTS)} | {str(i): rounded[i].tolist() for i in np.flatnonzero(truth.visible)}
    rows, columns = np.flatnonzero(picture.mask.any(axis=1)), np.flatnonzero(picture.mask.any(axis=0))
    azimuth_id = int(view.azimuth // 45) % 8
    return {
        "filename": f"{drawing.stem}.jpg",
        "src_database": "sc3d toys",
        "src_annotation": "sc3d toys",
        "src_image": "rendered",
        "image_width": width,
        "image_height": height,
        "image_depth": 3,
        "category": drawing.category,
        "pose": _POSES[azimuth_id],
        "truncated": int(((outline < 0) | (outline > [width, height])).any()),
        "occluded": int((picture.mask != picture.full_mask).any()),
        "difficult": 0,
        "bndbox": [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1],
        "kps": kps,
        "azimuth_id": azimuth_id,
    }


def _write(drawing: Drawing, picture: Picture, truth: ToyTruth, annotation: dict[str, Any]) -> None:
    def place(folder: str, extension: str) -> Path:
        return drawing.root / folder / drawing.category / f"{drawing.stem}.{extension}"

    _, jpeg = cv2.imencode(".jpg", np.ascontiguousarray(picture.pixels[:, :, ::-1]), _JPEG)
    place("JPEGImages", "jpg").write_bytes(jpeg.tobytes())
    _, png = cv2.imencode(".png", picture.mask.astype(np.uint8) * 255, _PNG)
    place("Segmentation", "png").write_bytes(png.tobytes())
    place("ImageAnnotation", "json").write_text(json.dumps(annotation))
    save_truth(place("truth", "npz"), truth)

"""From a toy to a picture of it with its masks: ray casting at pixel centres, four more samples a pixel along edges."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from sc3d.datasets.toys.paint import Paintwork
from sc3d.datasets.toys.raycast import Hits, ToyScene
from sc3d.datasets.toys.surroundings import Light, paint_backdrop, sample_light, sample_occluder
from sc3d.datasets.toys.toy import Category, Toy
from sc3d.datasets.toys.views import View
from sc3d.geometry.camera import project

# Linear light in 8,192 steps -> sRGB, as a gamma of 2.2: a look-up costs a tenth of a power.
_ENCODED = (255 * np.linspace(0, 1, 8192) ** (1 / 2.2)).astype(np.float32)
_SUBPIXELS = np.array([[-0.25, -0.25], [0.25, -0.25], [-0.25, 0.25], [0.25, 0.25]])


@dataclass(frozen=True)
class Picture:
    """A rendered image: sRGB ``pixels`` (H, W, 3) uint8, the ``full_mask`` of the toy within the image and the visible ``mask``."""

    pixels: np.ndarray
    mask: np.ndarray
    full_mask: np.ndarray


def render(rng: np.random.Generator, toy: Toy, scene: ToyScene, view: View, category: Category, occluded: bool) -> Picture:
    """Paint surroundings, toy and occluder. A pixel belongs to the mask if the ray through its centre meets the toy first."""
    light = sample_light(rng, view.azimuth)
    backdrop = paint_backdrop(rng, view, category, float(scene.mesh.vertices[:, 1].min()))
    picture = backdrop.picture
    _cast_shadow(picture, scene, backdrop.ground_index, backdrop.ground_points, light)
    layer, coverage, full_mask = _Painter(toy, scene, view, light, gloss=float(rng.uniform(0.05, 0.35))).paint()
    picture = picture * (1 - coverage[..., None]) + layer
    mask = full_mask
    occluder = sample_occluder(rng, full_mask) if occluded else None
    if occluder is not None:
        picture = picture * (1 - occluder[1][..., None]) + occluder[0] * occluder[1][..., None]
        mask = full_mask & (occluder[1] <= 0.5)
    encoded = _ENCODED[(np.clip(picture * float(rng.uniform(0.9, 1.15)), 0, 1) * (len(_ENCODED) - 1)).astype(np.int32)]
    encoded += rng.standard_normal(encoded.shape, np.float32) * np.float32(rng.uniform(0.5, 3.0))
    return Picture(np.clip(np.round(encoded), 0, 255).astype(np.uint8), mask, full_mask)


def _cast_shadow(picture: np.ndarray, scene: ToyScene, index: np.ndarray, points: np.ndarray, light: Light) -> None:
    near = np.flatnonzero((np.abs(points[:, 0]) < 2.5) & (np.abs(points[:, 2]) < 2.5))
    if not len(near):
        return
    height, width = picture.shape[:2]
    hidden = np.zeros(height * width, np.float32)
    hidden[index[near]] = scene.occluded(points[near] + np.array([0, 1e-3, 0], np.float32), light.direction)
    soft = cv2.GaussianBlur(hidden.reshape(height, width), (0, 0), 2.5)
    ground = np.zeros(height * width, bool)
    ground[index] = True
    picture *= 1 - 0.62 * (soft * ground.reshape(height, width))[..., None]


class _Painter:
    def __init__(self, toy: Toy, scene: ToyScene, view: View, light: Light, gloss: float) -> None:
        self.paintwork, self.scene, self.view, self.light, self.gloss = Paintwork(toy), scene, view, light, gloss

    def paint(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The toy's light (H, W, 3), premultiplied with its coverage (H, W), and its mask at pixel centres (H, W)."""
        camera = self.view.camera
        layer = np.zeros((camera.height, camera.width, 3), np.float32)
        coverage = np.zeros((camera.height, camera.width), np.float32)
        rows, columns = self._window()
        x, y = np.meshgrid(np.arange(columns.start, columns.stop), np.arange(rows.start, rows.stop))
        centres = np.column_stack([x.ravel(), y.ravel()]) + 0.5
        hits = self.scene.cast(self.view.rays(centres))
        light = np.zeros((len(centres), 3), np.float32)
        light[hits.index] = self._shade(hits)
        met = np.zeros(len(centres), bool)
        met[hits.index] = True
        edges = self._edges(light, met, x.shape)
        samples = (centres[edges][:, None] + _SUBPIXELS).reshape(-1, 2)
        fine = self.scene.cast(self.view.rays(samples))
        light_fine, met_fine = np.zeros((len(samples), 3), np.float32), np.zeros(len(samples), np.float32)
        light_fine[fine.index], met_fine[fine.index] = self._shade(fine), 1
        share = met.astype(np.float32)
        light[edges], share[edges] = light_fine.reshape(-1, 4, 3).mean(axis=1), met_fine.reshape(-1, 4).mean(axis=1)
        layer[rows, columns], coverage[rows, columns] = light.reshape(*x.shape, 3), share.reshape(x.shape)
        mask = np.zeros(coverage.shape, bool)
        mask[rows, columns] = met.reshape(x.shape)
        return layer, coverage, mask

    def _window(self) -> tuple[slice, slice]:
        camera = self.view.camera
        xy, _ = project(self.scene.mesh.vertices, self.view.pose, camera)
        left, top = np.maximum(np.floor(xy.min(axis=0)) - 1, 0).astype(int)
        right, bottom = np.minimum(np.ceil(xy.max(axis=0)) + 1, [camera.width, camera.height]).astype(int)
        return slice(top, bottom), slice(left, right)

    @staticmethod
    def _edges(light: np.ndarray, met: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Flat indices of the pixels whose neighbourhood is not smooth."""
        grey = (np.clip(light.mean(axis=1), 0, 1) ** (1 / 2.2) + 2.0 * met).reshape(shape).astype(np.float32)
        kernel = np.ones((3, 3), np.uint8)
        return np.flatnonzero((cv2.dilate(grey, kernel) - cv2.erode(grey, kernel)).ravel() > 0.12)

    def _shade(self, hits: Hits) -> np.ndarray:
        """Linear RGB (M, 3): hemisphere ambient dimmed by openness, Lambert with a hard shadow, and a Blinn highlight."""
        light = self.light
        colours = self.paintwork.colours(self.scene.mesh.own(hits.points))
        facing = hits.normals @ light.direction
        lit = np.maximum(facing, 0)
        candidates = np.flatnonzero(facing > 0.02)
        blocked = self.scene.occluded(hits.points[candidates] + 0.02 * hits.normals[candidates], light.direction)
        lit[candidates[blocked]] *= 0.15
        up = (0.5 + 0.5 * hits.normals[:, 1])[:, None]
        ambient = (light.sky * up + light.ground * (1 - up)) * hits.openness[:, None]
        to_camera = self.view.centre.astype(np.float32) - hits.points
        half = _unit(_unit(to_camera) + light.direction)
        highlight = self.gloss * np.maximum(np.einsum("nc,nc->n", half, hits.normals), 0) ** 40 * (lit > 0.05)
        return np.asarray(colours * (ambient + lit[:, None] * light.colour) + highlight[:, None] * light.colour)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.sqrt(np.maximum(np.einsum("nc,nc->n", vectors, vectors), 1e-18))[:, None])

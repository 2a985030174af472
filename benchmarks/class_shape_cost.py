"""What a class shape costs: seconds a category, an image and a match, and memory, at as many keypoints as any category has.

A category of 30 keypoints and 55 images is SPair-71k's largest. Its images are renders of one blob, with features of 768 channels that say
where on it a cell lies; no part is made up but them. The authors take 10 to 20 minutes a category, on a GPU; what they take an image is not
published.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import trimesh
from scipy.spatial.transform import Rotation

from benchmarks import row
from sc3d.class_shapes.alignment import align, align_images
from sc3d.class_shapes.build import Annotated, build_class_shape
from sc3d.class_shapes.carry import aligned_image, carried
from sc3d.class_shapes.observation import Depth, annotate, observe, unit_rows
from sc3d.geometry.camera import Camera, Pose
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.raster import Raster
from sc3d.geometry.sampling import scattered
from sc3d.grid import Letterbox

BENCH = "class shape cost"
KEYPOINTS, IMAGES, NEW, CHANNELS = 30, 55, 8, 768
_WIDTH, _HEIGHT, _FOCAL, _NOISE = 320, 240, 400.0, 0.5


class _Category:
    """A blob with a nose and a fin, so that no turn of it looks like another, and its keypoints."""

    def __init__(self) -> None:
        rng = np.random.default_rng(3)
        ball = trimesh.creation.icosphere(4)
        vertices = ball.vertices * [0.5, 0.25, 0.22]
        for towards in ([1.0, 0.2, 0.0], [-0.7, 1.0, 0.0], [0.1, 0.1, 1.0]):
            direction = np.array(towards) / np.linalg.norm(towards)
            vertices += 0.25 * np.exp(8 * (ball.vertices @ direction - 1))[:, None] * direction
        self.mesh = Mesh(vertices.astype(np.float32), ball.faces.astype(np.int32))
        self.keypoints = vertices[scattered(vertices, KEYPOINTS)]
        self._waves, self._phases = rng.normal(size=(3, CHANNELS)) * 5, rng.uniform(0, 2 * np.pi, CHANNELS)

    def view(self, seed: int) -> tuple[Annotated, Letterbox, np.ndarray]:
        """An image with its keypoints, its grid, and the features of all cells."""
        rng = np.random.default_rng([seed, 5])
        pose = Pose(Rotation.random(rng=rng).as_matrix(), np.array([0.0, 0.0, 2.2]), 1.0)
        camera = Camera(np.array([[_FOCAL, 0, _WIDTH / 2], [0, _FOCAL, _HEIGHT / 2], [0, 0, 1.0]]), _WIDTH, _HEIGHT)
        maps = Raster(self.mesh).render(pose, camera, _WIDTH, _HEIGHT)
        depth, box = np.where(maps.mask, maps.depth, np.nan), Letterbox(_WIDTH, _HEIGHT, 60)
        at = np.clip(box.centres().astype(int), 0, [_WIDTH - 1, _HEIGHT - 1])
        z = np.nan_to_num(depth[at[:, 1], at[:, 0]], nan=2.2)
        flat = (at + 0.5 - [_WIDTH / 2, _HEIGHT / 2]) / _FOCAL * z[:, None]
        places = (np.concatenate([flat, z[:, None]], axis=1) - pose.t) @ pose.R
        features = np.cos(places @ self._waves + self._phases) + _NOISE * rng.normal(size=(len(places), CHANNELS))
        known = Depth(depth.astype(np.float32), _WIDTH / _FOCAL)
        seen, xy = self._seen(pose, depth)
        observation = observe(f"view{seed}", box, box.sample_mask(maps.mask), known, features)
        return (observation, annotate(observation, seen, xy, known, maps.mask, features)), box, unit_rows(features)

    def _seen(self, pose: Pose, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ids of the keypoints that no part hides, and their pixels."""
        points = pose.apply(self.keypoints)
        xy = points[:, :2] / points[:, 2:] * _FOCAL + [_WIDTH / 2, _HEIGHT / 2]
        at = np.clip(xy.astype(int), 0, [_WIDTH - 1, _HEIGHT - 1])
        seen = np.flatnonzero(np.nan_to_num(depth[at[:, 1], at[:, 0]], nan=np.inf) > points[:, 2] - 0.03)
        return seen, xy[seen]


def run() -> Iterator[dict[str, Any]]:
    """Yield seconds a category, an image and a match, and the memory of the process that did it."""
    # Memory is that of a process of its own, which has done nothing else.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        seconds, memory = pool.submit(_measured).result()
    for name, value, unit, n in (
        ("seconds a category of 55 images, 30 keypoints", seconds[0], "s", 1),
        (f"seconds an image, {NEW} side by side", seconds[1], "s", NEW),
        ("seconds an image by itself", seconds[2], "s", 1),
        ("milliseconds a match of 10 points", 1000 * seconds[3], "ms", NEW * (NEW - 1)),
        ("memory", memory, "GB", 1),
    ):
        yield row(BENCH, name, value, unit, "lower", n=n)


def _measured() -> tuple[tuple[float, float, float, float], float]:
    category = _Category()
    views = [category.view(seed) for seed in range(IMAGES + NEW)]
    start = time.perf_counter()
    shape = build_class_shape("blob", [view for view, _, _ in views[:IMAGES]])
    built = time.perf_counter()
    fits = align_images(shape, [view[0] for view, _, _ in views[IMAGES:]])
    aligned = time.perf_counter()
    align(shape, views[IMAGES][0][0])
    one = time.perf_counter() - aligned
    images = [aligned_image(shape, fit, box, features) for fit, (_, box, features) in zip(fits, views[IMAGES:], strict=True)]
    xy = np.random.default_rng(0).uniform([100, 80], [220, 160], (10, 2))
    begun = time.perf_counter()
    for source in images:
        for target in images:
            if source is not target:
                carried(source, xy, target)
    matched = (time.perf_counter() - begun) / (NEW * (NEW - 1))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return (built - start, (aligned - built) / NEW, one, matched), memory


if __name__ == "__main__":
    for line in run():
        print(f"{line['figure']:50} {line['value']:>8} {line['unit']}", flush=True)

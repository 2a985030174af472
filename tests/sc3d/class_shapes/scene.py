"""Photos of a category made of ellipsoids, ray-cast exactly: their depth, their features by place on the object, their keypoints."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from sc3d.class_shapes.observation import Annotation, Depth, Observation, annotate, observe
from sc3d.grid import Letterbox

# Centre and radii of body, neck, head, two wings, tail fin, belly: x forward, y down, z to the side.
PARTS = np.array(
    [
        [[0.0, 0.0, 0.0], [0.45, 0.12, 0.13]],
        [[0.36, -0.15, 0.0], [0.08, 0.2, 0.07]],
        [[0.45, -0.33, 0.0], [0.14, 0.08, 0.08]],
        [[-0.02, 0.0, 0.25], [0.14, 0.04, 0.28]],
        [[-0.02, 0.0, -0.25], [0.14, 0.04, 0.28]],
        [[-0.42, -0.1, 0.0], [0.1, 0.2, 0.04]],
        [[0.05, 0.12, 0.0], [0.2, 0.13, 0.08]],
    ]
)
# Part and direction of each keypoint; those of one mirror pair follow each other.
KEYPOINTS = (
    (0, (-1.0, 0.3, 0.0)),
    (2, (1.0, 0.0, 0.0)),
    (2, (-0.7, -0.7, 0.0)),
    (5, (-0.5, -1.0, 0.0)),
    (6, (0.0, 1.0, 0.0)),
    (0, (1.0, 0.4, 0.0)),
    (3, (0.0, 0.0, 1.0)),
    (4, (0.0, 0.0, -1.0)),
    (3, (1.0, 0.0, 0.5)),
    (4, (1.0, 0.0, -0.5)),
    (2, (0.2, 0.1, 1.0)),
    (2, (0.2, 0.1, -1.0)),
)


@dataclass(frozen=True, eq=False)
class View:
    """An image and the truth about it: the pose X_cam = R X + t of an object of factors ``size`` (3,), its keypoints' pixels (K, 2), which
    of them are seen (K,), and the canonical places (height, width, 3) that its pixels show."""

    letterbox: Letterbox
    R: np.ndarray
    t: np.ndarray
    size: np.ndarray
    inverse: float
    depth: Depth
    mask: np.ndarray
    features: np.ndarray
    xy: np.ndarray
    seen: np.ndarray
    places: np.ndarray
    observation: Observation
    annotation: Annotation


class Scene:
    """A category.

    Args:
        likeness: how much a place looks like the place half a turn about the vertical from it, 0 to 1; 1: exactly.
        noise: of features, beside the 1 of what they show.
    """

    def __init__(self, likeness: float = 0.0, noise: float = 0.3, channels: int = 64) -> None:
        rng = np.random.default_rng(7)
        self._waves, self._phases = rng.normal(size=(3, channels)) * 5, rng.uniform(0, 2 * np.pi, channels)
        self.likeness, self.noise = likeness, noise
        self.keypoints = np.array([_tip(PARTS[part], np.array(towards)) for part, towards in KEYPOINTS])
        self.mirrored = {6: 7, 7: 6, 8: 9, 9: 8, 10: 11, 11: 10}

    def describe(self, places: np.ndarray) -> np.ndarray:
        """Features (..., C) of canonical places (..., 3)."""
        own, other = (np.cos(at @ self._waves + self._phases) for at in (places, places * [-1, 1, -1]))
        return np.asarray((1 - self.likeness / 2) * own + self.likeness / 2 * other)

    def view(self, seed: int, known: bool = True, side: int = 60, width: int = 120, height: int = 90) -> View:
        """An object of the category from a random side, upright within 30 degrees."""
        rng = np.random.default_rng([seed, 11])
        yaw, pitch, roll = rng.uniform(-180, 180), rng.uniform(-10, 30), rng.uniform(-10, 10)
        R = Rotation.from_euler("zxy", [roll, pitch, yaw], degrees=True).as_matrix()
        size, inverse = rng.uniform(0.9, 1.1, 3), float(rng.uniform(0.45, 0.8))
        t = np.array([*rng.uniform(-0.05, 0.05, 2), 1.25 / inverse])
        box = Letterbox(width, height, side)
        rows, columns = np.mgrid[:height, :width]
        pixels = np.stack([columns, rows], axis=-1) + 0.5
        rays = np.concatenate([(pixels - [width / 2, height / 2]) / max(width, height) * inverse, np.ones((height, width, 1))], 2)
        depth, places = _cast(rays, R, t, size)
        mask = np.isfinite(depth)
        features = self._features(box, places, mask, rng)
        known_depth = Depth(depth.astype(np.float32), inverse if known else None)
        camera = (self.keypoints * size) @ R.T + t
        xy = camera[:, :2] / camera[:, 2:] / inverse * max(width, height) + [width / 2, height / 2]
        hit, _ = _cast((camera / camera[:, 2:])[None], R, t, size)
        seen = (hit[0] > camera[:, 2] - 0.03) & (xy >= 0).all(axis=1) & (xy < [width, height]).all(axis=1)
        observation = observe(f"view{seed}", box, box.sample_mask(mask), known_depth, features)
        annotation = annotate(observation, np.flatnonzero(seen), xy[seen], known_depth, mask, features)
        return View(box, R, t, size, inverse, known_depth, mask, features, xy, seen, places, observation, annotation)

    def _features(self, box: Letterbox, places: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        at = np.clip(box.centres().astype(int), 0, [box.width - 1, box.height - 1])
        found = self.describe(np.nan_to_num(places[at[:, 1], at[:, 0]]))
        background = rng.normal(size=found.shape) * found.std()
        found = np.where(box.sample_mask(mask).reshape(-1, 1), found, background)
        return np.asarray(found + rng.normal(size=found.shape) * found.std() * self.noise, np.float32)


def _tip(part: np.ndarray, towards: np.ndarray) -> np.ndarray:
    centre, radii = part
    return np.asarray(centre + towards / np.linalg.norm(towards / radii))


def _cast(rays: np.ndarray, R: np.ndarray, t: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Depths (H, W) where rays (H, W, 3) of z = 1 first meet the object, NaN where they do not, and the canonical places met."""
    # In the frame of the object, canonical: X = (R^T (z d - t)) / size.
    along, origin = rays @ R / size, -(t @ R) / size
    best = np.full(rays.shape[:2], np.inf)
    for centre, radii in PARTS:
        d, o = along / radii, (origin - centre) / radii
        a, b, c = (d * d).sum(-1), (d * o).sum(-1), (o * o).sum() - 1
        inside = b * b - a * c
        z = (-b - np.sqrt(np.maximum(inside, 0))) / a
        best = np.where((inside > 0) & (z > 0), np.minimum(best, z), best)
    found = np.isfinite(best)
    z = np.where(found, best, np.nan)
    return z, origin + along * z[..., None]


def turn_error(first: np.ndarray, second: np.ndarray) -> float:
    """Degrees between two rotations."""
    return float(np.degrees(np.arccos(np.clip((np.trace(first @ second.T) - 1) / 2, -1, 1))))


def true_keypoints(view: View, scene: Scene, ids: np.ndarray) -> np.ndarray:
    """Camera points (K, 3) of keypoints."""
    return np.asarray((scene.keypoints[ids] * view.size) @ view.R.T + view.t)

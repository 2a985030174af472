"""Where an alignment starts: poses of the rigid class shape that an image's features propose, beside random ones. Ours.

A proposal is the scaled orthographic camera through four cells and the points that they look like most. Its mirror twin, which sees the
same outline with left and right exchanged, is proposed too: features that do not know left from right cannot tell the two, the energy can.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from sc3d.class_shapes.camera import principal_point
from sc3d.class_shapes.class_shape import ClassShape
from sc3d.class_shapes.energy import ImageTerms, outline
from sc3d.class_shapes.observation import Observation
from sc3d.class_shapes.rotations import angles_between

_COARSE = 0.1
"""Spatial deviation at which proposals are compared, in longer sides."""
_APART, _SAME = 45.0, 20.0
"""Degrees between two hypotheses that are tried, and below which they have met. Where features leave the side open, the best of near ones
would all face the same way."""


@dataclass(frozen=True, eq=False)
class Poses:
    """H similarities ``X_cam = scale * R @ X + t`` with inverse focal lengths: (H, 3, 3), (H,), (H, 3), (H,), float32 tensors."""

    R: torch.Tensor
    scale: torch.Tensor
    t: torch.Tensor
    inverse_focal: torch.Tensor

    @classmethod
    def joined(cls, poses: Sequence[Poses]) -> Poses:
        """All of several."""
        return cls(*(torch.cat([getattr(one, field.name) for one in poses]) for field in fields(cls)))

    def apply(self, points: torch.Tensor) -> torch.Tensor:
        """Canonical points (N, 3), or others for each pose (H, N, 3) -> camera points (H, N, 3)."""
        return self.scale[:, None, None] * points @ self.R.transpose(1, 2) + self.t[:, None]


def proposals(shape: ClassShape, observation: Observation, terms: ImageTerms, count: int, seed: int = 0, drawn: int = 160) -> Poses:
    """The ``count`` best different poses of ``drawn`` random rotations, as many from features, and the mirror twins of all. The pose of the
    image's mesh comes first, where the class shape knows what it means.

    The best are those of the least reconstruction and background terms at a coarse deviation.
    """
    rng = np.random.default_rng(seed)
    rotations = np.concatenate([Rotation.random(drawn, rng=rng).as_matrix(), _from_features(shape, terms, drawn, rng)])
    normal = mirror_normal(shape)
    if normal is not None:
        rotations = np.concatenate([rotations, mirror_twins(rotations, normal)])
    posed = observation.pose is not None and shape.poses.trust > 0
    if posed:
        rotations = np.concatenate([rotations, (observation.pose @ shape.poses.rotation)[None]])
    poses = fit_to_mask(rotations, shape, observation)
    dense = torch.from_numpy(shape.points.astype(np.float32)).to(terms.places.device)
    coarse = terms.coarse()
    seen = coarse.seen(poses.apply(dense), 1 / poses.inverse_focal)
    point, semantic = coarse.explained_by(seen, _COARSE)
    at = seen.gather(1, point[..., None].expand(-1, -1, 3))
    cost = coarse.reconstruction(at, semantic, _COARSE) + coarse.background(outline(seen))
    costs = cost.cpu().numpy()
    if posed:
        costs[-1] = -np.inf
    kept = different(rotations, costs, count, _APART)
    return Poses(*(values[kept] for values in (poses.R, poses.scale, poses.t, poses.inverse_focal)))


def _from_features(shape: ClassShape, terms: ImageTerms, count: int, rng: np.random.Generator) -> np.ndarray:
    """Rotations (count, 3, 3) of scaled orthographic cameras through four cells and their likeliest points each."""
    points = shape.points[terms.candidates[0, :, 0].cpu().numpy()]
    xy = terms.places[0, :, :2].cpu().numpy().astype(np.float64)
    likely = np.exp(terms.log_semantic[0, :, 0].cpu().numpy().astype(np.float64))
    likely = (likely + 1e-6) / (likely + 1e-6).sum()
    four = np.stack([rng.choice(len(xy), 4, p=likely) for _ in range(count)])
    X, x = points[four], xy[four]
    X, x = X - X.mean(axis=1, keepdims=True), x - x.mean(axis=1, keepdims=True)
    # Least squares of x = A X, then the nearest two rows of a rotation.
    gram = X.transpose(0, 2, 1) @ X + 1e-6 * np.eye(3)
    affine = np.linalg.solve(gram, X.transpose(0, 2, 1) @ x).transpose(0, 2, 1)
    u, _, vt = np.linalg.svd(affine, full_matrices=False)
    rows = u @ vt
    return np.stack([rows[:, 0], rows[:, 1], np.cross(rows[:, 0], rows[:, 1])], axis=1)


def mirror_normal(shape: ClassShape) -> np.ndarray | None:
    """The unit normal (3,) of the plane that exchanges the keypoints that a mirror exchanges; ``None`` where there are none."""
    other = np.flatnonzero(shape.twins != np.arange(len(shape.twins)))
    if not len(other):
        return None
    across = shape.keypoints[other] - shape.keypoints[shape.twins[other]]
    return np.asarray(np.linalg.svd(across)[2][0])


def mirror_twins(rotations: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Rotations (H, 3, 3) that see a mirror-symmetric object at the same places with its two sides exchanged.

    The reflection S of the object turns the image's rows r1, r2 into r1 S, r2 S, and the line of sight into -r3 S.
    """
    reflected = rotations @ (np.eye(3) - 2 * np.outer(normal, normal))
    reflected[:, 2] *= -1
    return np.asarray(reflected)


def fit_to_mask(rotations: np.ndarray, shape: ClassShape, observation: Observation) -> Poses:
    """Poses of given rotations (H, 3, 3) whose points lie around the mask's middle with its spread, at the object's depth."""
    dense = shape.points
    inverse = observation.inverse_focal or shape.inverse_focal
    depth = float(np.median(observation.depth))
    turned = dense @ rotations.transpose(0, 2, 1)
    middle = observation.xy.mean(axis=0)
    wanted = float(np.sqrt(observation.xy.var(axis=0).sum())) * depth * inverse
    scale = wanted / np.sqrt(turned[..., :2].var(axis=1).sum(axis=1))
    target = depth * np.array([*(middle - principal_point(observation.size)) * inverse, 1.0])
    t = target - scale[:, None] * turned.mean(axis=1)
    tensors = (torch.from_numpy(np.asarray(value, np.float32)) for value in (rotations, scale, t, np.full(len(scale), inverse)))
    return Poses(*tensors)


def different(rotations: np.ndarray, cost: np.ndarray, count: int, apart: float = _SAME) -> np.ndarray:
    """Indices of the cheapest rotations that are at least so many degrees apart, at most ``count`` of them."""
    kept: list[int] = []
    for candidate in np.argsort(cost, kind="stable"):
        if len(kept) == count:
            break
        if not kept or angles_between(rotations[candidate][None], rotations[kept]).min() >= np.radians(apart):
            kept.append(int(candidate))
    return np.array(kept, np.int64)

"""What posed meshes say of the pose of a class shape: how their common frame lies to the class shape's, and how often that was right. Ours.

A reconstruction is a mesh in a frame that the meshes of its category share, and a pose. Where that frame lies in the class shape is
learned from the images that this is built from, whose keypoints say how each is turned. So is how far poses can be trusted: those of
reconstructions that know no front agree with nothing, and have no say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from sc3d.class_shapes.rotations import angles_between, best_rotation

APART = 45.0
"""Degrees from which on two poses of meshes are different ones: meshes are turned by quarters."""
_NEAR, _OTHER = np.cos(np.radians([20.0, 60.0])).tolist()
"""Cosines of the angles up to which a pose is the mesh's, and from which on it is another one."""
_FEWEST = 4


@dataclass(frozen=True, eq=False)
class PosePrior:
    """``rotation`` (3, 3) from the class shape's frame to that of the meshes, and the share ``trust`` of the images that agree with it, one
    that does not counted in; 0 where nothing is known."""

    rotation: np.ndarray
    trust: float

    @property
    def cost(self) -> float:
        """What a pose costs that is another than the mesh's: the logarithm of the odds, 0 where it is as likely wrong as right."""
        return float(np.log(max(self.trust / (1 - self.trust), 1.0)))

    def rotations_of(self, poses: Sequence[np.ndarray | None]) -> torch.Tensor:
        """How meshes' poses (3, 3) turn the class shape: (B, 3, 3) float32, zeros where none is known."""
        known = [np.zeros((3, 3)) if pose is None else pose @ self.rotation for pose in poses]
        return torch.from_numpy(np.stack(known).astype(np.float32))

    def disagreement(self, meshes: torch.Tensor, rotations: torch.Tensor) -> torch.Tensor:
        """What rotations (H, 3, 3) of the class shape cost (H,) beside those that :meth:`rotations_of` has for the meshes: nothing near
        them, :attr:`cost` where they are others, and in between what keeps those that are near from leaving."""
        cosine = ((rotations * meshes).sum(dim=(1, 2)) - 1) / 2
        known = meshes.any(dim=2).any(dim=1)
        return self.cost * ((_NEAR - cosine) / (_NEAR - _OTHER)).clamp(0, 1) * known


NO_POSES = PosePrior(np.eye(3), 0.0)


def learn_pose_prior(keypoints: np.ndarray, lifted: np.ndarray, poses: Sequence[np.ndarray | None]) -> PosePrior:
    """How the meshes' frame lies to a class shape's.

    Args:
        keypoints: (K, 3) of the class shape.
        lifted: (S, K, 3) where the cameras of its images see them; NaN where one is not seen.
        poses: of each image the rotation (3, 3) from the meshes' frame to the camera's, if it is known.
    """
    found = []
    for points, pose in zip(lifted, poses, strict=True):
        seen = np.isfinite(points).all(axis=1)
        if pose is not None and seen.sum() >= _FEWEST:
            found.append(pose.T @ best_rotation(keypoints[seen], points[seen]))
    if not found:
        return NO_POSES
    turns = np.stack(found)
    near = np.degrees(angles_between(turns[:, None], turns[None])) <= APART
    agreeing = near[near.sum(axis=1).argmax()]
    mean = Rotation.from_matrix(turns[agreeing]).mean().as_matrix()
    return PosePrior(np.asarray(mean), float(agreeing.sum() / (len(turns) + 1)))

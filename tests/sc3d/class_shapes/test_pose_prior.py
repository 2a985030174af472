"""What posed meshes say of the pose of a class shape."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scene import Scene, View
from scipy.spatial.transform import Rotation

from sc3d.class_shapes.alignment import align
from sc3d.class_shapes.build import build_class_shape
from sc3d.class_shapes.pose_prior import NO_POSES, PosePrior, learn_pose_prior
from sc3d.class_shapes.rotations import angles_between

FRAME = Rotation.from_euler("xyz", [20, 130, -40], degrees=True).as_matrix()
"""From the frame of the meshes to that of the scene: nobody says that they are the same."""
QUARTER = Rotation.from_euler("y", 90, degrees=True).as_matrix()


def _apart(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.degrees(angles_between(first, second)))


def _images(count: int, hidden: int = 0) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Keypoints (K, 3), where cameras see them (S, K, 3), and the poses of the meshes, without noise."""
    rng = np.random.default_rng(11)
    keypoints, R = rng.normal(size=(9, 3)), Rotation.random(count, rng=rng).as_matrix()
    lifted = keypoints @ R.transpose(0, 2, 1) + [0, 0, 5]
    lifted[:, :hidden] = np.nan
    return keypoints, lifted, [one @ FRAME for one in R]


@pytest.mark.parametrize("hidden", [0, 5])
def test_the_frame_of_the_meshes_is_found(hidden: int) -> None:
    """Also where four keypoints are seen, and where a third of the meshes are turned by a quarter."""
    keypoints, lifted, poses = _images(12, hidden)
    prior = learn_pose_prior(keypoints, lifted, poses)
    np.testing.assert_allclose(prior.rotation, FRAME.T, atol=1e-9)
    assert prior.trust == pytest.approx(12 / 13)
    turned = [pose @ QUARTER if i % 3 == 0 else pose for i, pose in enumerate(poses)]
    prior = learn_pose_prior(keypoints, lifted, turned)
    np.testing.assert_allclose(prior.rotation, FRAME.T, atol=1e-9)
    assert prior.trust == pytest.approx(8 / 13)


def test_poses_that_agree_with_nothing_have_no_say() -> None:
    keypoints, lifted, poses = _images(30)
    random = list(Rotation.random(30, rng=np.random.default_rng(12)).as_matrix())
    prior = learn_pose_prior(keypoints, lifted, random)
    assert prior.trust < 0.5
    others = torch.from_numpy(Rotation.random(5, rng=np.random.default_rng(13)).as_matrix())
    assert prior.disagreement(prior.rotations_of(random[:1]), others).tolist() == [0] * 5
    assert learn_pose_prior(keypoints, lifted, [None] * 30) is NO_POSES
    seen = np.where(np.arange(9)[:, None] < 3, lifted, np.nan)
    assert learn_pose_prior(keypoints, seen, poses) is NO_POSES
    assert learn_pose_prior(keypoints, lifted[:1], poses[:1]).cost == 0


def test_another_pose_costs_the_odds() -> None:
    prior = PosePrior(np.eye(3), 0.9)
    R = Rotation.random(rng=np.random.default_rng(14)).as_matrix()
    turns = Rotation.from_rotvec(np.radians([0, 19, 40, 61, 90, 180])[:, None] * [0, 1, 0]).as_matrix()
    found = prior.disagreement(prior.rotations_of([R]), torch.from_numpy(R @ turns)).numpy()
    np.testing.assert_allclose(found[[0, 1, 3, 4, 5]], [0, 0, np.log(9), np.log(9), np.log(9)])
    assert 0 < found[2] < np.log(9)
    assert prior.disagreement(prior.rotations_of([None]), torch.from_numpy(turns)).tolist() == [0] * 6


def _with_pose(view: View, pose: np.ndarray | None) -> View:
    return dataclasses.replace(view, observation=dataclasses.replace(view.observation, pose=pose))


@pytest.mark.slow
def test_true_poses_right_what_features_leave_open_and_false_ones_harm_nothing() -> None:
    """On an object whose front looks exactly like its back, in features that tell little."""
    scene = Scene(likeness=1.0, noise=6.0)
    made, unseen = [scene.view(n) for n in range(24)], [scene.view(n) for n in range(100, 108)]
    random = Rotation.random(40, rng=np.random.default_rng(15)).as_matrix()

    def errors(poses: list[np.ndarray | None]) -> list[float]:
        views = [_with_pose(view, pose) for view, pose in zip([*made, *unseen], poses, strict=True)]
        annotated = [(view.observation, view.annotation) for view in views[: len(made)]]
        shape = build_class_shape("animal", annotated, scene.mirrored, points=200)
        # The gauge of a class shape is its own: it is told by the images that it was built from.
        truth = learn_pose_prior(shape.keypoints, _seen(views[: len(made)], shape.ids), [view.R for view in made])
        return [_apart(align(shape, view.observation).rotation, view.R @ truth.rotation) for view in views[len(made) :]]

    right = errors([view.R @ FRAME for view in [*made, *unseen]])
    none, false = errors([None] * 32), errors(list(random[:32]))
    assert np.mean(np.array(right) < 30) == 1
    assert np.mean(np.array(none) < 30) < 0.9
    assert np.mean(np.array(false) < 30) >= np.mean(np.array(none) < 30) - 0.13


def _seen(views: list[View], ids: np.ndarray) -> np.ndarray:
    """Where the cameras of annotated views see the keypoints of some ids: (S, K, 3), NaN where they do not."""
    lifted = np.full((len(views), len(ids), 3), np.nan)
    for one, view in zip(lifted, views, strict=True):
        at = np.searchsorted(ids, view.annotation.ids)
        middle = np.array(view.observation.size) / (2 * max(view.observation.size))
        flat = (view.annotation.xy - middle) * view.inverse * view.annotation.depth[:, None]
        one[at] = np.concatenate([flat, view.annotation.depth[:, None]], axis=1)
    return lifted

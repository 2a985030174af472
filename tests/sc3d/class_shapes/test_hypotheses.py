"""Where an alignment starts: mirror twins, poses that fit the mask, different rotations."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scene import Scene, turn_error
from scipy.spatial.transform import Rotation

from sc3d.class_shapes.alignment import AlignmentSchedule, align
from sc3d.class_shapes.class_shape import ClassShape
from sc3d.class_shapes.energy import ImageTerms
from sc3d.class_shapes.hypotheses import different, fit_to_mask, mirror_normal, mirror_twins, proposals
from sc3d.class_shapes.pose_prior import PosePrior
from sc3d.class_shapes.rotations import angles_between, best_rotation

seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_a_mirror_twin_sees_the_same_places_with_sides_exchanged(seed: int) -> None:
    """Of a symmetric object, from far away; it is a rotation, and its own twin's twin."""
    rng = np.random.default_rng(seed)
    half = rng.uniform(-1, 1, (5, 3))
    points, normal = np.concatenate([half, half * [1, 1, -1]]), np.array([0.0, 0, 1])
    R = Rotation.random(3, rng=rng).as_matrix()
    twins = mirror_twins(R, normal)
    np.testing.assert_allclose(np.linalg.det(twins), 1, atol=1e-9)
    exchanged = np.roll(np.arange(10), 5)
    np.testing.assert_allclose(
        (points @ R.transpose(0, 2, 1))[..., :2], (points[exchanged] @ twins.transpose(0, 2, 1))[..., :2], atol=1e-9
    )
    np.testing.assert_allclose(mirror_twins(twins, normal), R, atol=1e-9)


def test_the_mirror_plane_of_the_category(shape: ClassShape, scene: Scene) -> None:
    """Across the keypoints that a mirror exchanges; none where it exchanges none."""
    G = best_rotation(shape.keypoints, scene.keypoints[shape.ids])
    normal = mirror_normal(shape)
    assert normal is not None
    assert abs((G @ normal)[2]) > 0.98
    neutral = ClassShape(**{**vars(shape), "twins": np.arange(len(shape.ids))})
    assert mirror_normal(neutral) is None


def test_poses_lie_on_the_mask(shape: ClassShape, scene: Scene) -> None:
    """Around its middle, with its spread, at the object's depth."""
    observation = scene.view(100).observation
    poses = fit_to_mask(Rotation.random(5, rng=np.random.default_rng(0)).as_matrix(), shape, observation)
    terms = ImageTerms(observation, shape.prototypes, observation.inverse_focal or 0)
    seen = terms.seen(poses.apply(torch.from_numpy(shape.points.astype(np.float32))), 1 / poses.inverse_focal)[..., :2].numpy()
    np.testing.assert_allclose(seen.mean(axis=1), np.tile(observation.xy.mean(axis=0), (5, 1)), atol=0.03)
    wanted = np.sqrt(observation.xy.var(axis=0).sum())
    np.testing.assert_allclose(np.sqrt(seen.var(axis=1).sum(axis=1)), wanted, rtol=0.15)


def test_proposals_hold_the_pose_and_its_mirror_twin(shape: ClassShape, scene: Scene) -> None:
    """Within 30 degrees of either, and no two within 45 of each other."""
    view = scene.view(101)
    terms = ImageTerms(view.observation, shape.prototypes, view.inverse)
    found = proposals(shape, view.observation, terms, 16).R.numpy()
    G = best_rotation(shape.keypoints, scene.keypoints[shape.ids])
    assert min(turn_error(R @ G.T, view.R) for R in found) < 30
    normal = mirror_normal(shape)
    assert normal is not None
    twin = mirror_twins((view.R @ G)[None], normal)[0]
    assert min(turn_error(R, twin) for R in found) < 60
    angles = angles_between(found[:, None], found[None]) + np.eye(len(found)) * 10
    assert 10 <= len(found) <= 16
    assert angles.min() >= np.radians(44.9)


def test_the_pose_of_the_mesh_is_proposed_first_where_the_class_shape_knows_what_it_means(shape: ClassShape, scene: Scene) -> None:
    """A fit elsewhere pays for it; without a mesh nothing is paid."""
    frame, wrong = (Rotation.random(rng=np.random.default_rng(seed)).as_matrix() for seed in (21, 22))
    view = scene.view(101)
    observation = dataclasses.replace(view.observation, pose=wrong)
    terms = ImageTerms(observation, shape.prototypes, view.inverse)
    knowing = dataclasses.replace(shape, poses=PosePrior(frame, 1 - 1e-12))
    first = proposals(knowing, observation, terms, 16).R[0].numpy()
    np.testing.assert_allclose(first, wrong @ frame, atol=1e-6)
    assert turn_error(proposals(shape, observation, terms, 16).R[0].numpy(), wrong @ frame) > 5
    few = AlignmentSchedule(hypotheses=6)
    fits = [align(knowing, one, few) for one in (observation, view.observation)]
    cost = knowing.poses.disagreement(knowing.poses.rotations_of([wrong]), torch.from_numpy(fits[0].rotation[None]))
    assert fits[0].terms[4] == pytest.approx(few.weights.pose * float(cost), rel=1e-5)
    assert fits[0].terms[4] > 10
    assert fits[1].terms[4] == 0


def test_different_rotations_come_cheapest_first() -> None:
    """Those nearer than 20 degrees to a cheaper one are left out."""
    turns = Rotation.from_rotvec(np.outer([0, 10, 50, 55, 120], [0, 0, 1.0]), degrees=True).as_matrix()
    cost = np.array([2.0, 1.0, 5.0, 4.0, 3.0])
    assert different(turns, cost, 3).tolist() == [1, 4, 3]
    assert different(turns, cost, 2).tolist() == [1, 4]
    assert different(turns, cost, 5).tolist() == [1, 4, 3]
    assert different(turns, cost, 5, apart=5).tolist() == [1, 0, 4, 3, 2]
    assert different(turns, cost, 5, apart=70).tolist() == [1, 4]

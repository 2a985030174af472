"""A class shape aligned to images that it has not seen, and matches through it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scene import Scene, View, true_keypoints, turn_error
from scipy.spatial.transform import Rotation
from test_energy import true_rotation

from sc3d.class_shapes.alignment import Alignment, AlignmentSchedule, align, align_images
from sc3d.class_shapes.build import build_class_shape
from sc3d.class_shapes.carry import aligned_image, as_similarity, carried, with_features
from sc3d.class_shapes.class_shape import ClassShape
from sc3d.class_shapes.hypotheses import different, fit_to_mask, mirror_normal, mirror_twins
from sc3d.class_shapes.observation import unit_rows
from sc3d.class_shapes.pose_prior import PosePrior

NEW = range(100, 106)


@pytest.fixture(scope="module")
def unseen(scene: Scene) -> list[View]:
    return [scene.view(number) for number in NEW]


@pytest.fixture(scope="module")
def aligned(shape: ClassShape, unseen: list[View]) -> list[Alignment]:
    return [align(shape, view.observation) for view in unseen]


def test_most_poses_are_right_and_keypoints_near(
    scene: Scene, shape: ClassShape, unseen: list[View], aligned: list[Alignment]
) -> None:
    errors = [turn_error(one.rotation, true_rotation(shape, scene, view)) for one, view in zip(aligned, unseen, strict=True)]
    assert np.median(errors) < 12
    assert sum(error < 30 for error in errors) >= 5
    right = [(one, view) for one, view, error in zip(aligned, unseen, errors, strict=True) if error < 30]
    for one, view in right:
        away = np.linalg.norm(one.keypoints - true_keypoints(view, scene, shape.ids), axis=1)
        assert np.median(away) < 0.12


def test_the_same_image_gives_the_same_alignment(shape: ClassShape, unseen: list[View], aligned: list[Alignment]) -> None:
    np.testing.assert_array_equal(align(shape, unseen[0].observation).keypoints, aligned[0].keypoints)


def test_images_side_by_side_are_aligned_as_each_by_itself(shape: ClassShape, scene: Scene) -> None:
    """Whether or not the focal length is known, with and without a mesh's pose, and of few cells and of many."""
    knowing = dataclasses.replace(shape, poses=PosePrior(np.eye(3), 0.9))
    known, unknown, posed, small = (scene.view(101, known=known).observation for known in (True, False, True, True))
    posed = dataclasses.replace(posed, pose=scene.view(101).R @ np.diag([-1.0, 1.0, -1.0]))
    small = dataclasses.replace(small, xy=small.xy[::9], depth=small.depth[::9], features=small.features[::9])
    few = AlignmentSchedule(hypotheses=4, kept=2)
    images = [known, unknown, posed, small]
    together = align_images(knowing, images, few)
    for one, observation in zip(together, images, strict=True):
        alone = align(knowing, observation, few)
        np.testing.assert_allclose(one.keypoints, alone.keypoints, atol=0.02)
        np.testing.assert_allclose(one.history, alone.history, atol=0.02)
        np.testing.assert_allclose([one.inverse_focal, *one.others[:, 0]], [alone.inverse_focal, *alone.others[:, 0]], atol=0.02)
    assert together[0].inverse_focal == pytest.approx(known.inverse_focal)
    assert together[1].inverse_focal != pytest.approx(shape.inverse_focal, rel=1e-6)
    assert [one.terms[4] > 0 for one in together] == [False, False, True, False]
    assert len(small.xy) < 200 < len(known.xy)


def test_an_alignment_says_what_lost_and_by_how_much(aligned: list[Alignment]) -> None:
    schedule = AlignmentSchedule()
    for one in aligned:
        assert one.others.shape[1:] == (2,)
        assert len(one.others) < schedule.kept
        assert (one.others[:, 0] >= one.energy).all()
        turned = one.others[one.others[:, 1] > 30, 0]
        assert one.margin == pytest.approx(turned.min() - one.energy if len(turned) else np.inf)
        assert one.history.shape == (schedule.free_steps + 1, 5)
        assert one.history[-1].sum() == pytest.approx(one.energy, abs=1e-4)


def test_an_unknown_focal_length_is_estimated_within_a_factor(scene: Scene, shape: ClassShape) -> None:
    view = scene.view(101, known=False)
    found = align(shape, view.observation)
    assert 0.4 < found.inverse_focal / view.inverse < 2.5
    assert found.inverse_focal != pytest.approx(shape.inverse_focal, rel=1e-6)


def test_matches_through_the_shape_are_right_where_looks_mislead() -> None:
    """Front and back look nearly alike: at least 0.2 more points within a tenth of the box than the nearest feature (section 8)."""
    scene = Scene(likeness=0.95, noise=1.5)
    views = [scene.view(number) for number in range(20)]
    shape = build_class_shape("animal", [(view.observation, view.annotation) for view in views], scene.mirrored, points=300)
    unseen = [scene.view(number) for number in NEW]
    images = [aligned_image(shape, align(shape, view.observation), view.letterbox, unit_rows(view.features)) for view in unseen]
    nearest, through = [], []
    for a, source in enumerate(unseen):
        for b, target in enumerate(unseen):
            both = np.flatnonzero(source.seen & target.seen)
            if a == b or not len(both):
                continue
            size = max(np.ptp(np.argwhere(target.mask), axis=0)) * 0.1
            cells = source.letterbox.cells_of(source.xy[both])
            looks = images[a].features[cells] @ images[b].features.T
            for found, likely in ((nearest, looks), (through, carried(images[a], source.xy[both], images[b]))):
                at = target.letterbox.centres(likely.argmax(axis=1))
                found += (np.linalg.norm(at - target.xy[both], axis=1) < size).tolist()
    assert np.mean(through) > np.mean(nearest) + 0.2


def test_a_similarity_gives_the_likelihood_back() -> None:
    log = np.random.default_rng(0).normal(size=(3, 50)).astype(np.float32)
    similarity = as_similarity(log, 0.02)
    assert ((similarity >= 0) & (similarity <= 1)).all()
    np.testing.assert_array_equal(similarity.argmax(axis=1), log.argmax(axis=1))
    again = torch.softmax(torch.from_numpy(similarity) / 0.02, dim=1).numpy()
    np.testing.assert_allclose(again, torch.softmax(torch.from_numpy(log), dim=1).numpy(), rtol=1e-3)


def test_features_say_where_exactly_and_overrule_a_shape_that_denies_all_but_one_place() -> None:
    log = np.full((2, 6), -50.0, np.float32)
    log[:, 4] = 0
    log[0, 3] = -0.1
    cosines = np.full((2, 6), 0.3, np.float32)
    # The shape leaves 3 and 4 open, and features prefer 3; of the other, they are sure of what the shape denies.
    cosines[0, 3], cosines[1, 0] = 0.4, 0.9
    assert with_features(log, cosines, 0.0).argmax(axis=1).tolist() == [3, 0]
    assert with_features(log, np.full_like(cosines, 0.3), 0.0).argmax(axis=1).tolist() == [4, 4]
    # A fit that the meshes' poses vouch for is not overruled as easily.
    assert with_features(log, cosines, 8.0).argmax(axis=1).tolist() == [3, 4]


def test_mirror_twins_see_a_symmetric_object_at_the_same_places(shape: ClassShape) -> None:
    normal = mirror_normal(shape)
    assert normal is not None
    points = np.random.default_rng(0).normal(size=(30, 3))
    reflected = points - 2 * points @ np.outer(normal, normal)
    R = Rotation.random(5, rng=np.random.default_rng(1)).as_matrix()
    twins = mirror_twins(R, normal)
    np.testing.assert_allclose(np.linalg.det(twins), 1)
    # What one sees at a point, its twin sees at the mirrored one; and the other way round in depth.
    np.testing.assert_allclose((points @ R.transpose(0, 2, 1))[..., :2], (reflected @ twins.transpose(0, 2, 1))[..., :2])
    np.testing.assert_allclose((points @ R.transpose(0, 2, 1))[..., 2], -(reflected @ twins.transpose(0, 2, 1))[..., 2])


def test_hypotheses_are_different_and_the_cheapest() -> None:
    R = Rotation.random(300, rng=np.random.default_rng(2)).as_matrix()
    cost = np.arange(300.0)
    kept = different(R, cost, 8)
    assert kept[0] == 0
    assert len(set(kept.tolist())) == 8
    apart = [turn_error(R[a], R[b]) for i, a in enumerate(kept) for b in kept[i + 1 :]]
    assert min(apart) > 20
    assert len(different(R[:3], cost[:3], 8)) == 3


def test_a_pose_is_put_where_the_mask_is(shape: ClassShape, unseen: list[View]) -> None:
    view = unseen[1].observation
    poses = fit_to_mask(Rotation.random(4, rng=np.random.default_rng(3)).as_matrix(), shape, view)
    points = poses.apply(torch.from_numpy(shape.points.astype(np.float32))).numpy()
    at = points[..., :2] / points[..., 2:] / unseen[1].inverse + np.array(view.size) / (2 * max(view.size))
    np.testing.assert_allclose(at.mean(axis=1), np.tile(view.xy.mean(axis=0), (4, 1)), atol=0.05)
    np.testing.assert_allclose(np.median(points[..., 2], axis=1), np.median(view.depth), rtol=0.25)

"""Poses and cameras: the projection's definition, and what must not move the image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sc3d.errors import GeometryError
from sc3d.geometry.camera import Camera, Pose, camera_azimuth, looking_from, project, resect, yaw_rotation

POINTS = np.random.default_rng(0).uniform(-0.5, 0.5, (20, 3))


@st.composite
def poses(draw: st.DrawFn) -> Pose:
    seed = draw(st.integers(0, 2**31))
    rng = np.random.default_rng(seed)
    return Pose(
        Rotation.random(random_state=seed).as_matrix(), rng.uniform([-0.3, -0.3, 2.7], [0.3, 0.3, 3.3]), rng.uniform(0.3, 2.0)
    )


def test_a_known_point_lands_on_a_known_pixel() -> None:
    camera = Camera(np.array([[100, 10, 50], [0, 200, 40], [0, 0, 1.0]]), 100, 80)
    xy, depth = project(np.array([[1.0, 2.0, 3.0]]), Pose(np.eye(3), np.array([0, 0, 1.0]), 2.0), camera)
    # X_cam = (2, 4, 7): x = (100 * 2 + 10 * 4) / 7 + 50, y = 200 * 4 / 7 + 40.
    np.testing.assert_allclose(xy, [[240 / 7 + 50, 800 / 7 + 40]])
    np.testing.assert_allclose(depth, [7])


@given(poses(), st.sampled_from([90, 180, 270, 33.3]))
def test_turning_mesh_and_pose_together_does_not_move_the_image(pose: Pose, degrees: float) -> None:
    camera = Camera.from_focal(300, 200, 100)
    before, _ = project(POINTS, pose, camera)
    after, _ = project(POINTS @ yaw_rotation(degrees).T, pose.turned(degrees), camera)
    np.testing.assert_allclose(after, before, atol=1e-9)


@given(poses())
def test_a_resized_camera_sees_the_same_place_of_the_image(pose: Pose) -> None:
    camera = Camera.from_focal(300, 200, 100)
    before, _ = project(POINTS, pose, camera)
    after, _ = project(POINTS, pose, camera.resized(50, 200))
    np.testing.assert_allclose(after / [50, 200], before / [200, 100])


def test_a_quarter_turn_takes_the_front_to_the_right_and_four_are_exact() -> None:
    np.testing.assert_array_equal(yaw_rotation(90) @ [0, 0, 1], [1, 0, 0])
    np.testing.assert_array_equal(np.linalg.matrix_power(yaw_rotation(90), 4), np.eye(3))


def test_points_behind_the_camera_have_no_pixel() -> None:
    xy, depth = project(np.array([[0, 0, -5.0], [0, 0, 5.0]]), Pose(np.eye(3), np.zeros(3)), Camera.from_focal(1, 2, 2))
    assert np.isnan(xy[0]).all()
    assert np.isfinite(xy[1]).all()
    assert depth.tolist() == [-5, 5]


@pytest.mark.parametrize(
    "build",
    [
        lambda: Camera(np.eye(2), 4, 4),
        lambda: Camera(np.diag([0.0, 1, 1]), 4, 4),
        lambda: Camera(np.eye(3), 0, 4),
        lambda: Pose(np.eye(3) * 2, np.zeros(3)),
        lambda: Pose(np.diag([1.0, 1, -1]), np.zeros(3)),
        lambda: Pose(np.eye(3), np.full(3, np.nan)),
        lambda: Pose(np.eye(3), np.zeros(3), -1.0),
    ],
)
def test_unusable_cameras_and_poses_are_refused(build: object) -> None:
    with pytest.raises(GeometryError):
        build()  # type: ignore[operator]


@given(poses(), st.sampled_from([0, 90, 180, 270, 33.3]))
def test_azimuth_is_the_side_that_faces_the_camera_and_follows_a_turn(pose: Pose, degrees: float) -> None:
    centre = -pose.R.T @ pose.t / pose.scale
    np.testing.assert_allclose(pose.apply(centre), 0, atol=1e-9)
    azimuth = camera_azimuth(pose.R, pose.t)
    assert 0 <= azimuth < 360
    np.testing.assert_allclose(
        np.hypot(centre[0], centre[2]) * np.array([np.sin(np.radians(azimuth)), np.cos(np.radians(azimuth))]),
        centre[[0, 2]],
        atol=1e-9,
    )
    turned = pose.turned(degrees)
    gap = (camera_azimuth(turned.R, turned.t) - azimuth - degrees + 180) % 360 - 180
    assert abs(gap) < 1e-6


def test_azimuths_of_many_cameras_and_of_poses_that_are_not_finite() -> None:
    front = np.diag([1.0, -1.0, -1.0])
    rotations = np.stack([front @ yaw_rotation(d).T for d in (0, 90, 180, -1e-18)] + [np.full((3, 3), np.nan)])
    azimuths = camera_azimuth(rotations, np.tile([0, 0, 3.0], (5, 1)))
    np.testing.assert_allclose(azimuths, [0, 90, 180, 0, np.nan], atol=1e-9)
    assert (azimuths[:4] < 360).all()


@given(poses(), st.sampled_from([6, 20]), st.sampled_from([1.0, 1e-3, 1e4]))
def test_a_camera_is_found_again_from_what_it_saw(pose: Pose, n: int, unit: float) -> None:
    """From some points, for others; whatever the points' unit."""
    points = np.random.default_rng(n).uniform(-0.5, 0.5, (n, 3))
    camera = Camera(np.array([[900, 0, 300], [0, 800, 250], [0, 0, 1.0]]), 640, 480)
    projection = resect(points * unit, project(points, pose, camera)[0])
    seen = np.concatenate([POINTS * unit, np.ones((len(POINTS), 1))], axis=1) @ projection.T
    assert (seen[:, 2] > 0).all()
    np.testing.assert_allclose(seen[:, :2] / seen[:, 2:], project(POINTS, pose, camera)[0], atol=1e-3)


def test_points_that_leave_the_camera_open_are_refused() -> None:
    pose, camera = Pose(np.eye(3), np.array([0, 0, 3.0])), Camera.from_focal(300, 200, 100)
    flat = POINTS * (1, 1, 0)
    for points, message in ((POINTS[:5], "5 points"), (flat, "one plane"), (np.repeat(POINTS[:1], 9, axis=0), "one plane")):
        with pytest.raises(GeometryError, match=message):
            resect(points, project(points, pose, camera)[0])


@given(st.floats(-720, 720), st.floats(-89, 89), st.floats(-180, 180))
def test_a_camera_looks_from_where_it_is_told_to(azimuth: float, elevation: float, roll: float) -> None:
    a, e = np.radians([azimuth, elevation])
    forward = -np.array([np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)])
    right = np.array([np.cos(a), 0.0, -np.sin(a)])
    upright = np.stack([right, np.cross(forward, right), forward])
    plain = Rotation.from_euler("z", roll, degrees=True).as_matrix() @ upright
    np.testing.assert_allclose(looking_from(azimuth, elevation, roll), plain, atol=1e-12)

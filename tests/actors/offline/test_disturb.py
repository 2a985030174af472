"""Known meshes and poses made worse: repeatable, visible, and of the announced kinds and sizes only."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.offline.disturb import Disturbed, disturb, seeded_generator, smooth_noise
from sc3d.geometry.camera import Camera, Pose, project, yaw_rotation

CAMERA = Camera.from_focal(400, 320, 240)


@pytest.fixture(scope="module")
def points():
    return np.random.default_rng(0).uniform(-0.5, 0.5, (500, 3)) * (1, 0.6, 0.8)


def pose(seed=0):
    generator = np.random.default_rng(seed)
    q, _ = np.linalg.qr(generator.normal(size=(3, 3)))
    return Pose(q * np.linalg.det(q), np.array([0.2, -0.1, 3.0]), 0.8)


def draws(points, n, wrong_yaw=0.06) -> list[Disturbed]:
    return [disturb(points, pose(), wrong_yaw, seeded_generator(0, f"image-{i}")) for i in range(n)]


def test_generator_depends_on_seed_and_key_alone():
    """The same numbers in another process with another hash seed."""
    code = "from actors.offline.disturb import seeded_generator; print(seeded_generator(3, 'été').integers(2**60))"
    import os

    values = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": s}, capture_output=True, text=True, check=True
        ).stdout
        for s in ("1", "2")
    }
    assert values == {f"{seeded_generator(3, 'été').integers(2**60)}\n"}
    assert seeded_generator(3, "a").random() != seeded_generator(4, "a").random() != seeded_generator(4, "b").random()


def test_same_image_same_disturbance(points):
    one, two = (disturb(points, pose(), 0.5, seeded_generator(1, "a")) for _ in range(2))
    np.testing.assert_array_equal(one.vertices, two.vertices)
    assert (one.turn, one.pose.scale) == (two.turn, two.pose.scale)


def test_turn_does_not_depend_on_the_other_draws(points):
    """With another share of wrong yaws the scale and translation stay, so that runs can be compared."""
    never, always = (disturb(points, pose(), share, seeded_generator(1, "a")) for share in (0.0, 1.0))
    assert never.turn == 0
    assert always.turn != 0
    assert never.pose.scale == always.pose.scale
    np.testing.assert_array_equal(never.pose.t, always.pose.t)


def test_share_of_wrong_yaws(points):
    turns = np.array([d.turn for d in draws(points, 600, 0.25)])
    assert set(turns) == {0, 90, 180, 270}
    assert abs((turns != 0).mean() - 0.25) < 0.06  # 3.4 standard deviations


def test_turned_mesh_looks_the_same_in_the_image(points):
    for one in draws(points, 20, wrong_yaw=1.0):
        back = one.vertices @ yaw_rotation(-one.turn).T
        before = project(back, one.pose.turned(-one.turn), CAMERA)[0]
        np.testing.assert_allclose(project(one.vertices, one.pose, CAMERA)[0], before, atol=1e-6)
        np.testing.assert_allclose(one.pose.turned(-one.turn).R, pose().R, atol=1e-12)  # the rotation itself was right


def test_scale_is_off_by_up_to_a_half_either_way(points):
    factors = np.array([d.pose.scale / pose().scale for d in draws(points, 200)])
    sizes = np.maximum(factors, 1 / factors)
    assert sizes.min() >= 1.1
    assert sizes.max() <= 1.5
    assert 0.35 < (factors > 1).mean() < 0.65


def test_translation_is_visibly_off_but_stays_in_front(points):
    diagonal = np.linalg.norm(np.ptp(points, axis=0)) * pose().scale
    for one in draws(points, 200):
        shift = one.pose.t / one.pose.t[2] - pose().t / pose().t[2]
        assert 0.05 <= np.linalg.norm(shift) * pose().t[2] / diagonal <= 0.15
        assert 0.9 <= one.pose.t[2] / pose().t[2] <= 1.1
        assert (project(one.vertices, one.pose, CAMERA)[1] > 0).all()


def test_noise_is_slight_and_smooth(points):
    diagonal = np.linalg.norm(np.ptp(points, axis=0))
    moved = [np.linalg.norm(d.vertices - points, axis=1) / diagonal for d in draws(points, 50, wrong_yaw=0.0)]
    assert np.sqrt(np.mean(np.square(moved))) == pytest.approx(0.005, rel=0.25)


@given(st.integers(0, 2**32))
def test_close_points_move_together(seed):
    generator = np.random.default_rng(seed)
    points = generator.uniform(-0.3, 0.3, (50, 3))
    noise = smooth_noise(np.concatenate([points, points + 1e-3, points]), generator)
    np.testing.assert_allclose(noise[:50], noise[50:100], atol=0.2)
    np.testing.assert_array_equal(noise[:50], noise[100:])

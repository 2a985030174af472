"""The cards of class shapes: the points lie on the object, lost poses are told from the nearest to winning."""

from __future__ import annotations

import base64
import io
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sc3d.class_shapes.alignment import TERMS, Alignment
from sc3d.class_shapes.class_shape import ClassShape
from sc3d.class_shapes.pose_prior import NO_POSES
from sc3d.class_shapes.prototypes import Prototypes
from sc3d.class_shapes.statistics import GeometryStatistics
from sc3d.geometry.camera import Pose
from sc3d.report.class_shapes import fit_card, shape_card, shape_colours

N, K = 240, 6


@pytest.fixture(scope="module")
def one(scene: ModuleType) -> Any:
    """A posed blob on its photo."""
    return scene.scene_image("blob-0", 3)


@pytest.fixture(scope="module")
def shape(one: Any) -> ClassShape:
    """The blob's surface by six of its vertices; the points outside their hull extrapolate."""
    vertices = np.asarray(one.reconstruction.vertices, np.float64)
    rng = np.random.default_rng(0)
    keypoints = vertices[rng.permutation(len(vertices))[:K]]
    chosen = vertices[rng.permutation(len(vertices))[: N - K]]
    homogeneous = np.concatenate([keypoints, np.ones((K, 1))], axis=1)
    rows = np.concatenate([chosen, np.ones((len(chosen), 1))], axis=1) @ np.linalg.pinv(homogeneous)
    matrix = np.concatenate([rows, np.eye(K)]).astype(np.float32)
    nothing = GeometryStatistics(
        np.zeros((0, 4), int), np.zeros((0, 2, 2), np.float32), np.zeros((0, 4), int), np.zeros((0, 3, 2), np.float32)
    )
    looks = Prototypes(np.ones((N, 1), np.float32), np.ones(N, np.float32), np.ones(N, np.float32))
    return ClassShape("blob", np.arange(K), keypoints, nothing, matrix, looks, np.arange(K), 1.0, 0.5, 9, NO_POSES)


@pytest.fixture(scope="module")
def fit(one: Any, shape: ClassShape) -> Alignment:
    """The pose that the photo was made with, the same found again, and three others."""
    stored = one.reconstruction
    pose = Pose(stored.rotation, stored.translation, stored.scale)
    inverse = max(stored.width, stored.height) / stored.intrinsics[0, 0]
    history = np.linspace([3, 0, 1, 0, 0.25], [1, -0.5, 0, 0.25, 0.25], 20)
    others = np.array([[4.0, 90.0], [1.1, 2.0], [1.5, 178.0], [2.0, 31.0]])
    return Alignment(pose.apply(shape.keypoints), inverse, history[-1], pose.R, 0.5, history, others)


def test_points_are_drawn_where_the_photo_shows_them(one: Any, shape: ClassShape, fit: Alignment) -> None:
    card = fit_card(shape, fit, one.photo, one.reconstruction)
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(card.picture.partition(",")[2]))).convert("RGB")).astype(int)
    # The photo is grey, and so is the blob on it; what is coloured was drawn: points in their colours, and the mask's yellow outline.
    coloured = picture.max(axis=2) - picture.min(axis=2) > 60
    yellow = (picture[..., 0] > 150) & (picture[..., 1] > 130) & (picture[..., 2] < 110)
    rows, columns = np.nonzero(yellow)
    points = np.argwhere(coloured & ~yellow)
    assert len(points) > 1000
    inside = (points >= [rows.min() - 3, columns.min() - 3]) & (points <= [rows.max() + 3, columns.max() + 3])
    assert inside.all(axis=1).mean() > 0.99
    # They cover it.
    assert np.ptp(points[:, 0]) > 0.85 * np.ptp(rows)
    assert np.ptp(points[:, 1]) > 0.85 * np.ptp(columns)


def test_a_card_tells_the_energy_its_terms_and_the_poses_that_lost(one: Any, shape: ClassShape, fit: Alignment) -> None:
    card = fit_card(shape, fit, one.photo, one.reconstruction)
    assert card.energy == pytest.approx(1.0)
    assert dict(card.terms) == dict(zip(TERMS, [1, -0.5, 0, 0.25, 0.25], strict=True))
    assert [(pose.turn, pose.behind) for pose in card.lost] == [(178.0, 0.5), (31.0, 1.0), (90.0, 3.0)]
    assert card.chart.count("<polyline") == 4
    assert "geometry: -0.5 at the end" in card.chart


def test_the_cloud_is_stored_in_parts_of_its_radius(shape: ClassShape) -> None:
    card = shape_card(shape, np.eye(3), ())
    points = np.frombuffer(base64.b64decode(card.points), "<i2").reshape(-1, 3) / 32767
    centred = shape.points - shape.points.mean(axis=0)
    np.testing.assert_allclose(points, centred / np.linalg.norm(centred, axis=1).max(), atol=1e-4)
    colours = np.frombuffer(base64.b64decode(card.colours), np.uint8).reshape(-1, 3)
    assert (colours == shape_colours(shape)).all()
    assert (card.count, card.keypoints, card.images) == (N, K, 9)
    assert [float(value) for value in card.rotation.split()] == np.eye(3).ravel().tolist()


def test_points_that_lie_apart_have_different_colours(shape: ClassShape) -> None:
    points, colours = shape.points, shape_colours(shape).astype(int)
    front, back = points[:, 2].argmax(), points[:, 2].argmin()
    assert np.abs(colours[front] - colours[back]).sum() > 100

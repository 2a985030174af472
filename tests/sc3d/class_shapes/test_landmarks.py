"""Landmarks without annotation: spread over the reference, in mirror pairs, and found again where a mesh comes near."""

from __future__ import annotations

import numpy as np

from sc3d.class_shapes.landmarks import NEAR, choose_landmarks, landmark_vertices, mirror_pairs


def half(seed: int, count: int = 300) -> np.ndarray:
    """Points of one side of a thing whose box has the diagonal 1."""
    return np.random.default_rng(seed).uniform([0.1, -0.3, -0.3], [0.4, 0.3, 0.3], (count, 3))


def test_landmarks_of_a_symmetric_mesh_come_in_pairs_that_a_mirror_exchanges() -> None:
    side = half(0)
    points = np.concatenate([side, side * [-1, 1, 1]])
    landmarks = choose_landmarks(points, 12)
    assert len(landmarks) == len(np.unique(landmarks, axis=0)) == 12
    pairs = mirror_pairs(landmarks)
    assert len(pairs) >= 10
    for one, other in pairs.items():
        assert pairs[other] == one != other
        assert np.linalg.norm(landmarks[one] * [-1, 1, 1] - landmarks[other]) < NEAR


def test_landmarks_of_one_side_have_no_pairs_and_lie_apart() -> None:
    landmarks = choose_landmarks(half(1), 12)
    assert mirror_pairs(landmarks) == {}
    apart = np.linalg.norm(landmarks[:, None] - landmarks[None], axis=-1)[np.triu_indices(12, 1)]
    assert apart.min() > NEAR


def test_landmarks_lie_apart_where_a_mirror_image_is_another_vertex_than_the_farthest() -> None:
    """Two that nearly meet make the geometry of all others too sure."""
    left, right = half(4, 3000), half(5, 3000) * [-1, 1, 1]
    landmarks = choose_landmarks(np.concatenate([left, right]), 20)
    apart = np.linalg.norm(landmarks[:, None] - landmarks[None], axis=-1)[np.triu_indices(len(landmarks), 1)]
    assert apart.min() > 2 * NEAR
    assert len(mirror_pairs(landmarks)) >= 16


def test_there_are_no_more_landmarks_than_places() -> None:
    points = np.repeat(half(6)[:5], 3, axis=0)
    assert len(np.unique(choose_landmarks(points, 12), axis=0)) == len(choose_landmarks(points, 12)) == 5


def test_a_mesh_has_the_landmarks_that_one_of_its_vertices_is_near_to() -> None:
    points = half(2)
    landmarks = choose_landmarks(points, 8)
    # Vertices in another order, a little off, and none near to the last landmark.
    order = np.random.default_rng(3).permutation(len(points))
    places = (points + 0.2 * NEAR)[order]
    places = places[np.linalg.norm(places - landmarks[-1], axis=1) > 2 * NEAR]
    numbers, vertices = landmark_vertices(landmarks, places)
    assert 7 not in numbers
    assert len(numbers) >= 6
    assert np.linalg.norm(places[vertices] - landmarks[numbers], axis=1).max() < NEAR

"""Labels between two photos against dense truth: the right pixel is right, another one is as wrong as it is far."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from sc3d.datasets.toys.catalogue import MIXED
from sc3d.datasets.toys.judge import SeenToy, judge_labels, share_over_pairs
from sc3d.datasets.toys.meshing import ToyMesh, mesh_toy
from sc3d.datasets.toys.places import Places, places_of
from sc3d.datasets.toys.truth import ToyTruth
from sc3d.datasets.toys.views import sample_view
from sc3d.errors import InputError
from sc3d.geometry.camera import project
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.raster import Raster

SIDE = 200


@cache
def placed(category: str, part: str, has: bool) -> tuple[ToyMesh, Places]:
    for seed in range(40):
        toy = MIXED[category].build(np.random.default_rng([11, seed]))
        mesh = mesh_toy(toy)
        places = places_of(toy, mesh.own(mesh.vertices))
        assert places is not None
        if (part in places.names) == has:
            return mesh, places
    raise AssertionError


def seen(azimuth: float, category: str = "car", part: str = "hood", has: bool = True) -> SeenToy:
    mesh, places = placed(category, part, has)
    view = sample_view(np.random.default_rng(1), mesh.vertices, (SIDE, SIDE), azimuth, 20.0, False)
    x, y = np.meshgrid(np.arange(SIDE) + 0.5, np.arange(SIDE) + 0.5)
    surface = Mesh(mesh.vertices, mesh.faces)
    hits = Raster(surface).cast(view.pose, view.camera, np.column_stack([x.ravel(), y.ravel()]))
    mask = (hits.face >= 0).reshape(SIDE, SIDE)
    return SeenToy(ToyTruth(surface, view.camera, view.pose, mask, mask, np.zeros((0, 3)), np.zeros(0, bool), places))


def test_points_in_sight_of_two_photos_are_right_where_both_show_them() -> None:
    """Truth from the mesh and both cameras alone: a vertex that both photos show lies at its two projections."""
    source, target = seen(40), seen(70)
    both = np.flatnonzero(in_sight(source) & in_sight(target))
    assert len(both) > 200
    source_xy, target_xy = (project(one.truth.mesh.vertices[both], one.truth.pose, one.truth.camera)[0] for one in (source, target))
    judged = judge_labels(source, target, source_xy, target_xy)
    assert judged.known.mean() > 0.95
    # A pixel of rounding at either end; at the edges of parts a little more.
    assert np.median(judged.error[judged.known]) < 0.01
    assert judged.wrong(0.05) / judged.known.sum() < 0.02
    assert judged.wrong_part / judged.known.sum() < 0.02
    shifted = judge_labels(source, target, source_xy, target_xy + np.array([0.2 * target.size, 0]))
    np.testing.assert_allclose(np.median(shifted.error[shifted.known]), 0.2, atol=0.02)
    assert shifted.wrong(0.10) > 0.95 * shifted.known.sum()


def in_sight(one: SeenToy) -> np.ndarray:
    truth = one.truth
    xy, depth = project(truth.mesh.vertices, truth.pose, truth.camera)
    hits = Raster(truth.mesh).cast(truth.pose, truth.camera, xy)
    return np.asarray((hits.face >= 0) & (np.abs(hits.depth - depth) < 0.005 * truth.pose.scale))


def test_a_part_that_the_target_does_not_show_is_wrong_wherever_it_is_put() -> None:
    """From the left of one car to the right of the other: a left wheel on a right one."""
    source, target = seen(90), seen(270, has=True)
    xy = {side: centre(one, f"front {side} wheel") for side, one in (("left", source), ("right", target))}
    judged = judge_labels(source, target, xy["left"], xy["right"])
    assert judged.known.all()
    assert np.isinf(judged.error).all()
    assert judged.wrong(0.10) == judged.wrong_part == 1


def centre(one: SeenToy, part: str) -> np.ndarray:
    return np.median(one.xy[one.places.part == one.places.names.index(part)], axis=0, keepdims=True)


def test_what_the_target_lacks_and_what_is_beside_the_toy_is_not_judged() -> None:
    source, target = seen(40, part="bed"), seen(40, part="bed", has=False)
    xy = np.concatenate([centre(source, "bed"), centre(source, "front left wheel"), [[1.0, 1.0], [-5.0, 500.0]]])
    judged = judge_labels(source, target, xy, xy)
    np.testing.assert_array_equal(judged.known, [False, True, False, False])
    np.testing.assert_array_equal(np.isnan(judged.error), ~judged.known)


def test_toys_without_dense_truth_are_refused() -> None:
    truth = seen(0).truth
    plain = ToyTruth(truth.mesh, truth.camera, truth.pose, truth.mask, truth.mask, truth.keypoints, truth.visible)
    with pytest.raises(InputError, match="mixed"):
        SeenToy(plain)


def test_the_interval_is_over_pairs_not_labels() -> None:
    share, low, high = share_over_pairs([100, 0, 0, 0], [100, 100, 100, 100])
    assert share == 25
    assert low == 0
    assert high >= 50
    one = share_over_pairs([25] * 4, [100] * 4)
    np.testing.assert_allclose(one, 25)
    assert np.isnan(share_over_pairs([0], [0])).all()

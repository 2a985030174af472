"""Descriptors against plain references, and the free turn against rendering a turned mesh."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from sc3d.errors import FeatureError
from sc3d.geometry.camera import yaw_rotation
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.orientation.pooling import describe_normals, describe_renders, pool_layer, turned
from sc3d.geometry.orientation.renders import SIDE


def animal(seed: int = 0) -> Mesh:
    """A body along z with a head high up in front."""
    generator = np.random.default_rng(seed)
    body = trimesh.creation.box((0.3, 0.3, 0.9 * generator.uniform(0.9, 1.1)))
    head = trimesh.creation.box((0.2, 0.4, 0.2))
    head.apply_translation((0.03, 0.3, 0.4))
    both = trimesh.util.concatenate([body, head]).subdivide()
    return Mesh(both.vertices, both.faces)


def averages(pictures: np.ndarray) -> list[np.ndarray]:
    """Stands for a network: grey values and their slopes, averaged over cells, at two resolutions."""
    values = pictures.astype(np.float32) / 255
    channels = np.stack([values, *np.gradient(values, axis=(1, 2))], axis=1)
    return [channels.reshape(len(pictures), 3, side, SIDE // side, side, SIDE // side).mean(axis=(3, 5)) for side in (12, 6)]


def test_a_layer_is_pooled_as_a_loop_would_do_it() -> None:
    rng = np.random.default_rng(0)
    layer, masks = rng.normal(size=(8, 5, 6, 6)).astype(np.float32), rng.random((8, 24, 24)) < 0.5
    masks[2] = False
    coverage = np.array(
        [[[masks[v, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4].mean() for x in range(6)] for y in range(6)] for v in range(8)]
    )
    mean = sum(layer[v, :, y, x] * coverage[v, y, x] for v in range(8) for y in range(6) for x in range(6)) / coverage.sum()
    for side, found in zip((1, 3), pool_layer(layer, masks), strict=True):
        step = 6 // side
        for view in range(8):
            expected = np.zeros((5, side, side))
            for i in range(side):
                for j in range(side):
                    ys, xs = range(step * i, step * (i + 1)), range(step * j, step * (j + 1))
                    cell = sum((layer[view, :, y, x] - mean) * coverage[view, y, x] for y in ys for x in xs)
                    covered = np.mean([coverage[view, y, x] for y in ys for x in xs])
                    expected[:, i, j] = cell / max(np.linalg.norm(cell), 1e-12) * covered
            np.testing.assert_allclose(found[view], expected.ravel(), atol=1e-5)


def test_descriptors_have_a_row_a_yaw_and_unit_length() -> None:
    for found in (describe_renders(animal(), averages), describe_normals(animal())):
        assert found.shape[0] == 8
        assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)
    # Two layers of three channels, on one cell and nine, from two elevations.
    assert describe_renders(animal(), averages).shape == (8, 2 * 3 * (1 + 9) * 2)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_turn_costs_nothing(quarters: int) -> None:
    mesh = animal()
    rendered = Mesh(mesh.vertices @ yaw_rotation(90 * quarters).T, mesh.faces)
    for describe in (lambda m: describe_renders(m, averages), describe_normals):
        before, after = describe(mesh), describe(rendered)
        np.testing.assert_allclose(turned(before, quarters), after, atol=5e-3)
        assert np.abs(before - after).max() > 0.02


def test_where_and_how_large_a_mesh_is_does_not_matter() -> None:
    mesh = animal()
    moved = Mesh(1000 * mesh.vertices + np.array([5.0, -3.0, 2.0]), mesh.faces)
    np.testing.assert_allclose(describe_renders(moved, averages), describe_renders(mesh, averages), atol=5e-3)


def test_a_network_that_fails_says_so() -> None:
    with pytest.raises(FeatureError, match="not finite"):
        describe_renders(animal(), lambda pictures: [np.full((len(pictures), 2, 6, 6), np.nan, np.float32)])

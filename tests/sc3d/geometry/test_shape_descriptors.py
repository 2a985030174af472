"""Shape descriptors: what they must not depend on, what they must tell apart, and the parts that they match across instances."""

from __future__ import annotations

from itertools import pairwise, permutations
from pathlib import Path

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from sc3d.errors import GeometryError
from sc3d.geometry.mesh import Mesh, clean_mesh, to_unit_box
from sc3d.geometry.shape_descriptors import laplacian_spectrum, shape_descriptors


def ellipsoid(subdivisions: int = 3) -> Mesh:
    ball = trimesh.creation.icosphere(subdivisions)
    return Mesh(ball.vertices * [0.5, 0.3, 0.4] * (1 + 0.1 * np.sin(3 * ball.vertices[:, 1:2])), ball.faces)


def test_the_spectrum_of_the_sphere_is_known() -> None:
    ball = trimesh.creation.icosphere(4)
    values, functions = laplacian_spectrum(Mesh(ball.vertices, ball.faces), 9)
    # l (l + 1) / R^2, 2 l + 1 times, at total area 1: R^2 = 1 / (4 pi).
    np.testing.assert_allclose(values, 4 * np.pi * np.array([0] + [2] * 3 + [6] * 5), rtol=0.01, atol=1e-4)
    np.testing.assert_allclose((functions**2).mean(axis=0), 1, rtol=0.1)


def test_descriptors_are_unit_vectors_and_repeatable() -> None:
    first, again = shape_descriptors(ellipsoid()), shape_descriptors(ellipsoid())
    assert first.dtype == np.float32
    assert first.shape[0] == len(ellipsoid().vertices)
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(first, again)


@settings(max_examples=10)
@given(st.integers(0, 2**31), st.sampled_from([1e-4, 1.0, 1e4]))
def test_neither_unit_nor_place_nor_vertex_order_matters(seed: int, unit: float) -> None:
    mesh = ellipsoid(2)
    order = np.random.default_rng(seed).permutation(len(mesh.vertices))
    moved = Mesh(mesh.vertices[order] * unit + unit * 3, np.argsort(order)[mesh.faces])
    cosine = np.einsum("ij,ij->i", shape_descriptors(moved), shape_descriptors(mesh)[order])
    # Eigenfunctions of nearly equal eigenvalues mix freely: squared sums over them do not, up to the solver's tolerance.
    assert cosine.min() > 0.999


def test_the_cosine_falls_with_the_distance() -> None:
    mesh = ellipsoid()
    descriptors = shape_descriptors(mesh)
    cosine = descriptors @ descriptors.T
    distance = np.linalg.norm(mesh.vertices[:, None] - mesh.vertices, axis=2)
    means = [cosine[(distance >= low) & (distance < low + 0.1)].mean() for low in (0, 0.1, 0.2, 0.4)]
    assert means[0] > 0.8
    assert all(a > b for a, b in pairwise(means))


def test_left_and_right_of_a_symmetric_shape_are_told_apart() -> None:
    mesh = ellipsoid()
    descriptors = shape_descriptors(mesh)
    mirrored = cKDTree(mesh.vertices).query(mesh.vertices * [-1, 1, 1])[1]
    side = np.abs(mesh.vertices[:, 0]) > 0.2
    assert np.einsum("ij,ij->i", descriptors, descriptors[mirrored])[side].max() < 0.8
    # The shape part alone cannot: mirror images have the same signatures.
    shape = descriptors[:, -32:]
    cosine = np.einsum("ij,ij->i", shape, shape[mirrored]) / np.linalg.norm(shape, axis=1) / np.linalg.norm(shape[mirrored], axis=1)
    assert np.median(cosine) > 0.9


def test_parts_of_different_cars_find_each_other(shared: Path) -> None:
    cars = []
    for path in sorted((shared / "data" / "meshes").glob("car_*.glb")):
        scene = trimesh.load_scene(path)
        places, names = [], []
        for node in scene.graph.nodes_geometry:
            transform, geometry = scene.graph[node]
            places.append(trimesh.transform_points(scene.geometry[geometry].vertices, transform))
            names += [node] * len(places[-1])
        whole = scene.to_mesh()
        mesh = clean_mesh(whole.vertices, whole.faces)
        labels = np.array(names)[cKDTree(np.concatenate(places)).query(mesh.vertices)[1]]
        cars.append((labels, shape_descriptors(to_unit_box(mesh))))
    shares = []
    for (labels, descriptors), (other_labels, others) in permutations(cars, 2):
        wheel = np.char.startswith(labels, "wheel")
        shares.append((labels == other_labels[(descriptors @ others.T).argmax(axis=1)])[wheel].mean())
    # Which of the four wheels: measured 0.94; the position alone gives 0.88, the shape alone 0.24.
    assert np.mean(shares) > 0.9


@settings(max_examples=40)
@given(st.integers(3, 80), st.integers(4, 150), st.integers(0, 2**31))
def test_rough_meshes_get_finite_descriptors_or_a_geometry_error(n: int, n_faces: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mesh = Mesh(np.round(rng.random((n, 3)), int(rng.integers(1, 4))), rng.integers(0, n, (n_faces, 3)))
    try:
        descriptors = shape_descriptors(mesh)
    except GeometryError:
        return
    assert descriptors.shape[0] == n
    np.testing.assert_allclose(np.linalg.norm(descriptors, axis=1), 1, atol=1e-4)


def test_loose_pieces_are_described_together() -> None:
    parts = [trimesh.creation.icosphere(2).apply_translation([x, 0, 0]) for x in (0, 3, 6)]
    both = trimesh.util.concatenate(parts)
    values, _ = laplacian_spectrum(Mesh(both.vertices, both.faces), 6)
    # Joined by bridges: one zero, not three.
    assert values[0] < 1e-6
    assert values[1] > 1e-2


def test_a_mesh_without_extent_is_refused() -> None:
    with pytest.raises(GeometryError):
        shape_descriptors(Mesh(np.zeros((4, 3)), np.zeros((4, 3), int)))

"""A mesh that is warped onto a reference lies on it, part on part, whatever its unit, the order of its vertices and its pose."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from sc3d.datasets.toys.catalogue import MIXED
from sc3d.datasets.toys.meshing import mesh_toy
from sc3d.datasets.toys.places import PlacedMesh, places_of
from sc3d.errors import GeometryError
from sc3d.geometry.mesh import Mesh, decimate, vertex_normals
from sc3d.geometry.registration.extremities import match_extremities
from sc3d.geometry.registration.registrable import Registrable, registrable
from sc3d.geometry.registration.warp import places, warp
from sc3d.geometry.shape_descriptors import shape_descriptors

PARTS_FROM_SEED = 4711


def toy(category: str, instance: int, vertices: int = 1200) -> tuple[Mesh, PlacedMesh]:
    """A toy of mixed build with fewer triangles, and its truth."""
    built = MIXED[category].build(np.random.default_rng([PARTS_FROM_SEED, instance]))
    made = mesh_toy(built)
    mesh, _ = decimate(Mesh(made.vertices, made.faces), vertices)
    found = places_of(built, made.own(mesh.vertices))
    assert found is not None
    return mesh, PlacedMesh(mesh, found)


@pytest.fixture(scope="module")
def animals() -> list[tuple[Registrable, PlacedMesh]]:
    """Quadrupeds of other builds and poses."""
    return [(registrable(mesh), truth) for mesh, truth in (toy("quadruped", instance) for instance in range(4))]


def transfer_errors(place_of: list[np.ndarray], animals: list[tuple[Registrable, PlacedMesh]]) -> np.ndarray:
    """Distances, in diagonals, of the vertices with the nearest places from the true points, over all ordered pairs."""
    errors = []
    for i, (_, source) in enumerate(animals):
        for j, (_, target) in enumerate(animals):
            if i == j:
                continue
            goal = target.find(source.places)
            found = target.mesh.vertices[cKDTree(place_of[j]).query(place_of[i])[1]]
            errors.append(np.linalg.norm(found - goal, axis=1)[np.isfinite(goal).all(axis=1)] / target.mesh.diagonal)
    return np.concatenate(errors)


def test_bodies_of_other_build_and_pose_correspond_where_they_were_warped_to(animals: list[tuple[Registrable, PlacedMesh]]) -> None:
    reference = animals[0][0]
    registered = transfer_errors([places(one, warp(one, reference)) for one, _ in animals], animals)
    nearest = transfer_errors([shape_descriptors(one.mesh) for one, _ in animals], animals)
    assert (registered <= 0.1).mean() > 0.85
    assert (registered <= 0.05).mean() > (nearest <= 0.05).mean() + 0.1


def test_no_left_leg_becomes_a_right_one(animals: list[tuple[Registrable, PlacedMesh]]) -> None:
    reference = animals[0][0]
    found = [places(one, warp(one, reference)) for one, _ in animals]
    for i, j in ((1, 2), (2, 3), (3, 1)):
        source, target = animals[i][1].places, animals[j][1].places
        there = cKDTree(found[j]).query(found[i])[1]
        names = np.array(source.names)[source.part], np.array(target.names)[target.part][there]
        for mine, theirs in (("left", "right"), ("right", "left")):
            legs = np.char.find(names[0], "leg") >= 0
            of_mine, of_theirs = (np.char.find(name, side) >= 0 for name, side in zip(names, (mine, theirs), strict=True))
            assert (legs & of_mine & of_theirs).sum() <= 0.02 * (legs & of_mine).sum()


def test_a_mesh_stays_where_it_is_on_itself(animals: list[tuple[Registrable, PlacedMesh]]) -> None:
    for one, _ in animals:
        assert np.abs(warp(one, one) - one.mesh.vertices).max() < 1e-6


def test_unit_place_and_order_of_the_vertices_do_not_matter() -> None:
    mesh, _ = toy("car", 1, 700)
    reference = registrable(toy("car", 2, 700)[0])
    wanted = warp(registrable(mesh), reference)
    order = np.random.default_rng(0).permutation(len(mesh.vertices))
    other = Mesh((mesh.vertices * 1000 + (5, -3, 2))[order], np.argsort(order)[mesh.faces])
    found = warp(registrable(other), reference)
    # Ties among the scattered vertices may fall otherwise.
    assert np.quantile(np.linalg.norm(found - wanted[order], axis=1), 0.95) < 0.02


def plain_warp(mesh: Registrable, reference: Registrable) -> np.ndarray:
    """The algorithm as it is written down, with every distance and the normal equations."""
    order, _ = match_extremities(mesh.extremities, reference.extremities)
    far_mine = mesh.extremities.distances / mesh.extremities.distances.max(axis=0)
    far_theirs = reference.extremities.distances / reference.extremities.distances.max(axis=0)
    mine, theirs = np.hstack([mesh.signatures, far_mine[:, order]]), np.hstack([reference.signatures, far_theirs])
    axes = np.linalg.svd(np.vstack([mine, theirs]) - theirs.mean(axis=0), full_matrices=False)[2][:8]
    mine, theirs = mine @ axes.T, theirs @ axes.T
    start = mesh.mesh.vertices * np.ptp(reference.mesh.vertices, axis=0) / np.ptp(mesh.mesh.vertices, axis=0)
    goal, moved = reference.mesh.vertices, start
    for stage, k in enumerate((4, 6, 9, 13, 18, 24, 30)):
        weight = max(0.2 * 0.6**stage, 0.02)
        there = np.hstack([goal, 0.2 * vertex_normals(goal, reference.mesh.faces), weight * theirs])
        here = np.hstack([moved, 0.2 * vertex_normals(moved, mesh.mesh.faces), weight * mine])
        between = np.linalg.norm(here[:, None] - there[None], axis=2)
        rows, columns = mesh.samples, reference.samples
        matches = [(i, int(between[i].argmin())) for i in rows] + [(int(between[:, j].argmin()), j) for j in columns]
        distance = np.array([between[i, j] for i, j in matches])
        weights = 1 / (1 + (distance / (2 * np.median(distance))) ** 2)
        phi = np.array([mesh.functions[i, :k] for i, _ in matches])
        pull = np.array([goal[j] - start[i] for i, j in matches])
        rough = 2e-2 * len(matches) * mesh.values[:k] / mesh.values[10] * (phi**2).mean()
        left = phi.T @ np.diag(weights) @ phi + np.diag(rough)
        moved = start + mesh.functions[:, :k] @ np.linalg.solve(left, phi.T @ np.diag(weights) @ pull)
    return moved


def test_it_is_the_algorithm_as_it_is_written_down() -> None:
    mesh, reference = (registrable(toy("chair", instance, 300)[0]) for instance in (0, 1))
    np.testing.assert_allclose(warp(mesh, reference), plain_warp(mesh, reference), atol=1e-6)


def test_the_smallest_meshes_are_registered() -> None:
    tetrahedron = Mesh(
        np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]]), np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])
    )
    reference = registrable(toy("chair", 0, 300)[0])
    found = places(registrable(tetrahedron), warp(registrable(tetrahedron), reference))
    assert found.shape == (4, 6)
    assert np.isfinite(found).all()
    assert np.isfinite(warp(reference, registrable(tetrahedron))).all()


def test_a_point_is_no_mesh() -> None:
    with pytest.raises(GeometryError, match="diagonal 0"):
        registrable(Mesh(np.ones((4, 3)), np.array([[0, 1, 2], [0, 2, 3], [1, 2, 3], [0, 1, 3]])))

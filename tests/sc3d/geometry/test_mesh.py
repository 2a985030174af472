"""Meshes: what is refused, what loading keeps, what cleaning removes, and how far decimation moves the surface."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from sc3d.errors import GeometryError
from sc3d.geometry.mesh import Mesh, clean_mesh, components, decimate, load_mesh, to_unit_box

SPHERE = trimesh.creation.icosphere(2)
TRIANGLES = np.array([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]])
TETRAHEDRON = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]])


def exploded(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every face with three vertices of its own, as the worst texture seams leave it."""
    return vertices[faces].reshape(-1, 3), np.arange(faces.size).reshape(-1, 3)


@pytest.mark.parametrize(
    ("vertices", "faces", "reason"),
    [
        (TETRAHEDRON[:, :2], TRIANGLES, "shape"),
        (TETRAHEDRON, TRIANGLES[:, :2], "shape"),
        (TETRAHEDRON, TRIANGLES[:3], "at least 4 faces"),
        (TETRAHEDRON * [np.nan, 1, 1], TRIANGLES, "not finite"),
        (TETRAHEDRON, TRIANGLES + 1, "there are 4"),
        (TETRAHEDRON, TRIANGLES - 1, "there are 4"),
    ],
)
def test_broken_arrays_are_refused_with_the_reason(vertices: np.ndarray, faces: np.ndarray, reason: str) -> None:
    with pytest.raises(GeometryError, match=reason):
        Mesh(vertices, faces)


def test_edges_are_listed_once() -> None:
    assert Mesh(TETRAHEDRON, TRIANGLES).edges.tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]


@pytest.mark.parametrize("suffix", [".glb", ".obj", ".ply", ".stl"])
def test_a_written_mesh_is_read_back(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"mesh{suffix}"
    SPHERE.export(path)
    mesh = load_mesh(path)
    # STL stores triangles only; cleaning gives back the shared vertices.
    cleaned = clean_mesh(mesh.vertices, mesh.faces)
    assert (len(cleaned.vertices), len(cleaned.faces)) == (len(SPHERE.vertices), len(SPHERE.faces))
    np.testing.assert_allclose(np.sort(np.linalg.norm(cleaned.vertices, axis=1)), 1, atol=1e-6)


def test_scene_transforms_are_applied_to_every_instance(tmp_path: Path) -> None:
    scene = trimesh.Scene()
    for x in (0, 5):
        scene.add_geometry(SPHERE, geom_name="ball", transform=trimesh.transformations.translation_matrix([x, 0, 0]))
    scene.export(tmp_path / "two.glb")
    mesh = load_mesh(tmp_path / "two.glb")
    assert len(mesh.faces) == 2 * len(SPHERE.faces)
    np.testing.assert_allclose(np.ptp(mesh.vertices, axis=0), [7, 2, 2], atol=1e-6)


def test_sample_meshes_load_weld_and_keep_their_box(shared: Path) -> None:
    paths = sorted((shared / "data" / "meshes").glob("*.glb"))
    assert len(paths) == 8
    for path in paths:
        raw = load_mesh(path)
        mesh = clean_mesh(raw.vertices, raw.faces)
        # Their seams store each vertex two to five times.
        assert len(mesh.vertices) < 0.5 * len(raw.vertices)
        np.testing.assert_allclose(np.ptp(mesh.vertices, axis=0), np.ptp(raw.vertices, axis=0), rtol=1e-5)


def test_unreadable_files_are_named_in_a_typed_error(tmp_path: Path) -> None:
    for name, content in {"absent.glb": None, "a.pkl": b"", "empty.glb": b"", "text.obj": b"hello", "points.ply": b"ply\n"}.items():
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(GeometryError, match=name):
            load_mesh(path)


@settings(max_examples=40)
@given(suffix=st.sampled_from(["glb", "ply", "stl", "obj"]), data=st.data())
def test_damaged_files_raise_nothing_but_geometry_errors(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, data: st.DataObject
) -> None:
    content = bytearray(SPHERE.export(file_type=suffix) if suffix != "obj" else SPHERE.export(file_type=suffix).encode())
    content = content[: data.draw(st.integers(0, len(content)))]
    for at in data.draw(st.lists(st.integers(0, max(len(content) - 1, 0)), max_size=8)):
        if content:
            content[at] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / f"mesh.{suffix}"
    path.write_bytes(content)
    with contextlib.suppress(GeometryError):
        load_mesh(path)


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("noise", [0.0, 1e-7])
def test_seams_are_welded_in_any_unit(unit: float, noise: float) -> None:
    vertices, faces = exploded(np.asarray(SPHERE.vertices), np.asarray(SPHERE.faces))
    vertices = vertices + np.random.default_rng(0).normal(0, noise, vertices.shape)
    mesh = clean_mesh(vertices * unit, faces)
    assert (len(mesh.vertices), len(mesh.faces)) == (len(SPHERE.vertices), len(SPHERE.faces))
    assert components(mesh).max() == 0


def test_useless_faces_and_vertices_are_dropped() -> None:
    vertices = np.concatenate([TETRAHEDRON, [[9e9, 9, 9]], [[0.5, 0, 0]]])
    # A repeated corner, a face without area (vertex 5 lies on the edge 0-1), and two copies of a face, one turned round.
    faces = np.concatenate([TRIANGLES, [[0, 0, 1], [0, 5, 1], [2, 1, 0], [1, 2, 0]]])
    mesh = clean_mesh(vertices, faces)
    assert mesh.faces.tolist() == TRIANGLES.tolist()
    np.testing.assert_array_equal(mesh.vertices, TETRAHEDRON)


@settings(max_examples=60)
@given(st.integers(1, 30), st.integers(4, 60), st.integers(0, 2**31), st.integers(0, 12))
def test_cleaning_gives_a_clean_mesh_or_a_geometry_error(n: int, n_faces: int, seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    vertices = rng.integers(0, levels + 1, (n, 3)).astype(float)
    try:
        mesh = clean_mesh(vertices, rng.integers(0, n, (n_faces, 3)))
    except GeometryError:
        return
    assert len(np.unique(mesh.vertices, axis=0)) == len(mesh.vertices)
    assert len(np.unique(np.sort(mesh.faces, axis=1), axis=0)) == len(mesh.faces)
    assert set(mesh.faces.ravel()) == set(range(len(mesh.vertices)))
    corners = mesh.vertices[mesh.faces]
    assert (np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) > 0).all()


def test_components_are_the_loose_pieces() -> None:
    faces = np.concatenate([TRIANGLES, TRIANGLES + 4])
    labels = components(Mesh(np.concatenate([TETRAHEDRON, TETRAHEDRON + 5, [[0, 0, 9]]]), faces))
    assert labels.tolist() == [0] * 4 + [1] * 4 + [2]


def test_unit_box_is_centred_and_its_longest_side_is_one() -> None:
    mesh = to_unit_box(Mesh(TETRAHEDRON * [8, 2, 4] + 7, TRIANGLES))
    np.testing.assert_allclose(mesh.vertices.min(axis=0), [-0.5, -0.125, -0.25])
    np.testing.assert_allclose(mesh.vertices.max(axis=0), [0.5, 0.125, 0.25])
    with pytest.raises(GeometryError):
        to_unit_box(Mesh(TETRAHEDRON * 0, TRIANGLES))


def test_decimation_meets_the_budget_and_its_error_is_the_sphere_s_sagitta() -> None:
    sphere = trimesh.creation.icosphere(5)
    mesh = Mesh(sphere.vertices, sphere.faces)
    small, error = decimate(mesh, 500)
    assert 400 < len(small.vertices) <= 500
    # 500 vertices on a unit sphere: triangles of side 0.17, whose middles lie 0.17^2 / 6 = 0.005 below it; the diagonal is 3.46.
    assert 0.0005 < error < 0.008
    assert decimate(mesh, 20_000) == (mesh, 0.0)


def test_decimation_of_flat_sides_moves_nothing() -> None:
    grid = trimesh.creation.box().subdivide().subdivide().subdivide().subdivide()
    _, error = decimate(Mesh(grid.vertices, grid.faces), 200)
    assert error < 1e-3


def test_a_budget_below_the_number_of_loose_pieces_is_met() -> None:
    rng = np.random.default_rng(0)
    mesh = clean_mesh(rng.random((6000, 3)), np.arange(6000).reshape(-1, 3), max_vertices=500)
    assert len(mesh.vertices) <= 500
    with pytest.raises(GeometryError, match="decimated to 0"):
        decimate(mesh, 0)


@pytest.mark.slow
def test_a_million_vertices_are_cleaned() -> None:
    sphere = trimesh.creation.icosphere(7)
    mesh = clean_mesh(*exploded(np.asarray(sphere.vertices), np.asarray(sphere.faces)), max_vertices=8000)
    assert 6000 < len(mesh.vertices) <= 8000
    np.testing.assert_allclose(np.linalg.norm(mesh.vertices, axis=1), 1, atol=2e-3)

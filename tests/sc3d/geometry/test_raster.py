"""Ray casting: parity with a plain ray-triangle test, the fill rule, visibility, and the lean import of Open3D."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sc3d.errors import GeometryError
from sc3d.geometry.camera import Camera, Pose, project
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.raster import Raster, rasterise
from sc3d.grid import Letterbox

FRONT = Pose(np.eye(3), np.array([0, 0, 3.0]))


def torus(scale: float = 1.0) -> Mesh:
    shape = trimesh.creation.torus(0.35, 0.12, major_sections=24, minor_sections=12)
    return Mesh(shape.vertices * scale, shape.faces)


def first_face(mesh: Mesh, pose: Pose, camera: Camera, xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Plain reference in camera coordinates: (face, depth) by solving for every ray and every face."""
    corners = pose.apply(mesh.vertices)[mesh.faces]
    faces, depths = [], []
    for x, y in xy:
        ray = np.linalg.solve(camera.K, [x, y, 1.0])
        # ray * depth = a + u (b - a) + v (c - a)
        system = np.stack(
            [np.broadcast_to(ray, corners[:, 0].shape), corners[:, 0] - corners[:, 1], corners[:, 0] - corners[:, 2]], axis=2
        )
        solvable = np.abs(np.linalg.det(system)) > 1e-12
        depth, u, v = np.full((3, len(corners)), -1.0)
        depth[solvable], u[solvable], v[solvable] = np.linalg.solve(system[solvable], corners[solvable, 0, :, None])[..., 0].T
        hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (depth > 0)
        faces.append(int(np.where(hit, depth, np.inf).argmin()) if hit.any() else -1)
        depths.append(depth[hit].min(initial=np.inf))
    return np.array(faces), np.array(depths)


@settings(max_examples=15)
@given(st.integers(0, 2**31), st.sampled_from([1e-3, 1.0, 50.0]), st.booleans())
def test_casting_finds_what_a_plain_test_of_all_faces_finds(seed: int, unit: float, skew: bool) -> None:
    rng = np.random.default_rng(seed)
    mesh = torus(unit)
    scale = rng.uniform(0.5, 2)
    pose = Pose(
        Rotation.random(random_state=seed).as_matrix(),
        unit * scale * np.array([*rng.uniform(-0.2, 0.2, 2), rng.uniform(1, 4)]),
        scale,
    )
    camera = Camera(np.array([[90, 25.0 * skew, 30], [0, 60 + 60 * skew, 25], [0, 0, 1.0]]), 60, 50)
    # Off the pixel raster, where a symmetric mesh's edges would be met exactly.
    xy = rng.uniform(0, 60, (60, 2))
    hits = Raster(mesh).cast(pose, camera, xy)
    face, depth = first_face(mesh, pose, camera, xy)
    # Rays within float32 rounding of a silhouette or an edge may go either way.
    agree = hits.face == face
    assert agree.mean() > 0.95
    np.testing.assert_allclose(hits.depth[agree], depth[agree], rtol=1e-5)
    points = (mesh.vertices[mesh.faces[hits.face]] * hits.barycentric[..., None]).sum(axis=1)[hits.face >= 0]
    np.testing.assert_allclose(project(points, pose, camera)[0], xy[hits.face >= 0], atol=1e-2)


def test_weights_dominant_and_misses() -> None:
    mesh, camera = torus(), Camera.from_focal(200, 100, 80)
    xy = np.concatenate([np.random.default_rng(0).uniform(0, 80, (300, 2)), [[np.nan, 5], [np.inf, 5], [-900, 0]]])
    hits = Raster(mesh).cast(FRONT, camera, xy)
    hit = hits.face >= 0
    assert 20 < hit.sum() < 280
    np.testing.assert_allclose(hits.barycentric[hit].sum(axis=1), 1)
    assert (hits.barycentric >= 0).all()
    rows = np.arange(hit.sum())
    np.testing.assert_array_equal(hits.dominant[hit], mesh.faces[hits.face[hit]][rows, hits.barycentric[hit].argmax(axis=1)])
    assert not hit[-3:].any()
    assert (hits.dominant[~hit] == -1).all()
    assert (hits.barycentric[~hit] == 0).all()
    assert np.isinf(hits.depth[~hit]).all()


def test_nothing_behind_the_camera_is_met_and_from_inside_the_far_wall_is() -> None:
    box = trimesh.creation.box()
    raster, camera = Raster(Mesh(box.vertices, box.faces)), Camera.from_focal(50, 40, 40)
    assert (raster.cast(Pose(np.eye(3), np.array([0, 0, -3.0])), camera, np.array([[20.0, 20]])).face == -1).all()
    inside = raster.cast(Pose(np.eye(3), np.zeros(3)), camera, np.array([[20.3, 19.6]]))
    np.testing.assert_allclose(inside.depth, 0.5, rtol=1e-6)
    assert raster.render(Pose(np.eye(3), np.zeros(3)), camera, 40, 40).mask.all()
    assert not raster.render(Pose(np.eye(3), np.array([0, 0, -3.0])), camera, 40, 40).mask.any()


def test_maps_are_the_casts_at_the_pixel_centres() -> None:
    raster, camera = Raster(torus()), Camera.from_focal(90, 60, 40)
    for t in ([0, 0, 2.0], [0.3, -0.2, 1.2]):
        pose = Pose(Rotation.from_euler("xyz", [0.5, 0.4, 0.1]).as_matrix(), np.array(t))
        maps = raster.render(pose, camera, 90, 80)
        rows, columns = np.mgrid[:80, :90]
        hits = raster.cast(pose, camera.resized(90, 80), np.stack([columns.ravel(), rows.ravel()], axis=1) + 0.5)
        np.testing.assert_array_equal(maps.face.ravel(), hits.face)
        np.testing.assert_array_equal(maps.mask, maps.face >= 0)
        np.testing.assert_allclose(maps.depth.ravel(), hits.depth, rtol=1e-6)
        assert maps.mask.any()
        assert not maps.mask.all()


def test_the_distance_of_a_camera_does_not_blur_its_hits() -> None:
    mesh = torus()
    xy = Letterbox(640, 480).centres()
    far = Raster(mesh).cast(Pose(np.eye(3), np.array([0, 0, 3e4])), Camera.from_focal(1.2e7, 640, 480), xy)
    points = (mesh.vertices[mesh.faces[far.face]] * far.barycentric[..., None]).sum(axis=1)[far.face >= 0]
    seen, _ = project(points, Pose(np.eye(3), np.array([0, 0, 3e4])), Camera.from_focal(1.2e7, 640, 480))
    np.testing.assert_allclose(seen, xy[far.face >= 0], atol=1e-2)


def test_visible_vertices_of_a_sphere_are_its_cap() -> None:
    ball = trimesh.creation.icosphere(4)
    mesh, camera = Mesh(ball.vertices, ball.faces), Camera.from_focal(100, 200, 200)
    visible = Raster(mesh).visible_vertices(FRONT, camera)
    # From a distance of 3 a unit sphere shows the points with z < -1/3.
    height = mesh.vertices[:, 2]
    assert visible[height < -0.38].all()
    assert not visible[height > -0.28].any()
    half = Raster(mesh).visible_vertices(FRONT, Camera(camera.K, 100, 200))
    np.testing.assert_array_equal(half, visible & (project(mesh.vertices, FRONT, camera)[0][:, 0] < 100))


def test_foreground_without_a_hit_takes_the_nearest_covered_cell() -> None:
    mesh, box, camera = torus(), Letterbox(640, 480), Camera.from_focal(900, 640, 480)
    foreground = np.zeros((60, 60), bool)
    foreground[20:50, 5:50] = True
    raster = Raster(mesh)
    surface = raster.surface_cells(FRONT, camera, box, foreground)
    np.testing.assert_array_equal(surface.cells, np.flatnonzero(foreground))
    hits = raster.cast(FRONT, camera, box.centres(surface.cells))
    own = hits.face >= 0
    assert 50 < own.sum() < len(own) - 50
    np.testing.assert_array_equal(surface.fill_distance == 0, own)
    np.testing.assert_array_equal(surface.dominant[own], hits.dominant[own])
    np.testing.assert_allclose(surface.barycentric[own], hits.barycentric[own], atol=1e-6)
    place = np.stack(np.divmod(surface.cells, 60), axis=1)
    for i in np.flatnonzero(~own):
        distance = np.linalg.norm(place[own] - place[i], axis=1)
        assert surface.fill_distance[i] == pytest.approx(distance.min(), rel=1e-3)
        nearest = np.flatnonzero(own)[distance == distance.min()]
        assert any((surface.corners[i] == surface.corners[j]).all() for j in nearest)
    assert (surface.corners == surface.dominant[:, None]).any(axis=1).all()


def test_a_mesh_that_misses_the_foreground_gives_no_cells() -> None:
    foreground = np.zeros((60, 60), bool)
    foreground[0, 0] = True
    surface = Raster(torus()).surface_cells(FRONT, Camera.from_focal(300, 480, 480), Letterbox(480, 480), foreground)
    assert [len(v) for v in vars(surface).values()] == [0] * 5


def test_sizes_that_do_not_fit_are_refused() -> None:
    raster, camera, box = Raster(torus()), Camera.from_focal(300, 480, 480), Letterbox(480, 480)
    with pytest.raises(GeometryError, match="letterbox of a 640 x 480"):
        raster.surface_cells(FRONT, camera, Letterbox(640, 480), np.ones((60, 60), bool))
    with pytest.raises(GeometryError, match="grid of side 60"):
        raster.surface_cells(FRONT, camera, box, np.ones((30, 30), bool))
    with pytest.raises(GeometryError, match="shape"):
        raster.cast(FRONT, camera, np.zeros((4, 3)))
    with pytest.raises(GeometryError):
        Raster(Mesh(np.zeros((4, 3)), np.zeros((4, 3), int)))


@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_interpolating_the_positions_gives_the_surface_points(kind: type) -> None:
    mesh, camera, box = torus(), Camera.from_focal(900, 480, 480), Letterbox(480, 480)
    surface = Raster(mesh).surface_cells(FRONT, camera, box, np.ones((60, 60), bool))
    own = surface.fill_distance == 0
    points = rasterise(mesh.vertices.astype(kind), surface.corners, surface.barycentric)
    assert points.dtype == np.float32
    seen, _ = project(points[own], FRONT, camera)
    np.testing.assert_allclose(seen, box.centres(surface.cells[own]), atol=0.05 if kind is np.float32 else 0.5)


LEAN = """
import sys
from sc3d.geometry.open3d_binding import open3d_binding
scene = open3d_binding().t.geometry.RaycastingScene
assert not {"dash", "sklearn", "open3d.visualization", "open3d"} & set(sys.modules)
"""


def test_ray_casting_does_not_import_open3d_s_visualiser() -> None:
    subprocess.run([sys.executable, "-c", LEAN], check=True, timeout=120)


@pytest.mark.slow
def test_open3d_can_still_be_imported_afterwards() -> None:
    code = LEAN + "import open3d\nassert open3d.t.geometry.RaycastingScene is scene and open3d.visualization"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)

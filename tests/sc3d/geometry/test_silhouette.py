"""The outline renderer against PyTorch3D's golden numbers, against a plain soft rasteriser, and against finite differences."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from sc3d.errors import ConfigError, GeometryError
from sc3d.geometry.camera import Camera, Pose, project, yaw_rotation
from sc3d.geometry.contour import edge_opposites
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.silhouette import SIGMA, OutlineRenderer
from sc3d.geometry.silhouette_pytorch3d import PyTorch3DRenderer

GOLDEN = Path(__file__).parents[4] / "shared" / "golden" / "silhouette.npz"


def soft_iou(renderer: OutlineRenderer, mask: np.ndarray, log_scale: float, t: np.ndarray) -> tuple[float, np.ndarray]:
    """Soft IoU loss and its gradient (4,)."""
    areas, slopes = renderer.render(log_scale, t).areas(np.stack([mask, np.ones_like(mask)]).astype(np.float32))
    union = areas[1] + mask.sum() - areas[0]
    return 1 - areas[0] / union, (areas[0] * (slopes[1] - slopes[0]) - slopes[0] * union) / union**2


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.skipif(not GOLDEN.exists(), reason=f"golden numbers are not at {GOLDEN}")
@pytest.mark.parametrize("pose", [0, 1, 2])
def test_parity_with_pytorch3d(pose: int) -> None:
    golden = np.load(GOLDEN)
    camera = Camera(golden["K"], int(golden["size"]), int(golden["size"]))
    renderer = OutlineRenderer(Mesh(golden["vertices"], golden["faces"]), golden["R"], camera, overlap=4)
    log_scale, t = float(golden["log_scale"][pose]), golden["t"][pose]
    alpha = renderer.render(log_scale, t).alpha
    assert np.abs(alpha - golden["alpha"][pose].astype(np.float32)).mean() < 0.015
    loss, gradient = soft_iou(renderer, golden["mask"].astype(np.float32), log_scale, t)
    assert loss == pytest.approx(golden["loss"][pose], abs=0.03)
    assert cosine(gradient, np.append(golden["grad_log_scale"][pose], golden["grad_t"][pose])) > 0.99
    assert cosine(gradient[1:], golden["grad_t"][pose]) > 0.98
    assert gradient[0] == pytest.approx(golden["grad_log_scale"][pose], rel=0.2)


def reference_coverage_and_distance(mesh: Mesh, pose: Pose, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Plain reference: pixel centres inside any projected triangle (H, W), and distance (H, W) to the nearest outline of the union,
    measured on a finer raster."""
    xy, _ = project(mesh.vertices, pose, camera)
    fine = 8

    def inside_any(points: np.ndarray) -> np.ndarray:
        covered = np.zeros(len(points), bool)
        for a, b, c in xy[mesh.faces]:
            sides = [
                (q[0] - p[0]) * (points[:, 1] - p[1]) - (q[1] - p[1]) * (points[:, 0] - p[0]) for p, q in ((a, b), (b, c), (c, a))
            ]
            covered |= np.all([s >= 0 for s in sides], axis=0) | np.all([s <= 0 for s in sides], axis=0)
        return covered

    rows, columns = np.mgrid[: camera.height, : camera.width] + 0.5
    hard = inside_any(np.column_stack([columns.ravel(), rows.ravel()])).reshape(rows.shape)
    y, x = (np.mgrid[: camera.height * fine, : camera.width * fine] + 0.5) / fine
    dense = inside_any(np.column_stack([x.ravel(), y.ravel()])).reshape(x.shape)
    across, down = dense[:, 1:] != dense[:, :-1], dense[1:] != dense[:-1]
    outline = np.concatenate(
        [np.argwhere(across)[:, ::-1] / fine + [1 / fine, 0.5 / fine], np.argwhere(down)[:, ::-1] / fine + [0.5 / fine, 1 / fine]]
    )
    centres = np.column_stack([columns.ravel(), rows.ravel()])
    distance = np.array([np.sqrt(((outline - p) ** 2).sum(axis=1).min()) for p in centres]).reshape(rows.shape)
    return hard, distance


def open_half(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """The triangles on one side of a slanted plane."""
    return trimesh.Trimesh(mesh.vertices, mesh.faces[mesh.triangles_center @ [0, 0.3, 1] > 0], process=False)


SHAPES = {
    "torus": trimesh.creation.torus(0.35, 0.15, major_sections=12, minor_sections=6),
    "box": trimesh.creation.box([0.5, 0.8, 0.9]),
    "open": open_half(trimesh.creation.icosphere(1, 0.5)),
}


ROUND = {
    "torus": trimesh.creation.torus(0.35, 0.15, major_sections=32, minor_sections=16),
    "two spheres": trimesh.util.concatenate(
        [trimesh.creation.icosphere(2, 0.3), trimesh.creation.icosphere(2, 0.2).apply_translation([0.4, 0, 0.1])]
    ),
}


@pytest.mark.parametrize("name", list(SHAPES))
@pytest.mark.parametrize("yaw", [0.0, 35.0])
def test_alpha_is_the_logistic_of_the_distance_to_the_outline(name: str, yaw: float) -> None:
    mesh = Mesh(SHAPES[name].vertices, SHAPES[name].faces)
    camera, pose = Camera.from_focal(60, 40, 36), Pose(yaw_rotation(yaw), np.array([0.03, -0.02, 2.1]), 1.1)
    hard, distance = reference_coverage_and_distance(mesh, pose, camera)
    silhouette = OutlineRenderer(mesh, pose.R, camera).render(np.log(pose.scale), pose.t)
    # A pixel centre within rounding of an edge may fall either way.
    assert np.array_equal(silhouette.coverage[distance > 0.1], hard[distance > 0.1])
    sigma = SIGMA * (36 / 2) ** 2
    expected = 1 / (1 + np.exp(np.clip(np.where(hard, -1, 1) * distance**2 / sigma, -50, 50)))
    # Half a fine pixel at the steepest place of the logistic.
    assert np.abs(silhouette.alpha - expected).max() < 0.25
    assert np.abs(silhouette.alpha - expected).mean() < 0.006


@pytest.mark.parametrize("name", list(ROUND))
def test_slopes_are_the_finite_differences_of_the_areas(name: str) -> None:
    rng = np.random.default_rng(0)
    # Round shapes: where a flat face is seen edge-on, the silhouette's area has a kink and no derivative.
    mesh = Mesh(ROUND[name].vertices, ROUND[name].faces)
    rows, columns = np.mgrid[:192, :192] / 192
    weights = np.stack([np.ones((192, 192)), columns, rows]).astype(np.float32)
    errors = []
    for _ in range(30):
        theta = np.array([*rng.uniform(-0.3, 0.3, 3), 2.0])
        # A wide band, so that a sum over pixels is a smooth function of the pose.
        renderer = OutlineRenderer(mesh, yaw_rotation(rng.uniform(0, 360)), Camera.from_focal(160, 128, 128), margin=32, sigma=2e-3)
        slopes = renderer.render(theta[0], theta[1:]).areas(weights)[1]
        for k in range(4):
            step = np.eye(4)[k] * 1e-4
            high, low = (renderer.render(p[0], p[1:]).areas(weights)[0] for p in (theta + step, theta - step))
            errors.append(np.abs(slopes[:, k] - (high - low) / 2e-4).max() / np.abs(slopes[:, k]).max())
    # At isolated poses the hard silhouette changes by a whole pixel, which a short step turns into a large quotient.
    assert np.median(errors) < 0.005
    assert np.quantile(errors, 0.8) < 0.02


def test_areas_are_the_sums_over_alpha() -> None:
    mesh = Mesh(SHAPES["torus"].vertices, SHAPES["torus"].faces)
    silhouette = OutlineRenderer(mesh, yaw_rotation(50), Camera.from_focal(80, 64, 48), margin=5).render(
        0.1, np.array([0.1, 0.0, 1.5])
    )
    assert silhouette.alpha.shape == (58, 74)
    weights = np.random.default_rng(0).random((2, 58, 74)).astype(np.float32)
    assert silhouette.areas(weights)[0] == pytest.approx((weights * silhouette.alpha).sum(axis=(1, 2)), rel=1e-5)


def test_margin_shows_the_same_silhouette_on_a_larger_canvas() -> None:
    mesh, camera, t = (
        Mesh(SHAPES["torus"].vertices, SHAPES["torus"].faces),
        Camera.from_focal(80, 64, 48),
        np.array([0.3, 0.1, 1.2]),
    )
    small = OutlineRenderer(mesh, yaw_rotation(50), camera).render(0.0, t)
    large = OutlineRenderer(mesh, yaw_rotation(50), camera, margin=20).render(0.0, t)
    assert np.array_equal(large.coverage[20:-20, 20:-20], small.coverage)
    assert large.alpha[20:-20, 20:-20] == pytest.approx(small.alpha, abs=1e-6)
    assert large.coverage.sum() > small.coverage.sum()


def test_a_renderer_does_not_remember_the_last_pose() -> None:
    renderer = OutlineRenderer(Mesh(SHAPES["box"].vertices, SHAPES["box"].faces), yaw_rotation(20), Camera.from_focal(80, 64, 64))
    first = renderer.render(0.0, np.array([0, 0, 2.0])).alpha
    renderer.render(0.7, np.array([0.2, 0.1, 1.8]))
    assert np.array_equal(renderer.render(0.0, np.array([0, 0, 2.0])).alpha, first)


def test_edges_know_the_vertices_opposite_to_them() -> None:
    edges, offsets, opposites = edge_opposites(np.array([[0, 1, 2], [2, 1, 3], [1, 2, 4]]))
    found = {tuple(edge): sorted(opposites[offsets[e] : offsets[e + 1]]) for e, edge in enumerate(edges.tolist())}
    assert found[(1, 2)] == [0, 3, 4]
    assert found[(0, 1)] == [2]
    assert len(found) == 7
    assert len(opposites) == 9


@pytest.mark.parametrize(
    ("log_scale", "t", "message"),
    [
        (0.0, [0, 0, -3], "behind the camera"),
        (0.0, [0, 0, 0.1], "behind the camera"),
        (0.0, [0, np.nan, 2], "not finite"),
        (np.inf, [0, 0, 2], "not finite"),
    ],
)
def test_poses_that_cannot_be_seen_are_refused(log_scale: float, t: list[float], message: str) -> None:
    renderer = OutlineRenderer(Mesh(SHAPES["box"].vertices, SHAPES["box"].faces), np.eye(3), Camera.from_focal(80, 32, 32))
    with pytest.raises(GeometryError, match=message):
        renderer.render(log_scale, np.array(t))


def test_a_silhouette_off_the_canvas_is_empty_and_flat() -> None:
    renderer = OutlineRenderer(Mesh(SHAPES["box"].vertices, SHAPES["box"].faces), np.eye(3), Camera.from_focal(80, 32, 32))
    silhouette = renderer.render(0.0, np.array([500.0, 0, 2]))
    areas, slopes = silhouette.areas(np.ones((1, 32, 32), np.float32))
    assert not silhouette.coverage.any()
    assert areas[0] == 0
    assert not slopes.any()


def test_without_pytorch3d_its_renderer_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("pytorch3d"):
            raise ImportError("No module named 'pytorch3d'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ConfigError, match="PyTorch3D is not usable"):
        PyTorch3DRenderer(Mesh(SHAPES["box"].vertices, SHAPES["box"].faces), np.eye(3), Camera.from_focal(80, 32, 32))

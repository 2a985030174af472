"""Batched silhouettes against PyTorch3D's golden numbers, the outline renderer, a finer raster, and finite differences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from sc3d.geometry.camera import Camera, yaw_rotation
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.silhouette import OutlineRenderer, canvas_intrinsics
from sc3d.geometry.silhouette_torch import PosedShape, SilhouetteBatch

GOLDEN = Path(__file__).parents[4] / "shared" / "golden" / "silhouette.npz"
CPU = torch.device("cpu")


def as_mesh(shape: trimesh.Trimesh) -> Mesh:
    return Mesh(shape.vertices, shape.faces)


SPHERES = trimesh.util.concatenate(
    [trimesh.creation.icosphere(2, 0.3), trimesh.creation.icosphere(2, 0.2).apply_translation([0.4, 0, 0.1])]
)
BALL = trimesh.creation.icosphere(2, 0.5)
SHAPES = {
    "torus": as_mesh(trimesh.creation.torus(0.35, 0.15, major_sections=32, minor_sections=16)),
    "box": as_mesh(trimesh.creation.box([0.5, 0.8, 0.9])),
    "two spheres": as_mesh(SPHERES),
    "open": Mesh(BALL.vertices, BALL.faces[BALL.triangles_center @ [0, 0.3, 1] > 0]),
}


def one(mesh: Mesh, R: np.ndarray, camera: Camera, margin: int = 0, maps: np.ndarray | None = None) -> PosedShape:
    if maps is None:
        maps = np.ones((1, camera.height + 2 * margin, camera.width + 2 * margin), np.float32)
    return PosedShape(mesh, mesh.vertices @ R.T, canvas_intrinsics(camera, margin), maps)


def drawn(batch: SilhouetteBatch, log_scale: list[float], t: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    alpha, hard = batch.draw(torch.tensor(log_scale, dtype=torch.float64), torch.as_tensor(np.stack(t)))
    return alpha.numpy(), hard.numpy()


def blurred(image: torch.Tensor, sigma: float) -> torch.Tensor:
    """Gaussian blur of images (B, H, W)."""
    x = torch.arange(-4, 5, dtype=torch.float64)
    kernel = torch.exp(-(x**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    rows = torch.nn.functional.conv2d(image[:, None], kernel.view(1, 1, 1, -1), padding=(0, 4))
    return torch.nn.functional.conv2d(rows, kernel.view(1, 1, -1, 1), padding=(4, 0))[:, 0]


@pytest.mark.skipif(not GOLDEN.exists(), reason=f"golden numbers are not at {GOLDEN}")
def test_parity_with_pytorch3d() -> None:
    golden = np.load(GOLDEN)
    mesh, size = Mesh(golden["vertices"], golden["faces"]), int(golden["size"])
    batch = SilhouetteBatch([one(mesh, golden["R"], Camera(golden["K"], size, size))] * 3, CPU)
    log_scale = torch.tensor(golden["log_scale"], dtype=torch.float64, requires_grad=True)
    t = torch.tensor(golden["t"], dtype=torch.float64, requires_grad=True)
    alpha, _ = batch.draw(log_scale, t)
    reference = golden["alpha"].astype(np.float64)
    assert np.abs(alpha.detach().numpy() - reference).mean(axis=(1, 2)).max() < 0.03
    # The reference is blurred, and widened where the blur of several triangles overlaps: 4 of them, as for the outline renderer.
    soft = 1 - (1 - blurred(alpha, 0.65)) ** 4
    assert np.abs(soft.detach().numpy() - reference).mean(axis=(1, 2)).max() < 0.016
    mask = torch.tensor(golden["mask"], dtype=torch.float64)
    loss = 1 - (soft * mask).sum((1, 2)) / (soft + mask - soft * mask).sum((1, 2))
    assert loss.detach().numpy() == pytest.approx(golden["loss"], abs=0.03)
    loss.sum().backward()
    assert log_scale.grad is not None
    assert t.grad is not None
    ours = np.column_stack([log_scale.grad, t.grad])
    theirs = np.column_stack([golden["grad_log_scale"], golden["grad_t"]])
    cosine = (ours * theirs).sum(axis=1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    assert cosine.min() > 0.98


# Inside the canvas, and reaching over each of its borders.
@pytest.mark.parametrize(
    "t", [(0.03, -0.02, 2.1), (0.9, 0.1, 2.0), (-0.9, 0.1, 2.0), (0.1, 0.8, 1.9), (0.1, -0.8, 1.9), (0, 0, 0.9)]
)
@pytest.mark.parametrize("name", list(SHAPES))
def test_parity_with_the_outline_renderer(name: str, t: tuple[float, float, float]) -> None:
    camera, R = Camera.from_focal(80, 64, 56), yaw_rotation(35)
    expected = OutlineRenderer(SHAPES[name], R, camera, margin=6).render(0.1, np.array(t))
    alpha, hard = drawn(SilhouetteBatch([one(SHAPES[name], R, camera, 6)], CPU), [0.1], [np.array(t)])
    # A pixel centre within rounding of an edge may fall either way.
    assert np.count_nonzero(hard[0] != expected.coverage) <= 1
    assert expected.coverage.any()
    assert np.abs(alpha[0] - expected.alpha).mean() < 0.02
    # Beyond the outline renderer's band nothing is partly covered, but for a few notches narrower than a pixel.
    far = np.isin(expected.alpha, [0.0, 1.0])
    assert np.count_nonzero(np.abs(alpha[0] - expected.alpha)[far] > 1e-3) <= 3


@pytest.mark.parametrize("name", ["box", "two spheres"])
def test_alpha_is_the_covered_area_of_the_pixel(name: str) -> None:
    camera, R, t, fine = Camera.from_focal(60, 40, 36), yaw_rotation(35), np.array([0.03, -0.02, 2.1]), 16
    alpha, _ = drawn(SilhouetteBatch([one(SHAPES[name], R, camera)], CPU), [0.0], [t])
    dense = OutlineRenderer(SHAPES[name], R, camera.resized(40 * fine, 36 * fine)).render(0.0, t).coverage
    expected = dense.reshape(36, fine, 40, fine).mean(axis=(1, 3))
    # Where two parts meet in a pixel, each covers some of it, and what both cover counts twice.
    assert np.abs(alpha[0] - expected).mean() < 1e-3
    assert np.abs(alpha[0] - expected).max() < (1 / fine if name == "box" else 0.1)


@pytest.mark.parametrize("name", list(SHAPES))
def test_slopes_are_the_finite_differences_of_the_areas(name: str) -> None:
    rng = np.random.default_rng(0)
    camera = Camera.from_focal(160, 128, 128)
    rows, columns = np.mgrid[:192, :192] / 192
    maps = np.stack([np.ones((192, 192)), columns, rows]).astype(np.float32)
    for _ in range(5):
        batch = SilhouetteBatch([one(SHAPES[name], yaw_rotation(rng.uniform(0, 360)), camera, 32, maps)], CPU)
        theta = np.array([*rng.uniform(-0.3, 0.3, 3), 2.0])
        slopes = batch.measure(theta[:1], theta[None, 1:]).slopes[0]
        for k in range(4):
            step = np.eye(4)[k] * 1e-5
            high, low = (batch.measure(p[:1], p[None, 1:]).areas[0] for p in (theta + step, theta - step))
            # Areas are integers of 2^-16 pixels, which a short step turns into noise.
            assert np.abs(slopes[:, k] - (high - low) / 2e-5).max() < 0.02 * np.abs(slopes).max()


def test_autograd_and_measures_agree() -> None:
    rng = np.random.default_rng(1)
    camera = Camera.from_focal(80, 64, 48)
    weights = rng.random((2, 1, 48, 64)).astype(np.float32)
    shapes = [one(SHAPES[n], yaw_rotation(20), camera, 0, w) for n, w in zip(("torus", "open"), weights, strict=True)]
    batch = SilhouetteBatch(shapes, CPU)
    log_scale, t = np.array([0.1, -0.1]), np.array([[0.1, 0.0, 1.5], [0.9, 0.1, 2.0]])
    measures = batch.measure(log_scale, t)
    parameters = [torch.tensor(value, requires_grad=True) for value in (log_scale, t)]
    alpha, hard = batch.draw(*parameters)
    assert alpha.shape == hard.shape == (2, 48, 64)
    total = (alpha * torch.as_tensor(weights[:, 0])).sum(dim=(1, 2))
    total.sum().backward()
    assert total.detach().numpy() == pytest.approx(measures.areas[:, 0])
    assert (hard.numpy() * weights[:, 0]).sum(axis=(1, 2)) == pytest.approx(measures.hard[:, 0])
    assert parameters[0].grad is not None
    assert parameters[1].grad is not None
    assert np.column_stack([parameters[0].grad, parameters[1].grad]) == pytest.approx(measures.slopes[:, 0], rel=1e-6)


def mixed_batch() -> tuple[list[PosedShape], np.ndarray, np.ndarray]:
    """Objects of different meshes, rotations, canvases and poses, one of them out of sight."""
    rng = np.random.default_rng(2)
    shapes = []
    for i, name in enumerate([*SHAPES, "box"]):
        camera = Camera.from_focal(80, 64 - 7 * i, 40 + 5 * i)
        maps = rng.random((2, camera.height + 8, camera.width + 8)).astype(np.float32)
        shapes.append(one(SHAPES[name], yaw_rotation(40.0 * i), camera, 4, maps))
    t = np.array([[0.1, 0, 1.8], [0.2, 0.3, 2], [-0.3, 0, 2], [0, 0, 1.5], [90, 0, 2.0]])
    return shapes, np.linspace(-0.2, 0.2, 5), t


def test_a_batch_of_different_objects_equals_one_at_a_time() -> None:
    shapes, log_scale, t = mixed_batch()
    together = SilhouetteBatch(shapes, CPU).measure(log_scale, t)
    for b, shape in enumerate(shapes):
        alone = SilhouetteBatch([shape], CPU).measure(log_scale[b : b + 1], t[b : b + 1])
        for name in ("hard", "areas", "slopes"):
            assert getattr(alone, name)[0] == pytest.approx(getattr(together, name)[b], rel=1e-9, abs=1e-9)
    assert (together.areas[:4] > 1).all()
    assert not together.areas[4].any()
    assert not together.slopes[4].any()


def test_kept_objects_are_the_same_as_before() -> None:
    shapes, log_scale, t = mixed_batch()
    batch = SilhouetteBatch(shapes, CPU)
    before = batch.measure(log_scale, t)
    batch.keep([3, 1])
    after = batch.measure(log_scale[[3, 1]], t[[3, 1]])
    assert after.areas == pytest.approx(before.areas[[3, 1]], rel=1e-9)
    assert after.slopes == pytest.approx(before.slopes[[3, 1]], rel=1e-9)


def test_repeats_to_the_last_bit() -> None:
    shapes, log_scale, t = mixed_batch()
    first, second = (SilhouetteBatch(shapes, CPU).measure(log_scale, t) for _ in range(2))
    for name in ("hard", "areas", "slopes"):
        assert np.array_equal(getattr(first, name), getattr(second, name))


def test_winding_does_not_matter() -> None:
    mesh, camera, t = SHAPES["torus"], Camera.from_focal(80, 64, 48), np.array([0.1, 0, 1.7])
    flipped = mesh.faces.copy()
    flipped[::3] = flipped[::3, ::-1]
    expected, _ = drawn(SilhouetteBatch([one(mesh, yaw_rotation(50), camera)], CPU), [0.0], [t])
    for faces in (flipped, mesh.faces[:, ::-1]):
        alpha, _ = drawn(SilhouetteBatch([one(Mesh(mesh.vertices, faces), yaw_rotation(50), camera)], CPU), [0.0], [t])
        assert np.array_equal(alpha, expected)


@pytest.mark.gpu
def test_a_gpu_draws_the_same() -> None:
    shapes, log_scale, t = mixed_batch()
    cpu, gpu = (SilhouetteBatch(shapes, torch.device(device)).measure(log_scale, t) for device in ("cpu", "cuda"))
    assert gpu.areas == pytest.approx(cpu.areas, rel=1e-4)
    assert gpu.slopes == pytest.approx(cpu.slopes, rel=1e-4, abs=1e-4 * np.abs(cpu.slopes).max())

"""Bad meshes, poses and masks: a typed error with the reason, or a sensible result, from every solver and from the actors above them.

A native crash or a hang would take the whole test process along, so that each of these tests fails loudly.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from actors.align import AlignActor
from actors.base import Actor, Outcome, run_actors
from actors.offline.shape import SpectralShape
from actors.surface import SurfaceActor
from sc3d.config import AlignConfig, ReconstructConfig, RunConfig
from sc3d.errors import GeometryError, InputError
from sc3d.geometry.align import Alignment, align, align_batch
from sc3d.geometry.camera import Camera, Pose
from sc3d.geometry.geodesic import Geodesic
from sc3d.geometry.mesh import Mesh, clean_mesh, decimate, load_mesh, to_unit_box
from sc3d.geometry.raster import Raster
from sc3d.geometry.shape_descriptors import shape_descriptors

CAMERA = Camera.from_focal(80, 64, 64)
POSE = Pose(np.diag([1.0, -1.0, -1.0]), np.array([0.0, 0.0, 2.5]))
BEHIND = POSE.replace(t=np.array([0.0, 0.0, -2.5]))
INSIDE = POSE.replace(t=np.array([0.0, 0.0, 0.1]))
MASK = np.zeros((64, 64), bool)
MASK[15:50, 20:45] = True
BALL = trimesh.creation.icosphere(3, 0.5)
V, F = np.asarray(BALL.vertices), np.asarray(BALL.faces)
CONFIG = RunConfig(reconstruct=ReconstructConfig(align=AlignConfig(steps_distance=10, steps_iou=5)))

Arrays = tuple[Any, Any]


def with_value(value: float) -> np.ndarray:
    vertices = V.copy()
    vertices[7, 1] = value
    return vertices


# Arrays that are no mesh, with a word of the reason.
BROKEN: dict[str, tuple[Any, Any, str]] = {
    "NaN vertex": (with_value(np.nan), F, "vertex 7 is not finite"),
    "infinite vertex": (with_value(np.inf), F, "vertex 7 is not finite"),
    "zero faces": (V, np.zeros((0, 3), np.int32), "at least 4 faces, got 0"),
    "no vertices": (np.zeros((0, 3)), F, "but there are 0"),
    "faces beyond the vertices": (V, F + len(V), f"but there are {len(V)}"),
    "negative faces": (V, F - 1, "vertices -1 to"),
    "faces beyond 32 bits": (V, F.astype(np.int64) + (1 << 33), f"but there are {len(V)}"),
    "NaN in the faces": (V, np.where(F == 3, np.nan, F), "faces integers"),
    "fractions in the faces": (V, F + 0.5, "faces integers"),
    "truth values for faces": (V, F.astype(bool), "faces integers"),
    "text for vertices": (V.astype(str), F, "real numbers"),
    "objects for vertices": (V.astype(object), F, "real numbers"),
    "complex vertices": (V + 1j, F, "real numbers"),
    "ragged vertices": ([[0.0, 0.0, 0.0], [1.0, 2.0]], F, "must be arrays"),
    "nothing at all": (None, None, "shape"),
    "vertices in the plane": (V[:, :2], F, "shape"),
}


def islands() -> Arrays:
    """A thousand loose triangles."""
    rng = np.random.default_rng(0)
    corners = 0.2 * rng.normal(size=(1000, 1, 3)) + 0.02 * rng.normal(size=(1000, 3, 3))
    return corners.reshape(-1, 3), np.arange(3000).reshape(-1, 3)


def fan() -> Arrays:
    """Forty triangles on one edge."""
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    rim = 0.5 * np.column_stack([np.cos(angle), np.sin(angle), 0.2 * np.sin(3 * angle)])
    return np.vstack([[0, 0, -0.5], [0, 0, 0.5], rim]), np.array([[0, 1, k] for k in range(2, 42)])


def soup() -> Arrays:
    rng = np.random.default_rng(0)
    return 0.3 * rng.normal(size=(400, 3)), rng.integers(0, 400, (200, 3))


# Meshes that nobody wants, but that have a surface.
ODD: dict[str, Arrays] = {
    "inside out": (V, F[:, ::-1]),
    "half of the faces turned": (V, np.vstack([F[::2], F[1::2, ::-1]])),
    "forty faces on an edge": fan(),
    "random triangles": soup(),
    "loose triangles": islands(),
    "every face five times": (V, np.tile(F, (5, 1))),
    "flat": (V * [1, 1, 0], F),
    "a stray vertex far off": (np.vstack([V, [[1e6, 0, 0]]]), F),
    "faces that are points": (V, np.vstack([F, np.zeros((100, 3), np.int64)])),
}
# Valid indices and finite numbers, but no surface, or none that floating point can hold.
FLATTENED: dict[str, Arrays] = {
    "a point": (np.zeros_like(V), F),
    "a line": (V * [1, 0, 0], F),
    "only faces that are points": (V, np.zeros((100, 3), np.int64)),
    "only faces that are edges": (V, F[:, [0, 0, 1]]),
    "vertices of 1e300": (V * 1e300, F),
    "vertices of 1e-200": (V * 1e-200, F),
}


def run_actor(actor: type[Actor], vertices: Any, faces: Any, pose: Pose = POSE, mask: np.ndarray = MASK) -> Outcome:
    row = {"id": "image", "mask": mask, "vertices": vertices, "faces": faces, "intrinsics": CAMERA.K, "rotation": pose.R}
    row |= {"scale_initial": pose.scale, "translation_initial": pose.t, "scale": pose.scale, "translation": pose.t}
    row |= {"width": CAMERA.width, "height": CAMERA.height}
    return run_actors([actor(CONFIG)], [row], "id", "stage")[0]


ACTORS = [AlignActor, SurfaceActor, SpectralShape]


class TestBrokenArrays:
    @pytest.mark.parametrize("name", BROKEN)
    def test_are_no_mesh(self, name: str) -> None:
        vertices, faces, reason = BROKEN[name]
        for make in (Mesh, clean_mesh):
            with pytest.raises(GeometryError, match=reason):
                make(vertices, faces)

    @pytest.mark.parametrize("actor", ACTORS)
    @pytest.mark.parametrize("name", BROKEN)
    def test_are_rejected_with_the_reason(self, actor: type[Actor], name: str) -> None:
        vertices, faces, reason = BROKEN[name]
        reject = run_actor(actor, vertices, faces).reject
        assert reject is not None
        assert reject.error_type == "GeometryError"
        assert reason in reject.message

    @pytest.mark.parametrize(
        ("suffix", "text"),
        [
            ("obj", "v 0 0 nan\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 2 3\nf 1 2 4\nf 1 3 4\nf 2 3 4\n"),
            ("obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 2 9\nf 1 2 4\nf 1 3 4\nf 2 3 4\n"),
            ("obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\n"),
            ("obj", "f 1 2 3\n" * 5),
            ("ply", "ply\nformat ascii 1.0\nelement vertex 999999999999\nproperty float x\nend_header\n"),
            ("stl", "solid\nendsolid\n"),
            ("glb", "glTF\x02"),
        ],
    )
    def test_files_are_refused_by_name(self, tmp_path: Path, suffix: str, text: str) -> None:
        path = tmp_path / f"broken.{suffix}"
        path.write_text(text)
        with pytest.raises(GeometryError, match=r"broken\."):
            load_mesh(path)


class TestOddMeshes:
    @pytest.mark.parametrize("name", ODD)
    def test_are_cleaned_and_decimated(self, name: str) -> None:
        vertices, faces = ODD[name]
        mesh = clean_mesh(vertices, faces, 300)
        assert len(mesh.faces) >= 4
        assert len(mesh.vertices) <= 300
        assert len(np.unique(np.sort(mesh.faces, axis=1), axis=0)) == len(mesh.faces)
        small, error = decimate(mesh, 100)
        assert len(small.vertices) <= 100
        assert 0 <= error < 0.5
        assert np.ptp(to_unit_box(small).vertices, axis=0).max() == pytest.approx(1)

    @pytest.mark.parametrize("name", ODD)
    def test_are_seen(self, name: str) -> None:
        mesh = Mesh(*ODD[name])
        maps = Raster(mesh).render(POSE, CAMERA, 64, 64)
        assert maps.mask.any()
        assert np.isfinite(maps.depth[maps.mask]).all()

    @pytest.mark.parametrize("name", ODD)
    def test_have_distances(self, name: str) -> None:
        mesh = Mesh(*ODD[name])
        distances = Geodesic(mesh).distances(np.array([0]))
        assert distances[0, 0] == 0
        assert (distances >= 0).all()
        straight = np.linalg.norm(mesh.vertices - mesh.vertices[0], axis=1)
        # Every vertex is reached, unreferenced ones too, and but for the method's error not on a shorter way than the straight one.
        assert np.isfinite(distances).all()
        assert (distances[0] >= 0.99 * straight - 1e-5 * mesh.diagonal).all()

    @pytest.mark.parametrize("device", [None, "cpu"])
    @pytest.mark.parametrize("name", ODD)
    def test_are_aligned(self, name: str, device: str | None) -> None:
        result = align_batch([(Mesh(*ODD[name]), MASK, POSE, CAMERA)], AlignConfig(steps_distance=10, steps_iou=5), device)[0]
        if name == "a stray vertex far off":
            assert not isinstance(result, Alignment) or result.iou_after >= result.iou_before
            return
        assert isinstance(result, Alignment)
        assert result.iou_after >= result.iou_before

    def test_winding_changes_nothing(self) -> None:
        right = align(Mesh(V, F), MASK, POSE, CAMERA)
        for name in ("inside out", "half of the faces turned"):
            turned = align(Mesh(*ODD[name]), MASK, POSE, CAMERA)
            assert turned.iou_after == pytest.approx(right.iou_after, abs=1e-3)
            assert np.array_equal(
                Raster(Mesh(*ODD[name])).render(POSE, CAMERA, 64, 64).mask, Raster(Mesh(V, F)).render(POSE, CAMERA, 64, 64).mask
            )

    @pytest.mark.parametrize("actor", ACTORS)
    @pytest.mark.parametrize("name", ODD)
    def test_go_through_the_actors(self, actor: type[Actor], name: str) -> None:
        outcome = run_actor(actor, *ODD[name])
        assert outcome.reject is None or outcome.reject.error_type == "GeometryError"
        if outcome.reject is None and actor is SpectralShape:
            assert np.isfinite(outcome.row["shape"]).all()
        if actor is SurfaceActor:
            assert len(outcome.row["surface"].cells) > 0


class TestWithoutASurface:
    @pytest.mark.parametrize("name", FLATTENED)
    def test_cannot_be_cleaned_or_decimated(self, name: str) -> None:
        with pytest.raises(GeometryError):
            clean_mesh(*FLATTENED[name])
        with pytest.raises(GeometryError):
            decimate(Mesh(*FLATTENED[name]), 100)

    @pytest.mark.parametrize("name", FLATTENED)
    @pytest.mark.parametrize(
        "is_wrong",
        [
            lambda mesh: Raster(mesh).render(POSE, CAMERA, 64, 64).mask.any(),
            lambda mesh: np.isnan(Geodesic(mesh).distances(np.array([0]))).any(),
            lambda mesh: not np.isfinite(shape_descriptors(mesh)).all(),
            lambda mesh: align(mesh, MASK, POSE, CAMERA).iou_after > 0.1,
        ],
        ids=["raster", "geodesic", "descriptors", "align"],
    )
    def test_solvers_answer_or_refuse(self, name: str, is_wrong: Callable[[Mesh], bool]) -> None:
        # What has no surface is not seen, its distances are numbers, and it fills no mask.
        with contextlib.suppress(GeometryError):
            assert not is_wrong(Mesh(*FLATTENED[name]))

    @pytest.mark.parametrize("actor", ACTORS)
    @pytest.mark.parametrize("name", FLATTENED)
    def test_actors_answer_or_reject(self, actor: type[Actor], name: str) -> None:
        reject = run_actor(actor, *FLATTENED[name]).reject
        assert reject is None or reject.error_type == "GeometryError"


class TestPoses:
    mesh = Mesh(V, F)

    @pytest.mark.parametrize("pose", [BEHIND, INSIDE], ids=["behind the camera", "around the camera"])
    @pytest.mark.parametrize("device", [None, "cpu"])
    def test_that_reach_behind_the_camera_are_not_aligned(self, pose: Pose, device: str | None) -> None:
        result = align_batch([(self.mesh, MASK, pose, CAMERA)], device=device)[0]
        assert isinstance(result, GeometryError)
        assert "behind the camera" in str(result)
        reject = run_actor(AlignActor, V, F, pose).reject
        assert reject is not None
        assert "behind the camera" in reject.message

    def test_behind_the_camera_nothing_is_seen(self) -> None:
        assert not Raster(self.mesh).render(BEHIND, CAMERA, 64, 64).mask.any()
        assert not Raster(self.mesh).visible_vertices(BEHIND, CAMERA).any()
        outcome = run_actor(SurfaceActor, V, F, BEHIND)
        assert outcome.reject is None
        assert len(outcome.row["surface"].cells) == 0
        assert len(outcome.row["surface"].balls.centres) == 0

    def test_from_inside_all_directions_are_covered(self) -> None:
        assert Raster(self.mesh).render(INSIDE, CAMERA, 64, 64).mask.all()

    @pytest.mark.parametrize("device", [None, "cpu"])
    @pytest.mark.parametrize("t", [(0, 0, 0.5000001), (1e9, 0, 1e9), (0, 0, 1e12), (1e15, 0, 2.5)])
    def test_at_the_ends_of_the_scale_are_aligned_or_refused(self, t: tuple[float, float, float], device: str | None) -> None:
        item = (self.mesh, MASK, POSE.replace(t=np.array(t)), CAMERA)
        result = align_batch([item], AlignConfig(steps_distance=5, steps_iou=2), device)[0]
        assert isinstance(result, GeometryError) or result.iou_after >= result.iou_before  # type: ignore[union-attr]


class TestMasks:
    @pytest.mark.parametrize("device", [None, "cpu"])
    def test_empty(self, device: str | None) -> None:
        empty = np.zeros_like(MASK)
        result = align_batch([(Mesh(V, F), empty, POSE, CAMERA)], device=device)[0]
        assert isinstance(result, InputError)
        for actor in (AlignActor, SurfaceActor):
            reject = run_actor(actor, V, F, mask=empty).reject
            assert reject is not None
            assert reject.error_type == "InputError"
            assert "mask" in reject.message

    @pytest.mark.parametrize("device", [None, "cpu"])
    def test_touching_all_borders(self, device: str | None) -> None:
        frame = np.ones_like(MASK)
        frame[20:40, 20:40] = False
        for mask in (np.ones_like(MASK), frame):
            result = align_batch([(Mesh(V, F), mask, POSE, CAMERA)], device=device)[0]
            assert isinstance(result, Alignment)
            assert result.iou_after > result.iou_before
            for actor in (AlignActor, SurfaceActor):
                assert run_actor(actor, V, F, mask=mask).reject is None


@pytest.fixture(scope="module")
def million() -> Arrays:
    """A torus of 10^6 vertices and 2 10^6 faces."""
    n = 1000
    i, j = (x.ravel() for x in np.meshgrid(np.arange(n), np.arange(n), indexing="ij"))
    u, v = 2 * np.pi * i / n, 2 * np.pi * j / n
    ring = 1 + 0.4 * np.cos(v)
    vertices = 0.35 * np.column_stack([ring * np.cos(u), ring * np.sin(u), 0.4 * np.sin(v)])
    a, b, c, d = (((i + di) % n) * n + (j + dj) % n for di, dj in ((0, 0), (1, 0), (1, 1), (0, 1)))
    return vertices, np.vstack([np.column_stack([a, b, c]), np.column_stack([a, c, d])])


@pytest.mark.slow
class TestAMillionVertices:
    """About a minute in all on one core; each in seconds, as measured beside the test."""

    def test_clean(self, million: Arrays) -> None:  # 9 s
        mesh = clean_mesh(*million, max_vertices=8000)
        assert 4000 < len(mesh.vertices) <= 8000

    def test_decimate(self, million: Arrays) -> None:  # 7 s
        small, error = decimate(Mesh(*million), 8000)
        assert 4000 < len(small.vertices) <= 8000
        assert error < 0.01

    def test_raster(self, million: Arrays) -> None:  # 2 s
        assert Raster(Mesh(*million)).render(POSE, CAMERA, 64, 64).mask.any()

    def test_align(self, million: Arrays) -> None:  # 7 s for all 150 steps
        outcome = run_actor(AlignActor, *million)
        assert outcome.reject is None
        assert outcome.row["iou_after"] >= outcome.row["iou_before"]

    def test_geodesic(self, million: Arrays) -> None:  # 16 s and 3 GB
        mesh = Mesh(*million)
        balls = Geodesic(mesh).balls(np.arange(0, 100_000, 10_000), 0.02 * mesh.diagonal)
        assert np.diff(balls.offsets).min() > 100

    def test_descriptors_are_refused(self, million: Arrays) -> None:  # 1 s
        reject = run_actor(SpectralShape, *million).reject
        assert reject is not None
        assert reject.error_type == "GeometryError"
        assert "decimate" in reject.message

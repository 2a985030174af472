"""What an image-to-3D model has to return, and how its mesh and pose reach the canonical frame: checked by independent projections."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from actors.align import AlignActor
from actors.base import Actor, check_actors, run_actors
from actors.foundation.image_to_3d import ImageTo3DReconstruct, PosedMesh, facing_pose, to_canonical, y_up
from actors.offline.reconstruct import OfflineReconstruct
from sc3d.config import RunConfig
from sc3d.config_file import parse_config
from sc3d.errors import GeometryError, InputError
from sc3d.geometry.camera import Camera, Pose, project

WIDTH, HEIGHT = 200, 150
CONFIG = parse_config({"reconstruct": {"max_vertices": 100_000}})


def bus() -> trimesh.Trimesh:
    """Longer than wide, wider than high, with a front (+z) that is unlike its back; subdivided, and not centred."""
    body, nose = trimesh.creation.box((0.5, 0.6, 2.0)), trimesh.creation.box((0.3, 0.2, 0.3))
    nose.apply_translation((0.0, -0.2, 1.15))
    return trimesh.util.concatenate([body, nose]).subdivide().apply_translation((0.3, -0.7, 2.0))


def pixels(points: np.ndarray, R: np.ndarray, t: np.ndarray, scale: float, K: np.ndarray) -> np.ndarray:
    """The pinhole equations, a point at a time."""
    found = []
    for point in points:
        x, y, z = scale * (R @ point) + t
        found.append((K[0, 0] * x / z + K[0, 2], K[1, 1] * y / z + K[1, 2]))
    return np.array(found)


class Known:
    """A model that knows the answer, and takes down what it was asked."""

    def __init__(self, posed: PosedMesh) -> None:
        self.posed, self.seeds = posed, []

    def reconstruct(self, rgb: np.ndarray, mask: np.ndarray, seed: int) -> PosedMesh:
        self.seeds.append(seed)
        return self.posed


class KnownReconstruct(ImageTo3DReconstruct):
    version = "known-1"

    def __init__(self, config: RunConfig, posed: PosedMesh) -> None:
        super().__init__(config)
        self.model = Known(posed)


def posed_bus(**changes: object) -> PosedMesh:
    mesh = bus()
    pose = Pose(Rotation.from_euler("yxz", (40, -20, 170), degrees=True).as_matrix(), np.array([0.2, -0.3, 9.0]), 1.7)
    values = {"vertices": mesh.vertices, "faces": mesh.faces, "pose": pose, "camera": Camera.from_focal(230, WIDTH, HEIGHT)}
    return PosedMesh(**{**values, **changes})


def row(image_id: str = "a", **changes: object) -> dict:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[40:90, 60:140] = True
    return {
        "image_id": image_id,
        "image": np.zeros((HEIGHT, WIDTH, 3), np.uint8),
        "mask": mask,
        "width": WIDTH,
        "height": HEIGHT,
        **changes,
    }


def run(actor: Actor, *rows: dict):
    return run_actors([actor], rows, "image_id", "reconstruct")


def test_the_unit_box_does_not_move_the_image() -> None:
    given_mesh = posed_bus()
    result = to_canonical(given_mesh, 100_000)
    np.testing.assert_allclose(result.vertices.max(axis=0) + result.vertices.min(axis=0), 0, atol=1e-12)
    assert np.ptp(result.vertices, axis=0).max() == pytest.approx(1)
    expected = pixels(given_mesh.vertices, given_mesh.pose.R, given_mesh.pose.t, given_mesh.pose.scale, given_mesh.camera.K)
    found = pixels(result.vertices, result.pose.R, result.pose.t, result.pose.scale, result.camera.K)
    # Cleaning keeps the vertices but may renumber them.
    np.testing.assert_allclose(np.unique(found.round(6), axis=0), np.unique(expected.round(6), axis=0), atol=2e-6)
    np.testing.assert_allclose(result.pose.R, given_mesh.pose.R)


def test_a_decimated_mesh_is_in_the_unit_box_too() -> None:
    sphere = trimesh.creation.icosphere(4)
    result = to_canonical(posed_bus(vertices=sphere.vertices, faces=sphere.faces), 300)
    assert len(result.vertices) <= 300
    assert np.ptp(result.vertices, axis=0).max() == pytest.approx(1)


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_turning_a_z_up_mesh_does_not_move_the_image(seed: int) -> None:
    R = Rotation.random(random_state=seed).as_matrix()
    points = np.random.default_rng(seed).normal(size=(5, 3))
    turned, rotation = y_up(points, R)
    np.testing.assert_allclose(turned @ rotation.T, points @ R.T, atol=1e-12)
    # Up is z there and y here; the front is -y there and +z here.
    np.testing.assert_array_equal(y_up(np.array([[0.0, 0, 1], [0, -1, 0], [1, 0, 0]]), R)[0], [[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    Pose(rotation, np.ones(3))


def test_the_actor_provides_what_alignment_takes_and_the_offline_actor_provides() -> None:
    check_actors([KnownReconstruct, AlignActor], ["image_id", "image", "mask", "width", "height"])
    assert dict(KnownReconstruct.provides) == dict(OfflineReconstruct.provides)
    result = run(KnownReconstruct(CONFIG, posed_bus()), row())[0]
    assert result.reject is None
    assert set(result.row) >= set(KnownReconstruct.provides)
    assert result.row["injected_turn"] == -1
    known = posed_bus()
    expected = pixels(known.vertices, known.pose.R, known.pose.t, known.pose.scale, known.camera.K)
    r = result.row
    found = pixels(r["vertices"], r["rotation"], r["translation_initial"], r["scale_initial"], r["intrinsics"])
    np.testing.assert_allclose(found.min(axis=0), expected.min(axis=0), atol=1e-6)
    np.testing.assert_allclose(found.max(axis=0), expected.max(axis=0), atol=1e-6)


def test_seeds_depend_on_the_image_and_the_run_alone() -> None:
    forward, backward = KnownReconstruct(CONFIG, posed_bus()), KnownReconstruct(CONFIG, posed_bus())
    other = KnownReconstruct(parse_config({"seed": 1}), posed_bus())
    run(forward, row("a"), row("b"))
    run(backward, row("b"), row("a"))
    run(other, row("a"))
    assert forward.model.seeds == backward.model.seeds[::-1]
    assert len({*forward.model.seeds, *other.model.seeds}) == 3


def test_recipes_follow_what_the_results_depend_on() -> None:
    base = KnownReconstruct.made_of(RunConfig())
    for values in ({"seed": 1}, {"reconstruct": {"max_vertices": 999}}):
        assert KnownReconstruct.made_of(parse_config(values)) != base


@pytest.mark.parametrize(
    ("posed", "changes", "kind", "message"),
    [
        (posed_bus(), {"mask": np.zeros((HEIGHT, WIDTH), bool)}, "InputError", "the mask is empty"),
        (posed_bus(), {"mask": np.ones((HEIGHT, WIDTH + 1), bool)}, "InputError", "not of the photo's size"),
        (posed_bus(faces=np.zeros((0, 3), int)), {}, "GeometryError", "at least 4 faces"),
        (posed_bus(vertices=np.full((4, 3), np.nan)), {}, "GeometryError", "not finite"),
        (posed_bus(pose=Pose(np.eye(3), np.array([0, 0, -9.0]))), {}, "GeometryError", "behind the camera"),
        (posed_bus(camera=Camera.from_focal(230, WIDTH + 1, HEIGHT)), {}, "GeometryError", "201 x 150 pixels"),
    ],
)
def test_what_cannot_be_used_is_a_reject(posed: PosedMesh, changes: dict, kind: str, message: str) -> None:
    bad, good = (
        run(KnownReconstruct(CONFIG, posed), row(**changes))[0].reject,
        run(KnownReconstruct(CONFIG, posed_bus()), row())[0].reject,
    )
    assert good is None
    assert bad is not None
    assert bad.error_type == kind
    assert message in bad.message


# --- meshes without a pose


def boxes(vertices: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (2, 2) of the mesh in its facing pose, and of the mask, in pixels."""
    pose, camera = facing_pose(vertices, mask)
    assert (camera.width, camera.height) == mask.shape[::-1]
    xy = pixels(vertices, pose.R, pose.t, pose.scale, camera.K)
    rows, columns = np.nonzero(mask)
    return np.stack([xy.min(axis=0), xy.max(axis=0)]), np.array([[columns.min(), rows.min()], [columns.max() + 1, rows.max() + 1]])


@pytest.mark.parametrize("corner", [(0, 0), (75, 50), (120, 110)])
def test_a_mesh_without_a_pose_is_as_large_as_the_mask_and_where_it_is(corner: tuple[int, int]) -> None:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[corner[1] : corner[1] + 40, corner[0] : corner[0] + 33] = True
    seen, wanted = boxes(trimesh.creation.icosphere(3).vertices * (0.8, 1.0, 0.9) + (3, 4, 5), mask)
    np.testing.assert_allclose(seen.mean(axis=0), wanted.mean(axis=0), atol=0.01)
    assert np.ptp(seen, axis=0).max() == pytest.approx(40, abs=0.01)


def test_a_mesh_without_a_pose_shows_its_front_upright() -> None:
    points = np.array([[0, 0, 0.5], [0, 0, -0.5], [0, 0.5, 0], [0, -0.5, 0], [0.5, 0, 0], [-0.5, 0, 0]], float)
    pose, camera = facing_pose(points, row()["mask"])
    xy, depth = project(points, pose, camera)
    assert depth[0] < depth[1]
    assert xy[2, 1] < xy[3, 1]
    assert xy[4, 0] > xy[5, 0]


def test_a_long_mesh_stays_in_front_of_the_camera() -> None:
    # A bus seen from its side by a mask that fills the photo: facing, its end would have to be that large.
    points = trimesh.creation.box((0.2, 0.2, 2.0)).vertices
    pose, camera = facing_pose(points, np.ones((HEIGHT, HEIGHT), bool))
    _, depth = project(points, pose, camera)
    assert depth.min() > 0.99 * np.ptp(depth)


def test_a_mesh_without_a_pose_can_be_aligned() -> None:
    """The way of another model: mesh alone, facing pose, alignment by the mask."""
    ball = trimesh.creation.icosphere(3)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    mask = (columns - 130) ** 2 + (rows - 60) ** 2 < 30**2
    actor = KnownReconstruct(CONFIG, PosedMesh(ball.vertices, ball.faces, *facing_pose(ball.vertices, mask)))
    result = run_actors([actor, AlignActor(CONFIG)], [row(mask=mask)], "image_id", "reconstruct")[0]
    assert result.reject is None
    assert result.row["iou_before"] > 0.93
    assert result.row["iou_after"] > 0.97


def test_nothing_to_pose() -> None:
    with pytest.raises(InputError, match="empty mask"):
        facing_pose(bus().vertices, np.zeros((9, 9), bool))
    for broken in (np.zeros((0, 3)), np.ones((5, 3)), np.full((5, 3), np.nan)):
        with pytest.raises(GeometryError, match="coincide or are not finite"):
            facing_pose(broken, np.ones((9, 9), bool))

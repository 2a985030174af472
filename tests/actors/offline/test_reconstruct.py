"""Reconstruction without a learned model, and the alignment that follows it."""

import numpy as np
import pytest
import trimesh

from actors.align import AlignActor
from actors.base import check_actors, run_actors
from actors.offline.reconstruct import OfflineReconstruct
from actors.offline.shape import SpectralShape
from sc3d.config_file import parse_config
from sc3d.datasets.toys.truth import ToyTruth, save_truth
from sc3d.geometry.camera import Camera, Pose, project, yaw_rotation
from sc3d.geometry.inflate import inflate
from sc3d.geometry.mesh import Mesh

WIDTH, HEIGHT = 200, 150


def quadruped():
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[50:90, 45:155] = True
    mask[90:130, 50:60] = mask[90:130, 140:150] = mask[25:50, 140:152] = True
    return mask


@pytest.fixture(scope="module")
def truth_path(tmp_path_factory):
    """A synthetic image's truth: the inflated quadruped, as if it were known."""
    path = tmp_path_factory.mktemp("truth") / "a.npz"
    vertices, faces, camera, pose = inflate(quadruped())
    none = np.zeros((0, 3))
    save_truth(path, ToyTruth(Mesh(vertices, faces), camera, pose, quadruped(), quadruped(), none, np.zeros(0, bool)))
    return str(path)


def configured(**reconstruct):
    return parse_config({"reconstruct": {"max_vertices": 1500, **reconstruct}})


def row(image_id="a", truth_path=None, **more):
    return {"image_id": image_id, "mask": quadruped(), "width": WIDTH, "height": HEIGHT, "truth_path": truth_path, **more}


def run(rows, actors):
    return run_actors(actors, rows, "image_id", "reconstruct")


def reconstruct(config, rows):
    return run(rows, [OfflineReconstruct(config)])


def pixels(result, vertices=None):
    pose = Pose(result["rotation"], result["translation_initial"], result["scale_initial"])
    return project(result["vertices"] if vertices is None else vertices, pose, Camera(result["intrinsics"], WIDTH, HEIGHT))[0]


def test_contracts_fit():
    check_actors([OfflineReconstruct, AlignActor, SpectralShape], ["image_id", "mask", "width", "height", "truth_path"])


def test_photo_without_truth_is_inflated():
    result = reconstruct(configured(), [row()])[0].row
    mesh = trimesh.Trimesh(result["vertices"], result["faces"], process=False)
    assert mesh.is_watertight
    assert len(result["vertices"]) <= 1500
    assert result["injected_turn"] == -1
    xy = pixels(result)
    rows, columns = np.nonzero(quadruped())
    np.testing.assert_allclose(xy.min(axis=0), [columns.min(), rows.min()], atol=1)
    np.testing.assert_allclose(xy.max(axis=0), [columns.max() + 1, rows.max() + 1], atol=1)


def test_truth_is_disturbed(truth_path):
    result = reconstruct(configured(wrong_yaw=0.0), [row(truth_path=truth_path)])[0].row
    exact = reconstruct(configured(), [row()])[0].row
    assert result["injected_turn"] == 0
    assert not 1 / 1.1 < result["scale_initial"] / exact["scale_initial"] < 1.1
    np.testing.assert_array_equal(result["rotation"], exact["rotation"])
    assert np.abs(pixels(result).mean(axis=0) - pixels(exact).mean(axis=0)).max() > 5


def test_injected_turn_is_told_and_invisible(truth_path):
    """Turning the mesh back by the injected turn, and the pose with it, gives what an unturned reconstruction shows."""
    turned = reconstruct(configured(wrong_yaw=1.0, max_vertices=100_000), [row(truth_path=truth_path)])[0].row
    plain = reconstruct(configured(wrong_yaw=0.0, max_vertices=100_000), [row(truth_path=truth_path)])[0].row
    turn = turned["injected_turn"]
    assert turn in (90, 180, 270)
    np.testing.assert_allclose(turned["vertices"] @ yaw_rotation(-turn).T, plain["vertices"], atol=1e-9)
    np.testing.assert_allclose(pixels(turned), pixels(plain), atol=1e-6)
    assert not np.allclose(turned["rotation"], plain["rotation"])


def test_inflate_never_looks_at_the_truth():
    result = reconstruct(configured(mesh="inflate"), [row(truth_path="gone.npz")])[0]
    assert result.reject is None
    assert result.row["injected_turn"] == -1


def test_order_and_company_do_not_matter(truth_path):
    rows = [row(f"i{k}", truth_path) for k in range(4)]
    forward = reconstruct(configured(), rows)
    backward = reconstruct(configured(), rows[::-1])[::-1]
    for one, two in zip(forward, backward, strict=True):
        np.testing.assert_array_equal(one.row["vertices"], two.row["vertices"])
        np.testing.assert_array_equal(one.row["translation_initial"], two.row["translation_initial"])
    assert len({o.row["scale_initial"] for o in forward}) == 4


def test_bad_rows_are_rejected_with_advice(truth_path, tmp_path):
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04rubbish")
    speck = np.zeros((HEIGHT, WIDTH), bool)
    speck[5:8, 5:8] = True
    rejects = [
        reconstruct(configured(mesh="disturbed_truth"), [row()])[0].reject,
        reconstruct(configured(), [row(truth_path=str(tmp_path / "gone.npz"))])[0].reject,
        reconstruct(configured(), [row(truth_path=str(tmp_path / "broken.npz"))])[0].reject,
        reconstruct(configured(), [row(truth_path=truth_path, width=WIDTH + 1)])[0].reject,
        reconstruct(configured(), [row(mask=speck)])[0].reject,
    ]
    messages = ["has no known mesh; use reconstruct", "no such truth file", "cannot be read", "make the dataset again", "too small"]
    for reject, message in zip(rejects, messages, strict=True):
        assert reject.error_type == "InputError"
        assert message in reject.message


def test_alignment_repairs_what_was_disturbed(truth_path):
    config = configured(wrong_yaw=0.0)
    outcomes = run([row(f"i{k}", truth_path) for k in range(3)], [OfflineReconstruct(config), AlignActor(config)])
    for outcome in outcomes:
        assert outcome.reject is None, outcome.reject
        result = outcome.row
        assert result["iou_before"] < 0.7
        assert result["iou_after"] > 0.9
        assert isinstance(result["flags"], tuple)
        assert result["translation"].shape == (3,)
        assert isinstance(result["scale"], float)


def test_alignment_of_a_broken_mesh_is_a_reject():
    broken = {**reconstruct(configured(), [row()])[0].row, "vertices": np.full((5, 3), np.nan), "faces": np.zeros((4, 3), int)}
    assert run([broken], [AlignActor(configured())])[0].reject.error_type == "GeometryError"


def test_shape_actor_describes_every_vertex():
    result = run([row()], [OfflineReconstruct(configured()), SpectralShape(configured())])[0].row
    assert result["shape"].dtype == np.float16
    assert len(result["shape"]) == len(result["vertices"])
    assert np.isfinite(result["shape"]).all()


def test_recipes_follow_what_the_results_depend_on():
    base = configured()
    for changed in (configured(mesh="inflate"), configured(wrong_yaw=0.5), configured(max_vertices=99_000)):
        assert OfflineReconstruct.made_of(changed) != OfflineReconstruct.made_of(base)
    aligned = configured(align={"steps_iou": 7})
    assert AlignActor.made_of(aligned) != AlignActor.made_of(base)
    assert OfflineReconstruct.made_of(aligned) == OfflineReconstruct.made_of(base)
    assert SpectralShape.made_of(aligned) == SpectralShape.made_of(base)

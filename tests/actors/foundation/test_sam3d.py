"""SAM 3D Objects: a fake pipeline returns what upstream documents for a known mesh and pose; the conversions are checked by projecting it
with PyTorch3D's own equations. None of upstream's code is run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import trimesh

from actors.align import AlignActor
from actors.base import Resources, check_actors, run_actors
from actors.foundation import sam3d as module
from actors.foundation.sam3d import Sam3d, Sam3dReconstruct, Sampling
from sc3d.config import ModelsConfig
from sc3d.config_file import load_config, parse_config
from sc3d.errors import GeometryError, InputError, PreflightError
from sc3d.geometry.camera import project
from sc3d.geometry.inflate import inflate

WIDTH, HEIGHT = 320, 180
# MoGe's intrinsics are in image widths and heights; the two focal lengths differ, as do the pixels'.
INTRINSICS = np.array([[1.31, 0, 0.5], [0, 2.2, 0.5], [0, 0, 1]])
QUATERNION = np.array([0.62, -0.35, 0.58, 0.4]) / np.linalg.norm([0.62, -0.35, 0.58, 0.4])
TRANSLATION = np.array([0.42, 0.17, 3.4])
SCALE = 0.83
TINY = load_config(overrides=["models.variant=tiny", "models.device=cpu"])


def pytorch3d_matrix(q: np.ndarray) -> np.ndarray:
    """The rotation matrix of a real-first quaternion, written out: PyTorch3D's ``quaternion_to_matrix``."""
    w, x, y, z = q
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def pytorch3d_pixels(vertices: np.ndarray, R: np.ndarray | None = None) -> np.ndarray:
    """``Transform3d().scale(s).rotate(R).translate(t)`` on row vectors, and a camera whose x points left and y up."""
    R = pytorch3d_matrix(QUATERNION) if R is None else R
    x, y, z = ((vertices * SCALE) @ R + TRANSLATION).T
    left = WIDTH * (INTRINSICS[0, 2] - INTRINSICS[0, 0] * x / z)
    up = HEIGHT * (INTRINSICS[1, 2] - INTRINSICS[1, 1] * y / z)
    return np.stack([left, up], axis=1)


def toy() -> trimesh.Trimesh:
    """A z-up object in [-0.5, 0.5]^3 with a tall mast (up, +z) and a long nose (front, -y): no symmetry at all."""
    parts = [trimesh.creation.box((0.5, 0.8, 0.3)), trimesh.creation.box((0.06, 0.06, 0.6)), trimesh.creation.box((0.1, 0.3, 0.1))]
    parts[1].apply_translation((0.15, 0.1, 0.2))
    parts[2].apply_translation((-0.1, -0.45, 0.05))
    return trimesh.util.concatenate(parts).subdivide()


def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def mask() -> np.ndarray:
    inside = np.zeros((HEIGHT, WIDTH), bool)
    inside[60:120, 100:200] = True
    return inside


def depth_points() -> np.ndarray:
    """MoGe's points (H, W, 3), OpenCV: a slanted wall; infinite in the upper third and at one point of the object, as sky and holes are."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    z = 3 + x / WIDTH
    points = np.stack([(x / WIDTH - 0.5) / 1.31 * z, (y / HEIGHT - 0.5) / 2.2 * z, z], axis=-1)
    points[: HEIGHT // 3] = np.inf
    points[80, 150] = np.inf
    return points


class FakePipeline:
    """What is documented of ``InferencePipelinePointMap``: arguments, shapes, precisions, frames, and what it stumbles over.

    Like upstream's, the translation is made from the median of the point map on the object: a point map in another frame, or with
    infinities, gives another one.
    """

    device, dtype = torch.device("cpu"), torch.float16

    def __init__(self, **changes: Any) -> None:
        self.changes, self.calls, self.frames = changes, [], []

    def depth_model(self, frame: torch.Tensor) -> dict[str, torch.Tensor]:
        self.frames.append(frame)
        self._fail("depth")
        points = torch.from_numpy(self.changes.get("points", depth_points())).float()
        seen = {"pointmaps": points, "points": points, "depth": points[..., 2], "intrinsics": torch.from_numpy(INTRINSICS).float()}
        return {k: v for k, v in seen.items() if k != self.changes.get("without")}

    def run(
        self,
        image: Any,
        mask: Any = None,
        seed: int | None = None,
        stage1_only: bool = False,
        with_mesh_postprocess: bool = True,
        with_texture_baking: bool = True,
        with_layout_postprocess: bool = True,
        use_vertex_color: bool = False,
        stage1_inference_steps: int | None = None,
        stage2_inference_steps: int | None = None,
        use_stage1_distillation: bool = False,
        use_stage2_distillation: bool = False,
        pointmap: Any = None,
        decode_formats: Any = None,
        estimate_plane: bool = False,
    ) -> dict[str, Any]:
        self.calls.append({k: v for k, v in locals().items() if k != "self"})
        self._fail("run")
        mesh = self.changes.get("mesh", toy())
        outputs = {
            "mesh": [
                SimpleNamespace(
                    vertices=torch.from_numpy(np.array(mesh.vertices)).float(), faces=torch.from_numpy(np.array(mesh.faces))
                )
            ]
        }
        if decode_formats is None or "gaussian" in decode_formats:
            outputs["gaussian"] = [object()]
        outputs["gs"] = outputs["gaussian"][0]
        assert isinstance(pointmap, torch.Tensor)
        on_object = pointmap.permute(2, 0, 1)[:, torch.from_numpy(image[..., 3] > 0)]
        shift = on_object.nanmedian(dim=-1).values + 0 * on_object.norm(dim=0).nansum()
        expected = torch.from_numpy(
            np.nanmedian(np.where(np.isinf(p := depth_points()), np.nan, p)[image[..., 3] > 0], axis=0) * (-1, -1, 1)
        )
        translation = torch.from_numpy(TRANSLATION).float() + (shift - expected.float())
        pose = {
            "rotation": torch.from_numpy(QUATERNION)[None].float(),
            "translation": translation.float()[None],
            "scale": torch.full((1, 3), SCALE),
        }
        return {**pose, **outputs, "pointmap": pointmap, **{k: v for k, v in self.changes.items() if k in pose}}

    def _fail(self, where: str) -> None:
        if where in self.changes:
            raise self.changes[where]


def pixels(posed: Any) -> np.ndarray:
    """OpenCV's equations with what the wrapper returned."""
    X = posed.pose.scale * (posed.vertices @ posed.pose.R.T) + posed.pose.t
    uv = X @ posed.camera.K.T
    return uv[:, :2] / uv[:, 2:]


# --- conversions


def test_every_vertex_is_seen_where_pytorch3d_sees_it() -> None:
    posed = Sam3d(FakePipeline()).reconstruct(photo(), mask(), 7)
    expected = pytorch3d_pixels(np.array(toy().vertices))
    assert np.abs(pixels(posed) - expected).max() < 0.01
    np.testing.assert_allclose(project(posed.vertices, posed.pose, posed.camera)[0], pixels(posed))
    # The equations tell the frames apart: the transposed rotation would be far off.
    assert np.abs(pytorch3d_pixels(np.array(toy().vertices), pytorch3d_matrix(QUATERNION).T) - expected).max() > 20
    np.testing.assert_array_equal(posed.faces, toy().faces)
    assert isinstance(posed.vertices, np.ndarray)


def test_the_mesh_is_turned_to_y_up_as_upstream_s_glb_is() -> None:
    vertices = Sam3d(FakePipeline()).reconstruct(photo(), mask(), 7).vertices
    upstream = np.array(toy().vertices)
    np.testing.assert_allclose(vertices, upstream @ np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]]), atol=1e-6)
    assert np.argmax(vertices[:, 1]) in np.flatnonzero(upstream[:, 2] == upstream[:, 2].max())
    assert np.argmax(vertices[:, 2]) in np.flatnonzero(upstream[:, 1] == upstream[:, 1].min())


def test_intrinsics_are_the_depth_model_s_in_pixels() -> None:
    K = Sam3d(FakePipeline()).observe(photo()).camera.K
    np.testing.assert_allclose(K, [[1.31 * WIDTH, 0, WIDTH / 2], [0, 2.2 * HEIGHT, HEIGHT / 2], [0, 0, 1]], rtol=1e-6)


def test_upstream_is_asked_as_it_documents() -> None:
    pipeline = FakePipeline()
    Sam3d(pipeline, Sampling(structure_steps=4, detail_steps=6, distilled=True)).reconstruct(photo(), mask(), 7)
    (call,), (frame,) = pipeline.calls, pipeline.frames
    assert frame.shape == (3, HEIGHT, WIDTH)
    np.testing.assert_allclose(frame.permute(1, 2, 0).numpy() * 255, photo(), atol=1e-4)
    assert call["image"].dtype == np.uint8
    np.testing.assert_array_equal(call["image"][..., :3], photo())
    np.testing.assert_array_equal(call["image"][..., 3], np.where(mask(), 255, 0))
    assert (call["mask"], call["seed"], call["decode_formats"]) == (None, 7, None)
    assert call["use_vertex_color"]
    assert not any(call[k] for k in ("stage1_only", "with_mesh_postprocess", "with_texture_baking", "with_layout_postprocess"))
    assert (call["stage1_inference_steps"], call["stage2_inference_steps"]) == (4, 6)
    assert call["use_stage1_distillation"]
    assert call["use_stage2_distillation"]


def test_the_point_map_is_pytorch3d_s_and_what_is_infinitely_far_is_nan() -> None:
    pipeline = FakePipeline()
    Sam3d(pipeline).reconstruct(photo(), mask(), 7)
    points, expected = pipeline.calls[0]["pointmap"].numpy(), depth_points()
    far = np.isinf(expected).any(axis=-1)
    assert np.isnan(points[far]).all()
    np.testing.assert_allclose(points[~far], expected[~far] * (-1, -1, 1), rtol=1e-6)
    assert (pipeline.calls[0]["stage1_inference_steps"], pipeline.calls[0]["use_stage1_distillation"]) == (None, False)


def test_several_objects_of_a_photo_need_its_depth_once() -> None:
    pipeline = FakePipeline()
    model = Sam3d(pipeline)
    seen = model.observe(photo())
    for inside in (mask(), np.roll(mask(), 30, axis=1)):
        posed = model.reconstruct_object(seen, inside, 0)
        np.testing.assert_array_equal(pipeline.calls[-1]["image"][..., 3] > 0, inside)
        assert np.abs(pixels(posed) - pytorch3d_pixels(np.array(toy().vertices))).max() < 0.01
    assert len(pipeline.frames) == 1


# --- what upstream may do wrong


NO_FACES = SimpleNamespace(vertices=np.zeros((3, 3)), faces=np.zeros((0, 3), np.int64))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mesh": NO_FACES}, "without faces"),
        ({"points": np.full((HEIGHT, WIDTH, 3), np.inf)}, "sees no surface under the mask"),
        ({"without": "intrinsics"}, "no intrinsics"),
        ({"points": np.ones((HEIGHT, WIDTH + 1, 3))}, r"point map of the shape \(180, 321, 3\)"),
        ({"rotation": torch.zeros(1, 4)}, "quaternion 0"),
        ({"rotation": torch.ones(1, 6)}, r"rotation of the shape \(1, 6\)"),
        ({"translation": torch.tensor([[0, 0, torch.nan]])}, "translation that is not finite"),
        ({"scale": torch.tensor([[1.0, 1.0, 1.2]])}, "not one number"),
        ({"scale": torch.tensor([[-1.0, -1.0, -1.0]])}, "scale must be positive"),
    ],
)
def test_what_upstream_cannot_have_meant_is_a_geometry_error(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(GeometryError, match=message):
        Sam3d(FakePipeline(**changes)).reconstruct(photo(), mask(), 0)


def test_photos_and_masks_of_another_kind() -> None:
    model = Sam3d(FakePipeline())
    for rgb in (photo()[..., 0], photo().astype(float), np.dstack([photo(), photo()])):
        with pytest.raises(InputError, match="must be"):
            model.reconstruct(rgb, mask(), 0)
    for inside in (np.zeros((HEIGHT, WIDTH), bool), mask()[:, 1:]):
        with pytest.raises(InputError, match="mask is empty"):
            model.reconstruct(photo(), inside, 0)


@pytest.mark.parametrize("where", ["depth", "run"])
def test_a_full_gpu_is_said_with_what_to_do(where: str) -> None:
    full = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.40 GiB.\nmore")
    with pytest.raises(PreflightError, match=r"Tried to allocate 2.40 GiB.*32 GB and more") as caught:
        Sam3d(FakePipeline(**{where: full})).reconstruct(photo(), mask(), 0)
    # Nothing may hold on to the frames in which the tensors are.
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    with pytest.raises(RuntimeError, match="spconv"):
        Sam3d(FakePipeline(**{where: RuntimeError("spconv")})).reconstruct(photo(), mask(), 0)


# --- the actor


def row(image_id: str = "a", **changes: Any) -> dict[str, Any]:
    return {"image_id": image_id, "image": photo(), "mask": mask(), "width": WIDTH, "height": HEIGHT, **changes}


@pytest.fixture
def actor(monkeypatch: pytest.MonkeyPatch) -> Sam3dReconstruct:
    fetched: list[tuple[str, Any]] = []
    monkeypatch.setattr(module, "check_installed", lambda: None)
    monkeypatch.setattr(module, "fetch_weights", lambda source, files, cache: fetched.append((source, cache)) or source)
    monkeypatch.setattr(module, "load_pipeline", lambda *arguments: FakePipeline(arguments=arguments))
    config = parse_config(
        {"models": {"sam3d": "a/b@c", "cache": "there", "dtype": "bfloat16"}, "reconstruct": {"max_vertices": 100_000}}
    )
    built = Sam3dReconstruct(config)
    assert fetched == [("a/b@c", "there"), ("Ruicheng/moge-vitl", "there")]
    assert built.model.pipeline.changes["arguments"] == ("a/b@c", "Ruicheng/moge-vitl", "bfloat16")
    return built


def test_the_actor_s_reconstruction_is_seen_where_pytorch3d_sees_it(actor: Sam3dReconstruct) -> None:
    check_actors([Sam3dReconstruct, AlignActor], ["image_id", "image", "mask", "width", "height"])
    result = run_actors([actor], [row()], "image_id", "reconstruct")[0]
    assert result.reject is None
    r = result.row
    assert np.ptp(r["vertices"], axis=0).max() == pytest.approx(1)
    X = r["scale_initial"] * (r["vertices"] @ r["rotation"].T) + r["translation_initial"]
    found = (X @ r["intrinsics"].T)[:, :2] / X[:, 2:]
    # Cleaning renumbers, so each vertex is compared with the nearest, both ways.
    expected = pytorch3d_pixels(np.array(toy().vertices))
    distances = np.linalg.norm(found[:, None] - expected[None], axis=2)
    assert max(distances.min(axis=0).max(), distances.min(axis=1).max()) < 0.01


def test_a_mesh_without_faces_and_a_full_gpu_are_rejects_of_their_row_alone(actor: Sam3dReconstruct) -> None:
    outcomes = []
    for image_id, changes in (("a", {"mesh": NO_FACES}), ("b", {"run": torch.OutOfMemoryError("CUDA out of memory")}), ("c", {})):
        actor.model = Sam3d(FakePipeline(**changes))
        outcomes += run_actors([actor], [row(image_id)], "image_id", "reconstruct")
    kinds = [outcome.reject.error_type if outcome.reject else None for outcome in outcomes]
    assert kinds == ["GeometryError", "PreflightError", None]


def test_what_the_actor_asks_of_a_node() -> None:
    assert Sam3dReconstruct.needs(load_config()) == Resources(num_cpus=1, num_gpus=0.75, custom={"sam3d": 1})
    named = parse_config({"models": {"sam3d_environment": "sc3d-sam3d"}})
    assert Sam3dReconstruct.needs(named) == Resources(num_cpus=1, num_gpus=0.75, environment="sc3d-sam3d")
    assert Sam3dReconstruct.needs(TINY) == Resources(num_cpus=1)
    # There is no small model of it that would use a GPU.
    assert Sam3dReconstruct.needs(parse_config({"models": {"variant": "tiny", "device": "cuda"}})) == Resources(num_cpus=1)


def test_recipes_follow_weights_precision_and_sampling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.weights.weights_identity", lambda source, cache, files: f"of {source}")

    configs = [
        {},
        {"sam3d": "other/one"},
        {"sam3d_depth": "other/depth"},
        {"dtype": "float16"},
        {"variant": "tiny"},
        {"sam3d_steps": 8},
        {"sam3d_distilled": True},
    ]
    recipes = [Sam3dReconstruct.made_of(parse_config({"models": values})) for values in configs]
    recipes.append(Sam3dReconstruct.made_of(parse_config({"seed": 3})))
    assert len({str(sorted(p.items())) for p in recipes}) == len(recipes)
    defaults = ModelsConfig()
    assert recipes[0]["weights"] == {"models.sam3d": f"of {defaults.sam3d}", "models.sam3d_depth": f"of {defaults.sam3d_depth}"}
    assert all("tiny" in identity for identity in recipes[4]["weights"].values())


# --- the tiny variant


def test_the_tiny_variant_needs_nothing_and_shows_the_mask() -> None:
    outcome = run_actors([Sam3dReconstruct(TINY), AlignActor(TINY)], [row()], "image_id", "reconstruct")[0]
    assert outcome.reject is None, outcome.reject
    assert outcome.row["iou_before"] > 0.97
    posed = Sam3d(module.SilhouettePipeline()).reconstruct(photo(), mask(), 0)
    vertices, faces, camera, pose = inflate(mask())
    assert np.abs(pixels(posed) - project(vertices, pose, camera)[0]).max() < 0.01
    np.testing.assert_allclose(posed.vertices, vertices, atol=1e-6)
    np.testing.assert_array_equal(posed.faces, faces)

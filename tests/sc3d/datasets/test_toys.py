"""The toys benchmark: its files are SPair-71k's, its truth is exact, and a seed fixes every byte."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sc3d.datasets.toys import CATEGORIES, ToysConfig, drawing, generate, generate_toys, toy_truth
from sc3d.datasets.toys.catalogue import CATALOGUE
from sc3d.datasets.toys.meshing import FACES, mesh_toy
from sc3d.datasets.toys.paint import Paintwork
from sc3d.datasets.toys.raycast import ToyScene
from sc3d.datasets.toys.shapes import Box, Disc, Ellipsoid, Ring, Rod, Shape, Turned, turn_x, turn_z
from sc3d.datasets.toys.toy import keypoint_table
from sc3d.datasets.toys.views import sample_view
from sc3d.errors import ConfigError, InputError
from sc3d.geometry.camera import project

# The fields of SPair-71k's own files, from the examples of its distribution.
IMAGE_FIELDS = [
    "filename", "src_database", "src_annotation", "src_image", "image_width", "image_height", "image_depth", "category", "pose",
    "truncated", "occluded", "difficult", "bndbox", "kps", "azimuth_id",
]  # fmt: skip
PAIR_FIELDS = [
    "pair_id", "filename", "src_imname", "trg_imname", "src_imsize", "trg_imsize", "src_bndbox", "trg_bndbox", "category", "src_pose",
    "trg_pose", "src_kps", "trg_kps", "kps_ids", "mirror", "viewpoint_variation", "scale_variation", "truncation", "occlusion",
]  # fmt: skip

SMALL = ToysConfig(
    categories=("chair", "car"),
    images={"trn": 3, "val": 2, "test": 2},
    width=240,
    height=180,
    occlusion=0.5,
    truncation=0.3,
    workers=1,
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toys") / "toys"
    generate_toys(folder, SMALL)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def annotations(folder: Path) -> list[tuple[dict, Path]]:
    files = sorted((folder / "ImageAnnotation").rglob("*.json"))
    return [(json.loads(f.read_text()), folder / "truth" / f.parent.name / f"{f.stem}.npz") for f in files]


def first_hits(vertices: np.ndarray, faces: np.ndarray, origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Distances (N,) along rays to the nearest triangle, inf where none is hit: Moeller and Trumbore, every ray with every triangle."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    result = np.full(len(origins), np.inf)
    for i, (origin, direction) in enumerate(zip(origins, directions, strict=True)):
        p = np.cross(direction, c - a)
        det = np.einsum("fc,fc->f", p, b - a)
        with np.errstate(divide="ignore", invalid="ignore"):
            u = np.einsum("fc,fc->f", p, origin - a) / det
            q = np.cross(origin - a, b - a)
            v = q @ direction / det
            depth = np.einsum("fc,fc->f", q, c - a) / det
        hit = (np.abs(det) > 1e-14) & (u >= -1e-9) & (v >= -1e-9) & (u + v <= 1 + 1e-9) & (depth > 0)
        result[i] = depth[hit].min(initial=np.inf)
    return result


def test_layout_is_that_of_spair(root: Path) -> None:
    assert {p.name for p in root.iterdir()} == {
        "JPEGImages", "ImageAnnotation", "PairAnnotation", "Segmentation", "Layout", "truth", "keypoints.json", "toys.json",
    }  # fmt: skip
    for annotation, truth in annotations(root):
        assert list(annotation) == IMAGE_FIELDS
        assert list(annotation["kps"]) == [str(i) for i in range(30)]
        stem, category = truth.stem, annotation["category"]
        assert annotation["filename"] == f"{stem}.jpg"
        with Image.open(root / "JPEGImages" / category / annotation["filename"]) as image:
            assert (image.format, image.size) == ("JPEG", (annotation["image_width"], annotation["image_height"]))
        mask = np.asarray(Image.open(root / "Segmentation" / category / f"{stem}.png"))
        rows, columns = np.nonzero(mask)
        assert set(np.unique(mask)) == {0, 255}
        assert annotation["bndbox"] == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_pairs_repeat_what_their_images_say(root: Path) -> None:
    for split in ("trn", "val", "test"):
        lines = (root / "Layout" / "large" / f"{split}.txt").read_text().splitlines()
        assert lines == sorted(p.stem for p in (root / "PairAnnotation" / split).iterdir())
        assert set((root / "Layout" / "small" / f"{split}.txt").read_text().splitlines()) <= set(lines)
        assert split != "trn" or len(lines) >= 8
        for line in lines:
            pair = json.loads((root / "PairAnnotation" / split / f"{line}.json").read_text())
            assert list(pair) == PAIR_FIELDS
            assert pair["filename"] == line
            images = {}
            for side in ("src", "trg"):
                name = Path(pair[f"{side}_imname"])
                assert name.stem.startswith(split)
                images[side] = image = json.loads((root / "ImageAnnotation" / pair["category"] / f"{name.stem}.json").read_text())
                assert pair[f"{side}_bndbox"] == image["bndbox"]
                assert pair[f"{side}_pose"] == image["pose"]
                assert pair[f"{side}_kps"] == [image["kps"][i] for i in pair["kps_ids"]]
            common = [i for i in images["src"]["kps"] if images["src"]["kps"][i] and images["trg"]["kps"][i]]
            assert pair["kps_ids"] == common
            assert len(common) >= 3
            assert pair["truncation"] == images["src"]["truncated"] + 2 * images["trg"]["truncated"]
            assert pair["occlusion"] == images["src"]["occluded"] + 2 * images["trg"]["occluded"]


def test_pair_grades_follow_the_images() -> None:
    base = {
        "filename": "a.jpg", "category": "car", "pose": "Left", "image_width": 10, "image_height": 10, "image_depth": 3,
        "kps": {"0": [1, 1]}, "truncated": 0, "occluded": 0, "bndbox": [0, 0, 10, 5],
    }  # fmt: skip
    for turn, size, expected in ((1, 10, (0, 0)), (7, 16, (0, 1)), (2, 25, (1, 2)), (4, 4, (2, 2))):
        other = base | {"azimuth_id": turn, "bndbox": [0, 0, size, 2], "truncated": 1}
        pair = generate._pair_annotation(7, base | {"azimuth_id": 0, "occluded": 1}, other)
        assert (pair["viewpoint_variation"], pair["scale_variation"]) == expected
        assert (pair["truncation"], pair["occlusion"], pair["filename"]) == (2, 1, "000007-a-a:car")


def test_keypoints_are_projections_of_surface_points(root: Path) -> None:
    for annotation, path in annotations(root):
        truth = toy_truth(path)
        on_surface = trimesh.triangles.closest_point(
            truth.mesh.vertices[np.repeat(truth.mesh.faces, 1, axis=0)].repeat(len(truth.keypoints), axis=0),
            np.tile(truth.keypoints, (len(truth.mesh.faces), 1)),
        ).reshape(len(truth.mesh.faces), -1, 3)
        assert np.linalg.norm(on_surface - truth.keypoints, axis=2).min(axis=0).max() < 1e-6
        xy, depth = project(truth.keypoints, truth.pose, truth.camera)
        assert (depth > 0).all()
        stated = annotation["kps"]
        for i, seen in enumerate(truth.visible):
            assert (stated[str(i)] is not None) == seen
            if seen:
                # Half a pixel of rounding in x and in y.
                assert np.abs(np.array(stated[str(i)]) - xy[i]).max() <= 0.5 + 1e-9
                x, y = np.floor(xy[i]).astype(int)
                assert truth.mask[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3].any()
        assert all(stated[str(i)] is None for i in range(len(truth.visible), 30))


def test_visible_keypoints_are_in_sight_and_hidden_ones_are_not(root: Path) -> None:
    """Against rays through every triangle. The tolerance is the height at which a corner still counts as seen."""
    for _, path in annotations(root):
        truth = toy_truth(path)
        centre = -truth.pose.R.T @ truth.pose.t / truth.pose.scale
        directions = truth.keypoints - centre
        blocked_by = 1 - first_hits(truth.mesh.vertices, truth.mesh.faces, np.tile(centre, (len(directions), 1)), directions)
        gap = blocked_by * np.linalg.norm(directions, axis=1)
        xy, _ = project(truth.keypoints, truth.pose, truth.camera)
        x, y = np.clip(np.floor(xy).astype(int).T, 0, np.array([[truth.camera.width], [truth.camera.height]]) - 1)
        inside = ((xy >= 0) & (xy < [truth.camera.width, truth.camera.height])).all(axis=1)
        # The ray to a corner on the horizon may graze the toy shortly before it, but nothing hides it from afar.
        assert gap[truth.visible].max() < 0.121
        assert not (truth.visible & ~inside).any()
        plain = inside & truth.mask[y, x] & (gap < 1e-3)
        assert truth.visible[plain].all()
        assert truth.visible.any()
        assert not truth.visible.all()


def test_masks_agree_with_rays_through_every_triangle(root: Path) -> None:
    rng = np.random.default_rng(0)
    for annotation, path in annotations(root)[::3]:
        truth = toy_truth(path)
        height, width = truth.full_mask.shape
        rows, columns = rng.integers(0, height, 150), rng.integers(0, width, 150)
        pixels = np.column_stack([columns + 0.5, rows + 0.5, np.ones(150)])
        directions = pixels @ np.linalg.inv(truth.camera.K).T @ truth.pose.R
        centre = -truth.pose.R.T @ truth.pose.t / truth.pose.scale
        hit = np.isfinite(first_hits(truth.mesh.vertices, truth.mesh.faces, np.tile(centre, (150, 1)), directions))
        np.testing.assert_array_equal(hit, truth.full_mask[rows, columns])
        assert not (truth.mask & ~truth.full_mask).any()
        hidden = 1 - truth.mask.sum() / truth.full_mask.sum()
        assert (0.05 < hidden <= 0.41) if annotation["occluded"] else hidden == 0


@pytest.mark.parametrize(("truncation", "occlusion"), [(1.0, 0.0), (0.0, 1.0)])
def test_rates_of_truncation_and_occlusion_are_kept(tmp_path: Path, truncation: float, occlusion: float) -> None:
    config = dataclasses.replace(SMALL, categories=("mug",), truncation=truncation, occlusion=occlusion)
    generate_toys(tmp_path / "toys", config)
    flags = [(a["truncated"], a["occluded"]) for a, _ in annotations(tmp_path / "toys")]
    assert {t for t, _ in flags} == {int(truncation)}
    # An occluder that hides neither too little nor too much is not found for every picture.
    assert np.mean([o for _, o in flags]) >= 0.7 if occlusion else not any(o for _, o in flags)


def test_same_seed_same_bytes_and_another_held_out_seed_changes_the_test_split_alone(root: Path, tmp_path: Path) -> None:
    generate_toys(tmp_path / "again", SMALL)
    first, again = contents(root), contents(tmp_path / "again")
    assert first == again
    generate_toys(tmp_path / "other", dataclasses.replace(SMALL, held_out_seed=9))
    other = contents(tmp_path / "other")
    images = [name for name in first if name.startswith(("JPEGImages", "truth"))]
    assert {name for name in images if first[name] != other[name]} == {name for name in images if "/test_" in name}


def test_every_image_shows_its_own_instance(root: Path) -> None:
    meshes = [toy_truth(path).mesh.vertices.tobytes() for _, path in annotations(root)]
    assert len(set(meshes)) == len(meshes) == 14


@pytest.mark.slow
def test_bytes_do_not_depend_on_the_number_of_processes(root: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    generate_toys(tmp_path / "toys", dataclasses.replace(SMALL, workers=2), lambda done, total: seen.append((done, total)))
    assert contents(root) == contents(tmp_path / "toys")
    assert seen == [(i, 14) for i in range(1, 15)]


def test_a_finished_benchmark_is_left_alone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*")}
    monkeypatch.setattr(generate, "_write_all", lambda *_: pytest.fail("drawn again"))
    generate_toys(root, dataclasses.replace(SMALL, workers=2))
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*")} == before


def test_another_configuration_or_other_files_are_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="another configuration"):
        generate_toys(root, dataclasses.replace(SMALL, seed=5))
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(InputError, match=r"holds other files"):
        generate_toys(tmp_path, SMALL)
    with pytest.raises(InputError, match="is a file"):
        generate_toys(tmp_path / "photo.jpg", SMALL)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "toys.json").write_text("{")
    with pytest.raises(InputError, match=r"toys\.json: cannot be read"):
        generate_toys(tmp_path / "broken", SMALL)


def test_a_run_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail_on_the_third(job: drawing.Drawing) -> dict:
        if job.index == 2:
            raise OSError("disk full")
        return original(job)

    original = drawing.draw
    monkeypatch.setattr(drawing, "draw", fail_on_the_third)
    with pytest.raises(OSError, match="disk full"):
        generate_toys(tmp_path / "toys", SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "bad",
    [
        {"categories": ()},
        {"categories": ("spoon",)},
        {"categories": ("car", "car")},
        {"images": {"trn": 1}},
        {"images": {"trn": -1, "val": 0, "test": 0}},
        {"images": {"trn": 0, "val": 0, "test": 0}},
        {"max_pairs": {"trn": 1.5, "val": 0, "test": 0}},
        {"width": 10},
        {"seed": 1, "held_out_seed": 1},
        {"seed": -1},
        {"occlusion": 1.5},
        {"truncation": float("nan")},
        {"workers": -1},
    ],
)
def test_bad_configurations_are_refused(bad: dict) -> None:
    with pytest.raises(ConfigError, match="toys:"):
        ToysConfig(**bad)


def test_truth_files_that_are_none_are_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such truth file"):
        toy_truth(tmp_path / "a.npz")
    (tmp_path / "a.npz").write_bytes(b"not a zip")
    with pytest.raises(InputError, match=r"a\.npz"):
        toy_truth(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", vertices=np.zeros((3, 3)))
    with pytest.raises(InputError, match="faces, K"):
        toy_truth(tmp_path / "b.npz")
    data = dict(np.load(annotations(root)[0][1]))
    np.savez(tmp_path / "c.npz", **(data | {"faces": data["faces"] + 10**6}))
    with pytest.raises(InputError, match=r"c\.npz"):
        toy_truth(tmp_path / "c.npz")
    truncated = annotations(root)[0][1].read_bytes()[:2000]
    (tmp_path / "d.npz").write_bytes(truncated)
    with pytest.raises(InputError, match=r"d\.npz"):
        toy_truth(tmp_path / "d.npz")


@pytest.mark.parametrize("category", CATEGORIES)
def test_meshes_are_one_closed_surface_in_the_unit_box(category: str) -> None:
    for seed in range(4):
        toy = CATALOGUE[category].build(np.random.default_rng(seed))
        mesh = mesh_toy(toy)
        surface = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
        assert surface.is_watertight
        assert surface.body_count == 1
        assert surface.volume > 0
        assert 2000 <= len(mesh.faces) <= FACES
        np.testing.assert_allclose(mesh.vertices.max(axis=0), -mesh.vertices.min(axis=0), atol=1e-6)
        assert np.ptp(mesh.vertices, axis=0).max() == pytest.approx(1, abs=1e-6)
        assert set(toy.keypoints) == set(CATALOGUE[category].keypoints)
        wanted = mesh.canonical(np.array(list(toy.keypoints.values())))
        # A sharp corner stands this far off the rounding that the toys have instead.
        assert np.linalg.norm(ToyScene(mesh).snap(wanted)[0] - wanted, axis=1).max() < 0.045


@pytest.mark.parametrize("category", CATEGORIES)
def test_left_and_right_are_keypoints_of_both_sides(category: str) -> None:
    names = CATALOGUE[category].keypoints
    assert 15 <= len(names) <= 30
    assert len(set(names)) == len(names)
    table = keypoint_table(names)
    assert table["mirrored"]
    toy = CATALOGUE[category].build(np.random.default_rng(3))
    for left, right in table["mirrored"]:
        assert (table["side"][left], table["side"][right]) == (1, 2)
        assert toy.keypoints[names[left]][0] > 0 > toy.keypoints[names[right]][0]
        assert any({left, right} <= set(group) for group in table["repeated"])


@pytest.mark.parametrize("category", ["car", "bus", "aeroplane", "chair", "table", "mug", "bottle"])
def test_paint_is_the_same_on_both_sides(category: str) -> None:
    toys = [CATALOGUE[category].build(np.random.default_rng(seed)) for seed in range(30)]
    textured = [toy for toy in toys if toy.texture is not None]
    assert 0 < len(textured) < len(toys)
    for toy in textured[:2] + toys[:2]:
        mesh = mesh_toy(toy)
        points = mesh.own(mesh.vertices)
        paint = Paintwork(toy)
        different = (paint.labels(points) != paint.labels(points * [-1, 1, 1])).mean()
        # Points on the border between two paints may fall to either side.
        assert different < 0.005
        np.testing.assert_allclose(paint.colours(points)[:, 1].mean(), paint.colours(points * [-1, 1, 1])[:, 1].mean(), atol=0.003)


def test_the_camera_sees_the_left_side_at_90_degrees() -> None:
    """SPair-71k's 'Left': the object faces the image's left, and shows its own left side."""
    toy = CATALOGUE["car"].build(np.random.default_rng(0))
    mesh = mesh_toy(toy)
    for azimuth, nearer in ((90.0, 1.0), (270.0, -1.0)):
        view = sample_view(np.random.default_rng(1), mesh.vertices, (400, 300), azimuth, 15.0, False)
        assert abs((view.azimuth - azimuth + 180) % 360 - 180) < 25
        xy, depth = project(np.array([[0, 0, 0.5], [0, 0, -0.5], [0.2, 0, 0], [-0.2, 0, 0]]), view.pose, view.camera)
        assert (xy[1, 0] - xy[0, 0]) * nearer > 0
        assert (depth[3] - depth[2]) * nearer > 0


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.floats(0, 360), st.floats(-20, 45))
def test_views_frame_the_toy(seed: int, azimuth: float, elevation: float) -> None:
    corners = np.array(np.meshgrid([-0.3, 0.3], [-0.2, 0.2], [-0.5, 0.5])).reshape(3, -1).T
    view = sample_view(np.random.default_rng(seed), corners, (400, 300), azimuth, elevation, truncated=False)
    xy, depth = project(corners, view.pose, view.camera)
    assert (depth > 0).all()
    assert (xy > 3).all()
    assert (xy < [397, 297]).all()
    assert 0.59 < (np.ptp(xy, axis=0) / [400, 300]).max() < 0.94
    cut = sample_view(np.random.default_rng(seed), corners, (400, 300), azimuth, elevation, truncated=True)
    outside, _ = project(corners, cut.pose, cut.camera)
    share_out = np.maximum(-outside.min(axis=0), outside.max(axis=0) - [400, 300]) / np.ptp(outside, axis=0)
    assert 0.11 < share_out.max() < 0.36


def test_rays_and_projection_are_inverse() -> None:
    corners = np.array(np.meshgrid([-0.3, 0.3], [-0.2, 0.2], [-0.5, 0.5])).reshape(3, -1).T
    view = sample_view(np.random.default_rng(0), corners, (400, 300), 30.0, 20.0, False)
    pixels = np.random.default_rng(1).uniform(0, 300, (50, 2))
    rays = view.rays(pixels).astype(np.float64)
    xy, depth = project(rays[:, :3] + 2.5 * rays[:, 3:], view.pose, view.camera)
    np.testing.assert_allclose(xy, pixels, atol=1e-2)
    np.testing.assert_allclose(depth, 2.5, atol=1e-5)


SHAPES: list[Shape] = [
    Box((0.1, 0, 0), (0.3, 0.2, 0.4), 0.05),
    Box((0, 0.1, 0), (0.2, 0.3, 0.2), 0.02, top=(0.5, 0.8), shear=(0.1, -0.1), rotation=turn_x(20) @ turn_z(30)),
    Rod((0, 0, 0), (0.3, 0.2, -0.1), 0.1, 0.05),
    Ellipsoid((0, 0, 0.1), (0.4, 0.3, 0.35), turn_x(30)),
    Disc((0, 0.1, 0), 0.3, 0.1, 0.03),
    Ring((0, 0, 0), 0.3, 0.08),
    Ring((0, 0, 0), 0.3, 0.08, stretch=0.8),
    Ring((0, 0, 0), 0.3, 0.08, axis=1),
    Turned((0, 0, 0), ((-0.3, 0.1), (0, 0.3), (0.4, 0.2))),
    Turned((0, 0, 0), ((-0.3, 0.1), (0, 0.2), (0.4, 0.1)), axis=2),
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: type(s).__name__)
def test_shapes_fill_their_bounds_and_never_overstate_distances(shape: Shape) -> None:
    lower, upper = shape.bounds()
    margin = 0.2
    points = np.random.default_rng(0).uniform(lower - margin, upper + margin, (30_000, 3))
    distance = shape.distance(points)
    inside = points[distance < 0]
    assert len(inside) > 500
    assert (inside > lower - 1e-9).all()
    assert (inside < upper + 1e-9).all()
    # What leans or tapers need not reach the corners that its box allows for; everything else touches all six sides.
    if not isinstance(shape, Box) or shape.top == (1.0, 1.0):
        assert (inside.min(axis=0) - lower < 0.05).all()
        assert (upper - inside.max(axis=0) < 0.05).all()
    # A distance to the surface cannot exceed the distance to any point inside; ellipsoids are of first order, so near ones only.
    outside = points[(distance > 0) & (distance < 0.1)][:200]
    nearest = np.sqrt(((outside[:, None] - inside[None]) ** 2).sum(-1)).min(axis=1)
    assert (shape.distance(outside) <= nearest + 0.01).all()

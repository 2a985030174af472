"""The report's pictures show what they claim: places, colours, and pixels where they belong."""

from __future__ import annotations

import base64
import io
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from sc3d.config import LabelConfig, MatchConfig
from sc3d.geometry.camera import Camera, Pose
from sc3d.geometry.mesh import Mesh
from sc3d.images import decode_mask
from sc3d.matching.described import Described
from sc3d.matching.explain import CYCLE, GEODESIC, explain_pair
from sc3d.report.alignment import alignment_card, turn_left, yaw_card
from sc3d.report.colours import MASK, hex_of, position_colours
from sc3d.report.feature_maps import feature_card
from sc3d.report.pairs import KEPT, View, pair_figure
from sc3d.report.pictures import front_view, grid_picture, outline_mask, overlay_mesh, principal_colours, shrink


def decoded(uri: str) -> np.ndarray:
    head, _, data = uri.partition(",")
    assert head in ("data:image/jpeg;base64", "data:image/png;base64", "data:image/webp;base64")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_position_colours_tell_places_apart_and_are_the_same_for_the_same_place() -> None:
    xy = np.array([[0, 0], [50, 0], [100, 0], [0, 80], [50, 80], [100, 80]], float)
    colours = position_colours(xy).astype(int)
    apart = np.abs(colours[:, None] - colours[None]).sum(axis=2)[~np.eye(6, dtype=bool)]
    assert apart.min() > 60
    np.testing.assert_array_equal(position_colours(xy * 3 + 7), colours)
    brightness = colours @ [0.299, 0.587, 0.114]
    assert (brightness[:3] > brightness[3:]).all()
    assert position_colours(np.zeros((0, 2))).shape == (0, 3)
    assert position_colours(np.zeros((1, 2))).shape == (1, 3)
    assert hex_of(np.array([255, 0, 16])) == "#ff0010"


def test_grid_picture_takes_the_mean_where_a_cell_is_met_twice() -> None:
    colours = np.array([[10, 20, 30], [30, 40, 50], [255, 0, 0]], np.uint8)
    picture = grid_picture(np.array([5, 5, 8]), colours, 3)
    assert picture[1, 2].tolist() == [20, 30, 40, 255]
    assert picture[2, 2].tolist() == [255, 0, 0, 255]
    assert (picture[..., 3] > 0).sum() == 2


def test_principal_colours_compare_across_images() -> None:
    rng = np.random.default_rng(0)
    parts = rng.normal(size=(4, 30))
    first, second = rng.integers(0, 4, 500), rng.integers(0, 4, 70)
    images = [parts[labels] + rng.normal(0, 0.05, (len(labels), 30)) for labels in (first, second)]
    images[1][3] = 0
    a, b = principal_colours(images)
    assert b[3].tolist() == [128, 128, 128]
    for part in range(4):
        mine, theirs = a[first == part].mean(axis=0), np.delete(b, 3, 0)[np.delete(second, 3) == part].mean(axis=0)
        assert np.abs(mine - theirs).max() < 12
        others = [a[first == other].mean(axis=0) for other in range(4) if other != part]
        assert min(np.abs(mine - other).max() for other in others) > 60


@pytest.mark.parametrize("rows", [np.zeros((0, 5)), np.ones((3, 5)), np.zeros((9, 5)), np.ones((50, 5)), np.eye(6)[:, :2]])
def test_principal_colours_of_degenerate_descriptors(rows: np.ndarray) -> None:
    (colours,) = principal_colours([rows])
    assert colours.shape == (len(rows), 3)
    assert colours.dtype == np.uint8


def test_outline_follows_the_border_of_the_mask() -> None:
    mask = np.zeros((40, 50), bool)
    mask[10:30, 5:45] = True
    image = np.full((40, 50, 3), 90, np.uint8)
    drawn = outline_mask(image, mask)
    assert drawn[10, 20].tolist() == list(MASK)
    assert drawn[20, 20].tolist() == [90] * 3
    assert drawn[0, 0].tolist() == [90] * 3
    assert (outline_mask(image, np.zeros_like(mask)) == image).all()


def test_mesh_is_drawn_where_the_camera_sees_it(scene: ModuleType) -> None:
    one = scene.scene_image("one", 3)
    r = one.reconstruction
    mask = decode_mask(r.mask)
    picture = overlay_mesh(
        one.photo, mask, Mesh(r.vertices, r.faces), Pose(r.rotation, r.translation), Camera(r.intrinsics, 192, 144)
    )
    teal = (picture[..., 1].astype(int) - picture[..., 0]) > 25
    inside = mask & ~(outline_mask(one.photo, mask) != one.photo).any(axis=2)
    assert teal[inside].mean() > 0.98
    assert teal[~mask].mean() < 0.01


def test_front_view_shows_the_front_after_the_turn() -> None:
    # A body along z with a fin towards +x near its front: seen from +z, +x is on the right.
    import trimesh

    body = trimesh.creation.box((0.2, 0.2, 1.0))
    fin = trimesh.creation.box((0.5, 0.1, 0.1))
    fin.apply_translation((0.3, 0, 0.45))
    both = trimesh.util.concatenate([body, fin])
    mesh = Mesh(np.asarray(both.vertices), np.asarray(both.faces))
    columns = {turn: np.nonzero(front_view(mesh, turn, 64)[..., 3])[1] for turn in (0, 90, 180)}
    # The box is in the middle, so the heavy body lies on the other side of it than the fin.
    assert columns[0].mean() < 31
    assert columns[180].mean() > 33
    # Turned by 90 degrees, the long body lies across the view.
    assert np.ptp(columns[90]) > 1.3 * np.ptp(columns[0])


def test_alignment_card_shows_before_and_after(scene: ModuleType) -> None:
    one = scene.scene_image("one", 1, turn=90)
    card = alignment_card(one.photo, one.reconstruction)
    before, after = decoded(card.before).astype(int), decoded(card.after).astype(int)
    assert before.shape == after.shape == decoded(card.mask).shape
    assert np.abs(before - after).mean() > 3
    # The aligned mesh fills the mask, and stays inside, in the window around the object as in the whole photo.
    mask = decode_mask(one.reconstruction.mask)
    teal = (after[..., 1] - after[..., 0]) > 25
    assert teal.sum() == pytest.approx(mask.sum(), rel=0.25)
    assert before.shape[0] < 144
    assert (card.flags, card.improved) == (("the mesh does not fit the mask well",), True)
    start_kept = one.reconstruction.replace(flags=("not_improved",))
    assert (alignment_card(one.photo, start_kept).flags, alignment_card(one.photo, start_kept).improved) == ((), False)
    assert (card.iou_before, card.iou_after) == (one.reconstruction.iou_before, 1.0)


def test_large_photos_become_small_pictures(scene: ModuleType) -> None:
    assert shrink(np.zeros((3000, 1000, 3), np.uint8), 300).shape == (300, 100, 3)
    assert shrink(np.zeros((30, 10, 3), np.uint8), 300).shape == (30, 10, 3)
    assert shrink(np.zeros((2, 9000, 3), np.uint8), 300).shape == (1, 300, 3)


@pytest.mark.parametrize(
    ("injected", "turn", "left"), [(-1, 90, 0), (0, 0, 0), (90, 270, 0), (90, 0, 90), (0, 90, 90), (180, 90, 270)]
)
def test_turn_left(injected: int, turn: int, left: int) -> None:
    assert turn_left(injected, turn) == left


def test_yaw_card(scene: ModuleType) -> None:
    left, turned = (scene.scene_image("one", 1, turn=turn) for turn in (0, 180))
    card = yaw_card(left.orientation, left.reconstruction)
    assert (card.verdict, card.wrong, card.before == card.after) == ("left", False, True)
    card = yaw_card(turned.orientation, turned.reconstruction)
    assert (card.verdict, card.wrong, card.before == card.after) == ("turned", False, False)
    assert card.votes == (-1, *[180] * 7)
    card = yaw_card(left.orientation.replace(uncertain=True), turned.reconstruction)
    assert (card.verdict, card.wrong) == ("uncertain", True)


def test_feature_card_crops_photo_and_maps_alike(scene: ModuleType) -> None:
    images = [scene.scene_image(f"i{seed}", seed) for seed in range(3)]
    card = feature_card("blob", [i.photo for i in images], [i.features for i in images], {"dino": "a model"})
    assert [row.group for row in card.rows] == ["dino", "sd", "shape"]
    assert card.image_ids == ("i0", "i1", "i2")
    for row in card.rows:
        for uri, photo_uri, image in zip(row.maps, card.photos, images, strict=True):
            picture, photo = decoded(uri), decoded(photo_uri)
            assert picture.shape[0] == picture.shape[1] < 60
            assert (picture[..., 3] > 0).sum() == image.features.foreground.sum()
            assert abs(photo.shape[0] - photo.shape[1]) <= 1
            # The object fills the window from side to side, so its middle row shows it and the top row does not.
            assert picture[len(picture) // 2, :, 3].any()
            assert not picture[0, :, 3].any()


def test_pair_figure_places_matches_on_both_photos(scene: ModuleType) -> None:
    images = [scene.scene_image(f"i{seed}", seed) for seed in range(2)]
    described = [Described(i.features, MatchConfig()) for i in images]
    explanation = explain_pair(described[0], described[1], LabelConfig())
    views = [View(i.photo, i.features.letterbox, i.features.foreground) for i in images]
    figure = pair_figure("i0~i1", "blob", ("i0", "i1"), (views[0], views[1]), explanation)
    fates = {layer.name: layer.count for layer in figure.layers}
    assert fates[KEPT] == figure.kept == (explanation.rejected_by == "").sum() > 20
    assert fates[GEODESIC] == (explanation.rejected_by == GEODESIC).sum() > 5
    assert figure.candidates == sum(fates.values()) == len(explanation)
    assert figure.cycle == figure.candidates - fates[CYCLE]

    kept = figure.layers[0]
    rows = explanation.rejected_by == ""
    assert (decoded(kept.source_uri)[..., 3] > 0).sum() == len(np.unique(explanation.source_cells[rows]))
    assert (decoded(kept.target_uri)[..., 3] > 0).sum() == len(np.unique(explanation.target_cells[rows]))
    # A line's ends are the pixels of its match, and carry the colour that the source cell has.
    scale = figure.source.width / figure.source.box[2]
    grid = decoded(kept.source_uri).reshape(-1, 4)
    for line in kept.lines:
        xy = (np.array([line.x1, line.y1]) - [figure.source.x, figure.source.y]) / scale + figure.source.box[:2]
        cell = images[0].features.letterbox.cells_of(xy[None])[0]
        match = np.flatnonzero(explanation.source_cells == cell)[0]
        assert rows[match]
        assert hex_of(grid[cell, :3]) == line.colour
        other = figure.target.place(explanation.target_xy[match][None])[0]
        np.testing.assert_allclose(other, [line.x2, line.y2], atol=0.06)
    assert figure.target.x + figure.target.width <= 640.001
    assert figure.source.x + figure.source.width < figure.target.x


def test_evidence_is_what_the_script_reads(scene: ModuleType) -> None:
    images = [scene.scene_image(f"i{seed}", seed) for seed in range(2)]
    described = [Described(i.features, MatchConfig()) for i in images]
    explanation = explain_pair(described[0], described[1], LabelConfig())
    views = [View(i.photo, i.features.letterbox, i.features.foreground) for i in images]
    figure = pair_figure("i0~i1", "blob", ("i0", "i1"), (views[0], views[1]), explanation)
    rows = np.frombuffer(base64.b64decode(figure.evidence), "<i2").reshape(-1, 6)
    np.testing.assert_array_equal(rows[:, 0], explanation.source_cells)
    np.testing.assert_array_equal(rows[:, 1], explanation.target_cells)
    np.testing.assert_array_equal(rows[:, 2] == 0, explanation.rejected_by == "")
    np.testing.assert_allclose(rows[:, 3] / 1000, explanation.cosine, atol=1e-3)
    far = ~np.isfinite(explanation.geodesic_error)
    np.testing.assert_array_equal(rows[:, 5] == -1, far)
    np.testing.assert_allclose(rows[~far, 5] / 10_000, explanation.geodesic_error[~far], atol=1e-4)
    # The place of the grid that the script computes cells from is that of the drawn photo.
    x, y, step = (float(v) for v in figure.source.cells.split())
    centre = figure.source.place(images[0].features.letterbox.centres(np.array([61])))[0]
    np.testing.assert_allclose(centre, [x + 1.5 * step, y + 1.5 * step], atol=0.02)


def test_pair_without_foreground_still_has_a_figure(scene: ModuleType) -> None:
    image = scene.scene_image("i0", 0)
    described = Described(image.features, MatchConfig())
    explanation = explain_pair(described, described, LabelConfig(tau_geo=1e-6))
    nothing = View(image.photo, image.features.letterbox, np.zeros_like(image.features.foreground))
    figure = pair_figure("i0~i0", "blob", ("i0", "i0"), (nothing, nothing), explanation)
    assert figure.source.box == (0.0, 0.0, 192.0, 144.0)

"""PCK: the worked pair of SPair-71k, parity with plain loops, the strict threshold, averages and subsets."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sc3d.config import EvaluateConfig
from sc3d.errors import FeatureError, InputError
from sc3d.evaluation.pck import (
    PckPair,
    box_size,
    common_keypoints,
    geo_aware,
    outside_image,
    pck,
    read_cells,
    score_pair,
    unit_size,
)
from sc3d.evaluation.readout import CellDescriptors, cell_to_square
from sc3d.grid import Letterbox
from sc3d.records import ImageRecord
from sc3d.schema import from_table, to_table


def image(image_id: str, ids: list[int], xy: list[list[float]], bbox: list[float] | None = None) -> ImageRecord:
    return ImageRecord(
        image_id, "x.jpg", "thing", "test", bbox=bbox, keypoint_ids=np.array(ids), keypoint_xy=np.array(xy).reshape(-1, 2)
    )


def record(
    distances: list[float], geo: list[bool] | None = None, own: list[bool] | None = None, category: str = "thing"
) -> PckPair:
    n = len(distances)
    return PckPair(
        "a~b", category, "m", np.arange(n), np.array(distances), np.array(own or [True] * n), np.array(geo or [False] * n)
    )


def described(maps: np.ndarray, box: Letterbox) -> tuple[CellDescriptors, CellDescriptors]:
    return CellDescriptors.of_map(maps[0], box), CellDescriptors.of_map(maps[1], box)


def read_spair(folder, name: str) -> tuple[ImageRecord, Letterbox]:
    values = json.loads((folder / f"{name}.json").read_text())
    visible = {int(k): v for k, v in values["kps"].items() if v is not None}
    box = np.array(values["bndbox"], np.float32)
    picture = ImageRecord(
        name,
        "x.jpg",
        values["category"],
        "test",
        box,
        keypoint_ids=np.array(list(visible)),
        keypoint_xy=np.array(list(visible.values())),
    )
    return picture, Letterbox(values["image_width"], values["image_height"])


def test_worked_pair_of_spair(shared):
    """Numbers from running the reference functions of GeoAware-SC on this pair."""
    folder = shared / "data" / "spair_samples" / "ImageAnnotation" / "aeroplane"
    (source, source_box), (target, target_box) = (read_spair(folder, n) for n in ("2008_002719", "2008_004100"))
    ids, source_xy, target_xy = common_keypoints(source, target)
    assert ids.tolist() == [0, 7, 11]
    assert source_xy.tolist() == [[212, 153], [300, 130], [330, 127]]
    assert (target_box.resized[1], target_box.offset[1]) == (558, 141)
    assert (source_box.resized[1], source_box.offset[1]) == (559, 140)
    assert source_box.cells_of(source_xy).tolist() == [1705, 1536, 1539]
    size = box_size(target.bbox) * target_box.scale
    assert size == pytest.approx(779.52)
    np.testing.assert_allclose([a * size for a in (0.1, 0.05, 0.01)], [77.952, 38.976, 7.7952])
    truth = target_box.to_square(target_xy)
    np.testing.assert_allclose(truth, [[65.52, 384.6], [611.52, 428.28], [698.88, 431.64]], atol=1e-2)
    # A map in which each keypoint's cell is alone similar to the cell of its annotation.
    maps = np.zeros((2, 3, 60, 60), np.float32)
    for k, (a, b) in enumerate(zip(source_box.cells_of(source_xy), target_box.cells_of(target_xy), strict=True)):
        maps[0, k].flat[a] = maps[1, k].flat[b] = 1
    both_maps = (CellDescriptors.of_map(maps[0], source_box), CellDescriptors.of_map(maps[1], target_box))
    nearest, window = score_pair(source, target, both_maps, EvaluateConfig(), [[6, 7]], "exact")
    assert (nearest.method, window.method) == ("exact nearest", "exact window soft-argmax")
    expected = np.linalg.norm(np.floor(truth / 14) * 14 + 7 - truth, axis=1) / 779.52
    np.testing.assert_allclose(nearest.distances, expected, atol=1e-6)
    np.testing.assert_allclose(window.distances, expected, atol=1e-6)
    assert pck([nearest], 0.05) == (1.0, 1)
    both = {6, 7} <= set(target.keypoint_ids.tolist())
    assert nearest.geo_aware.tolist() == [False, both, False]


def plain_prediction(source, target, cell, side, cell_size, window, temperature, zero_masking):
    """One keypoint by loops in float64: the reference."""
    query = source.reshape(len(source), -1)[:, cell].astype(np.float64)
    query = query / (math.sqrt(sum(q * q for q in query)) + 1e-10)
    scores = {}
    for row in range(side):
        for column in range(side):
            d = target[:, row, column].astype(np.float64)
            scores[row, column] = float(query @ d) / (math.sqrt(float(d @ d)) + 1e-10)
    top = max(scores, key=lambda q: scores[q])
    if window is None:
        return top[1] * cell_size + cell_size / 2, top[0] * cell_size + cell_size / 2
    total = x = y = 0.0
    for (row, column), score in scores.items():
        inside = window == 0 or (abs(row - top[0]) <= window and abs(column - top[1]) <= window)
        if not inside and not zero_masking:
            continue
        weight = math.exp((score if inside else 0.0) / temperature)
        total, x, y = total + weight, x + weight * column, y + weight * row
    return x / total * cell_size + cell_size / 2, y / total * cell_size + cell_size / 2


@given(
    seed=st.integers(0, 10**6),
    window=st.sampled_from([None, 0, 1, 2, 7]),
    zero_masking=st.booleans(),
    temperature=st.sampled_from([0.02, 0.3]),
)
@settings(max_examples=40)
def test_predictions_equal_plain_loops(seed, window, zero_masking, temperature):
    rng = np.random.default_rng(seed)
    boxes = Letterbox(130, 90, side=9, cell_size=14), Letterbox(60, 100, side=9, cell_size=14)
    maps = rng.normal(size=(2, 4, 9, 9)).astype(np.float16)
    maps[1, :, rng.integers(0, 9), rng.integers(0, 9)] = 0
    xy = rng.uniform((0, 0), (130, 90), (5, 2))
    source, target = (CellDescriptors.of_map(one, box) for one, box in zip(maps, boxes, strict=True))
    config = EvaluateConfig(window=window or 0, temperature=temperature, masking="zero" if zero_masking else "infinity")
    cells = read_cells(source.similarity(boxes[0].cells_of(xy), target), 9, config)
    found = cell_to_square(cells["nearest" if window is None else "window soft-argmax"], boxes[1])
    expected = [plain_prediction(*maps, c, 9, 14, window, temperature, zero_masking) for c in boxes[0].cells_of(xy)]
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_maps_that_do_not_fit_are_refused():
    box = Letterbox(100, 100)
    three, four = (CellDescriptors.of_map(np.ones((c, 60, 60)), box) for c in (3, 4))
    with pytest.raises(FeatureError, match=r"\(3, 60, 60\).*\(4, 60, 60\).*describe both images alike"):
        three.similarity(np.zeros(1, int), four)
    with pytest.raises(FeatureError, match=r"\(3, 30, 30\) on a grid of side 60"):
        CellDescriptors.of_map(np.zeros((3, 30, 30)), box)


def test_threshold_is_strict():
    assert pck([record([0.1, 0.0999999])], 0.1) == (0.5, 1)


def test_averages_over_images_and_over_keypoints_differ():
    pairs = [record([0.0]), record([0.0, 0.2, 0.2, 0.2])]
    assert pck(pairs, 0.1, "image") == (pytest.approx((1 + 1 / 4) / 2), 2)
    assert pck(pairs, 0.1, "keypoint") == (pytest.approx(2 / 5), 2)


def test_geo_aware_subset_and_pairs_without_it():
    pairs = [record([0.0, 0.2], geo=[False, True]), record([0.0])]
    assert pck(pairs, 0.1, subset="geo-aware") == (0.0, 1)
    value, count = pck(pairs[1:], 0.1, subset="geo-aware")
    assert math.isnan(value)
    assert count == 0


def test_dagger_also_asks_for_the_own_annotation():
    assert pck([record([0.0, 0.0], own=[True, False])], 0.1, own=True) == (0.5, 1)


def test_unknown_average_is_refused():
    with pytest.raises(ValueError, match="unknown average 'class'"):
        pck([], 0.1, "class")


def test_geo_aware_counts_points_visible_in_the_target():
    groups = [[2, 3, 5, 6], [7, 8]]
    # 3 is seen in both images; its group counts through 6, which only the target shows. 7 stands alone in the target.
    assert geo_aware(np.array([1, 3, 7]), np.array([1, 3, 6, 7]), groups).tolist() == [False, True, False]
    assert geo_aware(np.array([1, 3]), np.array([1, 3]), []).tolist() == [False, False]


def test_common_keypoints_are_matched_by_id_in_any_order():
    source = image("s", [5, 1, 9], [[50, 5], [10, 1], [90, 9]])
    target = image("t", [1, 2, 5], [[11, 1], [22, 2], [55, 5]])
    ids, source_xy, target_xy = common_keypoints(source, target)
    assert ids.tolist() == [1, 5]
    assert source_xy.tolist() == [[10, 1], [50, 5]]
    assert target_xy.tolist() == [[11, 1], [55, 5]]


def test_distance_is_in_target_boxes_and_nearest_own_is_judged():
    """Two keypoints in a 60-cell square image: one predicted in place, the other onto the first one's annotation."""
    box = Letterbox(840, 840)
    source = image("s", [0, 1], [[7, 7], [21, 7]])
    target = image("t", [0, 1], [[107, 107], [307, 107]], [0, 0, 400, 200])
    maps = np.zeros((2, 2, 60, 60), np.float32)
    maps[0, 0, 0, 0] = maps[0, 1, 0, 1] = 1
    maps[1, :, 7, 7] = 1  # cell (7, 7), centre 105, is the most similar for both
    nearest, _ = score_pair(source, target, described(maps, box), EvaluateConfig())
    np.testing.assert_allclose(nearest.distances, [np.hypot(2, 2) / 400, np.hypot(202, 2) / 400])
    assert nearest.nearest_own.tolist() == [True, False]
    assert nearest.pair_id == "s~t"


def test_a_pair_without_common_keypoints_is_left_out():
    box = Letterbox(100, 100)
    maps = np.ones((2, 3, 60, 60))
    source, target = image("s", [0], [[1, 1]]), image("t", [1], [[1, 1]], [0, 0, 5, 5])
    assert score_pair(source, target, described(maps, box), EvaluateConfig()) == ()
    unannotated = ImageRecord("u", "x.jpg", "thing", bbox=np.zeros(4))
    assert score_pair(source, unannotated, described(maps, box), EvaluateConfig()) == ()


def test_missing_or_empty_box_is_refused():
    box = Letterbox(100, 100)
    maps = np.ones((2, 3, 60, 60))
    source = image("s", [0], [[1, 1]])
    with pytest.raises(InputError, match="t: PCK needs the target's box"):
        score_pair(source, image("t", [0], [[1, 1]]), described(maps, box), EvaluateConfig())
    with pytest.raises(InputError, match="is empty"):
        score_pair(source, image("t", [0], [[1, 1]], [5, 5, 5, 5]), described(maps, box), EvaluateConfig())


def test_unit_of_each_protocol():
    box = Letterbox(300, 200)
    target = image("t", [0, 1, 2], [[10, 20], [40, 100], [30, 60]], [0, 0, 50, 20])
    assert [unit_size(unit, target, target.keypoint_xy, box) for unit in ("box", "image", "keypoints")] == [50, 300, 80]
    source = image("s", [0, 1, 2], [[10, 20], [40, 100], [30, 60]])
    maps = described(np.random.default_rng(0).normal(size=(2, 4, 60, 60)), box)
    by_unit = {unit: score_pair(source, target, maps, EvaluateConfig(), unit=unit)[0].distances for unit in ("box", "image")}
    np.testing.assert_allclose(by_unit["box"] * 50, by_unit["image"] * 300)
    assert score_pair(source, image("t", [0], [[1, 1]]), maps, EvaluateConfig(), unit="image")[0].distances.shape == (1,)
    with pytest.raises(InputError, match="t: 1 keypoints have no box"):
        unit_size("keypoints", target, target.keypoint_xy[:1], box)


def test_predictions_are_kept_in_target_pixels():
    """The one similar cell (10, 20) of a 60-cell grid over a 420 x 840 image, which has 210 columns of border on the left."""
    boxes = Letterbox(840, 840), Letterbox(420, 840)
    maps = np.zeros((2, 1, 60, 60))
    maps[0, 0, 0, 0] = maps[1, 0, 20, 40] = 1
    descriptors = CellDescriptors.of_map(maps[0], boxes[0]), CellDescriptors.of_map(maps[1], boxes[1])
    nearest, _ = score_pair(image("s", [3], [[1, 1]]), image("t", [3], [[0, 0]], [0, 0, 9, 9]), descriptors, EvaluateConfig())
    np.testing.assert_allclose(nearest.predicted_xy, [[40 * 14 + 7 - 210, 20 * 14 + 7]])


def test_points_outside_the_image_are_told_and_scored_from_the_border():
    box = Letterbox(100, 50)
    xy = np.array([[0, 0], [100, 50], [-1, 10], [50, 51], [3, 3]])
    assert outside_image(xy, box).tolist() == [False, False, True, True, False]
    source, target = image("s", [0], [[-500, 10]]), image("t", [0], [[5, 5]], [0, 0, 9, 9])
    assert len(score_pair(source, target, described(np.ones((2, 3, 60, 60)), box), EvaluateConfig())) == 2


def test_masking_is_a_switch():
    """A peak of 0.03 on a map of zeros: with zeros counting, all other cells pull the prediction to the middle of the map."""
    similarity = np.zeros((1, 3600), np.float32)
    similarity[0, 5 * 60 + 5] = 0.03
    zero, infinity = (read_cells(similarity, 60, EvaluateConfig(masking=m))["window soft-argmax"][0] for m in ("zero", "infinity"))
    assert (zero > 25).all()
    assert (infinity < 7).all()


def test_records_survive_storage():
    pair = record([0.01, 0.3], geo=[True, False], own=[False, True])
    [stored] = from_table(PckPair, to_table(PckPair, [pair]))
    for name in ("keypoint_ids", "distances", "nearest_own", "geo_aware"):
        np.testing.assert_array_equal(getattr(stored, name), getattr(pair, name))

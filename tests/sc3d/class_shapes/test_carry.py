"""Matches through an aligned class shape, beside nearest neighbours."""

from __future__ import annotations

import numpy as np
import pytest
from scene import Scene, View

from sc3d.class_shapes.alignment import align
from sc3d.class_shapes.build import build_class_shape
from sc3d.class_shapes.carry import AlignedImage, aligned_image, carried, class_shape_gap
from sc3d.class_shapes.observation import unit_rows

Aligned = list[tuple[View, AlignedImage]]


@pytest.fixture(scope="module")
def images() -> Aligned:
    """Images of a category whose front looks like its back, with noisy features."""
    scene = Scene(likeness=0.8, noise=1.0)
    made = [scene.view(number) for number in range(24)]
    shape = build_class_shape("animal", [(view.observation, view.annotation) for view in made], scene.mirrored, points=300)
    found = [scene.view(number) for number in (100, 101, 102, 103)]
    return [(v, aligned_image(shape, align(shape, v.observation), v.letterbox, unit_rows(v.features))) for v in found]


def _right(target: View, cells: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Which cells of the target lie within a tenth of its box of the truth (K, 2)."""
    box = np.ptp(target.observation.xy, axis=0).max() * max(target.observation.size)
    return np.asarray(np.linalg.norm(target.letterbox.centres(cells) - truth, axis=1) < 0.1 * box)


def test_the_class_shape_beats_nearest_neighbours(images: Aligned) -> None:
    """By 0.2 of PCK@0.1 over keypoints seen in both (specification, section 8)."""
    bridge, nearest = [], []
    for source, first in images:
        for target, second in images:
            if source is target:
                continue
            both = source.seen & target.seen
            cells = source.letterbox.cells_of(source.xy[both])
            direct = unit_rows(source.features)[cells] @ unit_rows(target.features).T
            nearest.append(_right(target, direct.argmax(axis=1), target.xy[both]))
            bridge.append(_right(target, carried(first, source.xy[both], second).argmax(axis=1), target.xy[both]))
    assert np.concatenate(bridge).mean() >= np.concatenate(nearest).mean() + 0.2
    assert np.concatenate(bridge).mean() > 0.7


def test_a_place_is_carried_to_itself(images: Aligned) -> None:
    """Within a tenth of the box, in one and the same image; all values are finite."""
    view, one = images[0]
    found = carried(one, view.xy[view.seen], one)
    assert found.shape == (view.seen.sum(), 3600)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert _right(view, found.argmax(axis=1), view.xy[view.seen]).mean() > 0.7


def test_a_small_deviation_trusts_the_projection(images: Aligned) -> None:
    """As it shrinks, the answer for where a point is seen is where that point is seen in the target."""
    (source, first), (target, second) = images[:2]
    xy = first.seen[::7].astype(np.float64) * max(source.observation.size)
    answers = target.letterbox.centres(carried(first, xy, second, sigma=1e-3).argmax(axis=1)) / max(target.observation.size)
    away = np.linalg.norm(answers[:, None] - second.seen[None], axis=2).min(axis=1)
    assert away.max() < 1 / 60


def test_what_lies_beside_a_point_is_found_beside_it(images: Aligned) -> None:
    """Nearer than points are to each other: halfway between two neighbours it is carried to itself, within its cell."""
    view, one = images[0]
    apart = np.linalg.norm(one.seen[:, None] - one.seen[None], axis=2) + np.eye(len(one.seen))
    wide = apart.min(axis=1) > 1.5 / 60
    halfway = ((one.seen + one.seen[apart.argmin(axis=1)]) / 2)[wide] * max(view.observation.size)
    assert len(halfway) > 10
    found = view.letterbox.centres(carried(one, halfway, one, sigma=1e-3).argmax(axis=1)) / max(view.observation.size)
    away = np.abs(found - halfway / max(view.observation.size)).max(axis=1)
    assert np.median(away) < 0.6 / 60


def test_the_class_shape_tells_true_matches_from_false_ones(images: Aligned) -> None:
    """Keypoints that both images show lie on nearly one point of it, those of two different keypoints mostly do not; nothing is far from
    itself."""
    true, false = [], []
    for source, first in images:
        for target, second in images:
            both = source.seen & target.seen
            if source is not target and both.sum() > 2:
                true.append(class_shape_gap(first, source.xy[both], second, target.xy[both]))
                false.append(class_shape_gap(first, source.xy[both], second, np.roll(target.xy[both], 1, axis=0)))
    assert (np.concatenate(true) < 0.15).mean() > 0.7
    assert (np.concatenate(false) < 0.15).mean() < 0.25
    view, one = images[0]
    assert (class_shape_gap(one, view.xy, one, view.xy) == 0).all()


def test_no_query_has_no_answer(images: Aligned) -> None:
    """An empty array of the right shape."""
    assert carried(images[0][1], np.zeros((0, 2)), images[1][1]).shape == (0, 3600)
    assert class_shape_gap(images[0][1], np.zeros((0, 2)), images[1][1], np.zeros((0, 2))).shape == (0,)

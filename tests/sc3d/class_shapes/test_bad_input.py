"""What images and annotations can have wrong: typed errors that say what to do, or a shape all the same."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scene import Scene, View

from sc3d.class_shapes.build import build_class_shape
from sc3d.class_shapes.observation import Depth, annotate, observe
from sc3d.errors import InputError


def _pairs(views: list[View]) -> list[tuple]:
    return [(view.observation, view.annotation) for view in views]


def test_an_image_without_foreground_is_refused(views: list[View]) -> None:
    """Its mask is to be checked."""
    view = views[0]
    with pytest.raises(InputError, match=r"image 7: .*mask"):
        observe("image 7", view.letterbox, np.zeros((60, 60), bool), view.depth, view.features)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, -1.0])
def test_an_image_without_depth_is_refused(views: list[View], value: float) -> None:
    """NaN, infinite and not in front of the camera are no depth."""
    view = views[0]
    depth = Depth(np.full_like(view.depth.values, value))
    with pytest.raises(InputError, match=r"image 7: .*depth"):
        observe("image 7", view.letterbox, view.observation.foreground, depth, view.features)


def test_cells_without_depth_take_the_median(views: list[View]) -> None:
    """Of the others; keypoints without one are left out."""
    view = views[0]
    values = view.depth.values.copy()
    values[:, :60] = np.nan
    depth = Depth(values, view.inverse)
    found = observe("image 7", view.letterbox, view.observation.foreground, depth, view.features)
    assert np.isfinite(found.depth).all()
    known = np.isfinite(values[view.mask]).mean()
    assert 0 < known < 1
    assert (found.depth == np.median(found.depth)).mean() > 0.2
    annotation = annotate(found, np.flatnonzero(view.seen), view.xy[view.seen], depth, view.mask, view.features)
    assert 0 < len(annotation.ids) < view.seen.sum()
    assert (annotation.xy[:, 0] * 120 >= 60).all()


def test_depth_and_features_of_another_size_are_refused(views: list[View]) -> None:
    """By what they should be."""
    view = views[0]
    with pytest.raises(InputError, match="120 x 90"):
        observe("a", view.letterbox, view.observation.foreground, Depth(view.depth.values.T), view.features)
    with pytest.raises(InputError, match="3600"):
        observe("a", view.letterbox, view.observation.foreground, view.depth, view.features[1:])


def test_features_that_are_no_numbers_are_refused(views: list[View]) -> None:
    """Not carried into prototypes."""
    view = views[0]
    with pytest.raises(InputError, match="features"):
        observe("a", view.letterbox, view.observation.foreground, view.depth, view.features * np.nan)


def test_too_few_common_keypoints_are_refused(views: list[View]) -> None:
    """Images of fewer than four, or of four that no others share."""
    few = [
        dataclasses.replace(v.annotation, **{k: getattr(v.annotation, k)[:3] for k in ("ids", "xy", "depth", "features")})
        for v in views
    ]
    with pytest.raises(InputError, match=r"animal: .*4 annotated keypoints"):
        build_class_shape("animal", [(view.observation, one) for view, one in zip(views, few, strict=True)])
    with pytest.raises(InputError, match=r"animal: .*annotate more images"):
        build_class_shape("animal", _pairs(views[:3]))
    with pytest.raises(InputError, match="animal"):
        build_class_shape("animal", [])


def test_keypoints_in_a_plane_are_refused(scene: Scene, views: list[View]) -> None:
    """They span no volume that points could follow."""
    flat = [dataclasses.replace(v, annotation=_in_a_plane(scene, v)) for v in views]
    with pytest.raises(InputError, match=r"animal: .*plane"):
        build_class_shape("animal", _pairs(flat))


def _in_a_plane(scene: Scene, view: View) -> object:
    """Nine keypoints of the object's own plane z = 0, all seen."""
    rng = np.random.default_rng(0)
    places = np.concatenate([rng.uniform(-0.5, 0.5, (9, 2)), np.zeros((9, 1))], axis=1)
    camera = (places * view.size) @ view.R.T + view.t
    xy = camera[:, :2] / camera[:, 2:] / view.inverse + np.array([120, 90]) / 240
    return dataclasses.replace(
        view.annotation, ids=np.arange(9), xy=xy, depth=camera[:, 2], features=np.repeat(view.annotation.features[:1], 9, 0)
    )


def test_a_table_that_is_no_mirror_is_refused(views: list[View]) -> None:
    """What a keypoint becomes in a mirror becomes it again in a second."""
    with pytest.raises(InputError, match=r"animal: .*mirror.*6"):
        build_class_shape("animal", _pairs(views), {6: 7, 7: 8, 8: 6})


def test_annotations_of_both_hands_show_in_the_gap(scene: Scene, views: list[View]) -> None:
    """Half of the images with left and right exchanged: the mirrored shape is as good, where the right ones leave no doubt."""
    swap = np.arange(12)
    swap[list(scene.mirrored)] = list(scene.mirrored.values())
    wrong = []
    for number, view in enumerate(views):
        ids = swap[view.annotation.ids] if number % 2 else view.annotation.ids
        order = np.argsort(ids)
        a = view.annotation
        wrong.append(
            (
                view.observation,
                dataclasses.replace(a, ids=ids[order], xy=a.xy[order], depth=a.depth[order], features=a.features[order]),
            )
        )
    right = build_class_shape("animal", _pairs(views), scene.mirrored, points=50)
    try:
        gap = build_class_shape("animal", wrong, scene.mirrored, points=50).mirror_gap
    except InputError:
        gap = 0.0
    assert gap < 0.3 * right.mirror_gap

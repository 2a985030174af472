"""Class shapes as files, and what cannot be made into one."""

from __future__ import annotations

import dataclasses
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scene import Scene, View

from sc3d.class_shapes.build import build_class_shape
from sc3d.class_shapes.class_shape import ClassShape, decode_class_shape
from sc3d.class_shapes.observation import Annotation, Depth, observe
from sc3d.errors import InputError, SchemaError


def pairs(views: list[View]) -> list[tuple]:
    return [(view.observation, view.annotation) for view in views]


def only_seen(annotation: Annotation, ids: list[int]) -> Annotation:
    kept = np.isin(annotation.ids, ids)
    return Annotation(*(getattr(annotation, field.name)[kept] for field in dataclasses.fields(Annotation)))


def test_a_file_gives_the_class_shape_back(shape: ClassShape) -> None:
    data = shape.encode()
    back = decode_class_shape(data, "a file")
    for name, value in shape._arrays().items():
        np.testing.assert_array_equal(back._arrays()[name], value)
    assert (back.category, back.inverse_focal, back.mirror_gap, back.images) == (
        "animal",
        shape.inverse_focal,
        shape.mirror_gap,
        24,
    )
    assert back.encode() == data


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_file_is_refused_or_read_whole(shape: ClassShape, data: st.DataObject) -> None:
    good = shape.encode()
    at = data.draw(st.integers(0, 3000))
    bad = data.draw(st.sampled_from([good[:at], good[:at] + bytes([data.draw(st.integers(0, 255))]) + good[at + 1 :]]))
    with suppress(SchemaError):
        assert isinstance(decode_class_shape(bad, "a file"), ClassShape)


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("matrix", lambda s: {"matrix": s.matrix[:, :-1]}),
        ("numbers", lambda s: {"keypoints": s.keypoints * np.nan}),
        ("twins", lambda s: {"twins": s.twins + 99}),
        ("indices", lambda s: {"statistics": dataclasses.replace(s.statistics, pairs=s.statistics.pairs + 99)}),
        ("prototypes", lambda s: {"prototypes": s.prototypes.select(np.arange(3))}),
        ("focal length", lambda s: {"inverse_focal": 0.0}),
    ],
)
def test_arrays_that_do_not_fit_are_named(shape: ClassShape, what: str, change: object) -> None:
    bad = dataclasses.replace(shape, **change(shape))  # type: ignore[operator]
    with pytest.raises(SchemaError, match=what):
        decode_class_shape(bad.encode(), "a file")


def test_a_class_shape_is_that_of_the_category(scene: Scene, shape: ClassShape) -> None:
    assert shape.ids.tolist() == list(range(len(scene.keypoints)))
    assert [int(shape.ids[one]) for one in shape.twins] == [scene.mirrored.get(i, i) for i in shape.ids.tolist()]
    truth = scene.keypoints - scene.keypoints.mean(axis=0)
    truth = truth / np.linalg.norm(truth[:, None] - truth[None], axis=-1).max()
    u, s, vt = np.linalg.svd(shape.keypoints.T @ truth)
    sign = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
    error = np.linalg.norm((s * sign).sum() / (shape.keypoints**2).sum() * shape.keypoints @ (u * sign) @ vt - truth, axis=1)
    assert np.median(error) < 0.05
    assert shape.mirror_gap > 0.3
    # Half of the points or more lie on the object, whose features made their prototypes.
    assert len(shape.matrix) > 100


@pytest.mark.parametrize("ids", [[0, 1, 2], [0]])
def test_too_few_common_keypoints_are_refused(views: list[View], ids: list[int]) -> None:
    few = [(view.observation, only_seen(view.annotation, ids)) for view in views]
    with pytest.raises(InputError, match=r"animal: no image shows 4 annotated keypoints"):
        build_class_shape("animal", few)
    with pytest.raises(InputError, match=r"animal: .*annotate more images"):
        build_class_shape("animal", pairs(views[:3]))


def test_keypoints_in_one_plane_are_refused(views: list[View]) -> None:
    flat = []
    for view in views:
        # Of a sheet of paper that faces the camera.
        annotation = dataclasses.replace(view.annotation, depth=np.full(len(view.annotation.ids), 2.0))
        rng = np.random.default_rng(0)
        sheet = rng.uniform(0.2, 0.8, (12, 2))[annotation.ids] * (1 + 0.01 * rng.normal())
        flat.append((view.observation, dataclasses.replace(annotation, xy=sheet)))
    with pytest.raises(InputError, match="plane"):
        build_class_shape("animal", flat)


def test_an_image_without_foreground_or_depth_is_refused(views: list[View]) -> None:
    view = views[0]
    nothing = np.zeros_like(view.observation.foreground)
    with pytest.raises(InputError, match=r"view0: no cell .* check its mask"):
        observe("view0", view.letterbox, nothing, view.depth, view.features)
    unknown = Depth(np.full_like(view.depth.values, np.nan))
    with pytest.raises(InputError, match="view0: no depth"):
        observe("view0", view.letterbox, view.observation.foreground, unknown, view.features)


def test_depth_with_holes_is_filled_and_keypoints_in_them_left_out(scene: Scene) -> None:
    view = scene.view(2)
    values = view.depth.values.copy()
    values[:, : values.shape[1] // 2] = np.nan
    observed = observe("hole", view.letterbox, view.observation.foreground, Depth(values, 0.6), view.features)
    assert np.isfinite(observed.depth).all()
    assert (observed.depth > 0).all()

"""Alignment of many objects in step: as good as one at a time, whatever else is in the batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.alignment import Condition, Trial, hard_mask, make_trial
from sc3d.config import AlignConfig
from sc3d.errors import ConfigError, GeometryError, InputError
from sc3d.geometry import align_torch
from sc3d.geometry.align import Alignment, align_batch
from sc3d.geometry.camera import Camera, Pose
from sc3d.geometry.mesh import Mesh

PAPER_ALONE = AlignConfig(occlusion=False)
# A working resolution at which a test takes a fraction of a second.
QUICK = AlignConfig(resolution=96, occlusion=False)

Item = tuple[Mesh, np.ndarray, Pose, Camera]


def trial(seed: int, condition: Condition = "unoccluded") -> Trial:
    return make_trial(np.random.default_rng((11, seed)), condition)


def item(t: Trial) -> Item:
    return t.mesh, t.mask, t.start, t.camera


def smaller(t: Trial, width: int, height: int) -> Item:
    """The trial in an image of another size."""
    camera = Camera(t.camera.K * np.array([[width / 256], [height / 256], [1.0]]), width, height)
    return t.mesh, hard_mask(t.mesh, t.truth, camera), t.start, camera


def aligned(items: list[Item], config: AlignConfig = QUICK) -> list[Alignment]:
    results = align_batch(items, config, device="cpu")
    assert len(results) == len(items)
    for result in results:
        assert isinstance(result, Alignment)
    return results  # type: ignore[return-value]


def same(a: Alignment, b: Alignment) -> bool:
    """Equal up to the rounding of sums."""
    return (
        (a.iou_before, a.iou_after, a.flags, a.steps) == (b.iou_before, b.iou_after, b.flags, b.steps)
        and np.allclose(a.pose.t, b.pose.t, rtol=0, atol=1e-6)
        and abs(a.pose.scale - b.pose.scale) < 1e-6
    )


def test_a_dozen_trials_end_as_well_as_one_at_a_time() -> None:
    trials = [trial(seed) for seed in range(12)]
    together = aligned([item(t) for t in trials], PAPER_ALONE)
    alone = align_batch([item(t) for t in trials], PAPER_ALONE)
    for a, b in zip(together, alone, strict=True):
        assert isinstance(b, Alignment)
        assert a.iou_before == pytest.approx(b.iou_before, abs=1e-3)
        assert a.iou_after >= 0.95
        assert a.iou_after > b.iou_after - 0.01
        assert a.flags == b.flags


def test_reports_the_iou_of_the_hard_silhouette() -> None:
    trials = [trial(seed) for seed in range(3)]
    for t, result in zip(trials, aligned([item(t) for t in trials], AlignConfig(steps_distance=3, steps_iou=2)), strict=True):
        for pose, reported in ((t.start, result.iou_before), (result.pose, result.iou_after)):
            coverage = hard_mask(t.mesh, pose, t.camera)
            # A pixel whose centre is on an edge may fall either way.
            assert reported == pytest.approx((coverage & t.mask).sum() / (coverage | t.mask).sum(), abs=1e-3)
        assert np.array_equal(result.pose.R, t.start.R)


def test_a_batch_of_different_sizes_equals_one_at_a_time() -> None:
    items = [item(trial(0)), smaller(trial(1), 96, 64), smaller(trial(2), 40, 80), item(trial(3)), smaller(trial(4), 200, 256)]
    for one, result in zip(items, aligned(items), strict=True):
        assert same(aligned([one])[0], result)


def test_repeats_to_the_last_bit() -> None:
    items = [item(trial(seed)) for seed in range(4)]
    for a, b in zip(aligned(items), aligned(items), strict=True):
        assert (a.pose.scale, a.pose.t.tobytes(), a.iou_after, a.steps) == (b.pose.scale, b.pose.t.tobytes(), b.iou_after, b.steps)


def test_more_objects_than_one_batch_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    items = [item(trial(seed)) for seed in range(5)]
    expected = aligned(items)
    monkeypatch.setattr(align_torch, "BATCH", 2)
    assert all(same(a, b) for a, b in zip(aligned(items), expected, strict=True))
    assert align_batch([], device="cpu") == []


def test_an_occluded_object_keeps_its_size() -> None:
    t = trial(0, "occluded")
    result, alone = align_batch([item(t)], device="cpu")[0], align_batch([item(t)])[0]
    assert isinstance(result, Alignment)
    assert isinstance(alone, Alignment)
    assert "occluded" in alone.flags
    assert result.flags == alone.flags
    apparent = (result.pose.scale / result.pose.t[2]) / (t.truth.scale / t.truth.t[2])
    assert apparent == pytest.approx(1, abs=0.05)


def test_a_perfect_start_is_returned_untouched() -> None:
    t = trial(1)
    start = t.truth
    result = aligned([(t.mesh, hard_mask(t.mesh, start, t.camera), start, t.camera)], AlignConfig())[0]
    assert result.pose is start
    assert (result.iou_before, result.iou_after, result.flags) == (1.0, 1.0, ("not_improved",))


@settings(max_examples=10)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.3, 3), shift=st.tuples(st.floats(-2, 2), st.floats(-2, 2), st.floats(-1, 3)))
def test_never_worse_than_the_start_whatever_the_mask(seed: int, scale: float, shift: tuple[float, float, float]) -> None:
    rng, t = np.random.default_rng(seed), trial(seed % 7)
    mask = np.zeros((96, 96), bool)
    x, y, w, h = rng.integers(0, 80), rng.integers(0, 80), rng.integers(1, 80), rng.integers(1, 80)
    mask[y : y + h, x : x + w] = True
    camera, start = t.camera.resized(96, 96), t.truth.replace(scale=t.truth.scale * scale, t=t.truth.t + shift)
    result = align_batch([(t.mesh, mask, start, camera)], AlignConfig(steps_distance=10, steps_iou=5), device="cpu")[0]
    if start.apply(t.mesh.vertices)[:, 2].min() <= 1e-6:
        assert isinstance(result, GeometryError)
        return
    assert isinstance(result, Alignment)
    assert result.iou_after >= result.iou_before
    assert ("not_improved" in result.flags) == (result.iou_after <= result.iou_before)
    assert (result.pose.apply(t.mesh.vertices)[:, 2] > 0).all()
    coverage = hard_mask(t.mesh, result.pose, camera)
    assert result.iou_after == pytest.approx((coverage & mask).sum() / (coverage | mask).sum(), abs=0.01)


def test_one_bad_item_does_not_take_its_batch_along() -> None:
    t = trial(0)
    behind: Pose = t.start.replace(t=np.array([0.0, 0.0, -3.0]))
    items = [
        (t.mesh, np.zeros_like(t.mask), t.start, t.camera),
        item(t),
        (t.mesh, t.mask, behind, t.camera),
        (t.mesh, t.mask[:100], t.start, t.camera),
        item(t),
    ]
    empty, first, hidden, cropped, second = align_batch(items, QUICK, device="cpu")
    assert isinstance(empty, InputError)
    assert "empty" in str(empty)
    assert isinstance(hidden, GeometryError)
    assert "behind the camera" in str(hidden)
    assert isinstance(cropped, InputError)
    assert isinstance(first, Alignment)
    assert isinstance(second, Alignment)
    assert same(first, second)
    assert first.iou_after > 0.95


@pytest.mark.parametrize("device", ["cuda:77", "abacus", "meta"])
def test_a_device_that_is_not_there(device: str) -> None:
    with pytest.raises(ConfigError, match=f"device '{device}'"):
        align_batch([item(trial(0))], device=device)


@pytest.mark.gpu
def test_a_gpu_aligns_as_well() -> None:
    assert torch.cuda.is_available()
    items = [item(trial(seed)) for seed in range(12)]
    first, second = (align_batch(items, PAPER_ALONE, device="cuda") for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert isinstance(a, Alignment)
        assert isinstance(b, Alignment)
        assert a.iou_after >= 0.95
        assert a.pose.t.tobytes() == b.pose.t.tobytes()

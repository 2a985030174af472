"""Focal lengths of annotated images, from the one shape that their keypoints should have."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from synthetic import hidden, views

from sc3d.class_shapes.focal import INITIAL, estimate_inverse_focals, spread

CORNERS = torch.tensor([[0, 1, 2], [1, 2, 3], [3, 0, 4]])


def test_the_true_focal_lengths_have_no_spread() -> None:
    """Of a rigid object; others have."""
    made = views(8, 40, 0.7, 0.0, seed=1)
    tensors = [torch.from_numpy(value) for value in (made.xy, made.depth, made.inverse)]
    shown = torch.from_numpy(made.visible[:, CORNERS].all(axis=2))
    assert spread(*tensors, CORNERS, shown).item() < 1e-8
    assert spread(tensors[0], tensors[1], tensors[2] * 1.1, CORNERS, shown).item() > 1e-6


def test_the_spread_is_the_sum_of_variances() -> None:
    """Of cosines and ratios of lengths, over the images that show all three, by a plain loop."""
    made = views(6, 5, 0.8, 0.05, seed=2)
    visible = made.visible
    visible[:3, [0, 1, 2, 3, 4]] = True
    points = np.concatenate([made.xy * 0.3, np.ones((5, 6, 1))], axis=2) * made.depth[..., None]
    wanted = 0.0
    for i, j, k in CORNERS.tolist():
        of = [p for p, v in zip(points, visible, strict=True) if v[[i, j, k]].all()]
        first, second = (np.array([p[b] - p[i] for p in of]) for b in (j, k))
        a, b = np.linalg.norm(first, axis=1), np.linalg.norm(second, axis=1)
        wanted += np.var((first * second).sum(1) / a / b, ddof=1) + np.var(a / (a + b), ddof=1)
    shown = torch.from_numpy(visible[:, CORNERS].all(axis=2))
    found = spread(
        torch.from_numpy(made.xy), torch.from_numpy(made.depth), torch.full((5,), 0.3, dtype=torch.float64), CORNERS, shown
    )
    assert found.item() == pytest.approx(wanted, rel=1e-9)


def test_focal_lengths_are_recovered() -> None:
    """Of 40 rigid images with inverse focal lengths from 0.2 to 1: median error below 1 % (specification, section 8)."""
    made = views(8, 40, 0.8, 0.0, seed=3)
    found = estimate_inverse_focals(hidden(made.xy, made.visible), hidden(made.depth, made.visible))
    error = np.abs(found / made.inverse - 1)
    assert np.median(error) < 0.01
    assert np.quantile(error, 0.9) < 0.03


def test_images_of_a_group_share_one() -> None:
    """An image and its mirror image, whose keypoints alone would say little."""
    made = views(8, 20, 0.8, 0.03, seed=4)
    xy, depth = hidden(made.xy, made.visible), hidden(made.depth, made.visible)
    found = estimate_inverse_focals(np.concatenate([xy, xy]), np.concatenate([depth, depth]), group=np.tile(np.arange(20), 2))
    np.testing.assert_array_equal(found[:20], found[20:])


def test_an_image_that_shares_nothing_keeps_the_start() -> None:
    """So do all where no keypoint is seen twice."""
    made = views(8, 10, 1.0, 0.0, seed=5)
    made.visible[0, 2:] = False
    found = estimate_inverse_focals(hidden(made.xy, made.visible), hidden(made.depth, made.visible))
    assert found[0] == INITIAL
    assert (found[1:] != INITIAL).all()
    nothing = np.full((3, 8, 2), np.nan)
    assert estimate_inverse_focals(nothing, nothing[..., 0]).tolist() == [INITIAL] * 3

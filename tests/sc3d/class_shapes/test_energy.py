"""The energy: each term beside a plain loop, its gradients beside differences, and what it says of right and wrong poses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scene import Scene, View
from scipy.spatial.transform import Rotation
from scipy.stats import norm

from sc3d.class_shapes.class_shape import ClassShape
from sc3d.class_shapes.energy import ImageTerms
from sc3d.class_shapes.hypotheses import Poses, fit_to_mask, mirror_normal, mirror_twins

SIGMA = 0.05


def terms_of(shape: ClassShape, view: View, **options: Any) -> ImageTerms:
    return ImageTerms(view.observation, shape.prototypes, view.inverse, candidates=len(shape.matrix), **options)


def true_rotation(shape: ClassShape, scene: Scene, view: View) -> np.ndarray:
    """From the class shape's frame to the camera's."""
    a, b = shape.keypoints, scene.keypoints[shape.ids]
    u, _, vt = np.linalg.svd((b - b.mean(axis=0)).T @ (a - a.mean(axis=0)))
    return view.R @ (u * [1, 1, np.sign(np.linalg.det(u @ vt))] @ vt)


def reconstruction(terms: ImageTerms, seen: torch.Tensor, sigma: float = SIGMA) -> torch.Tensor:
    point, semantic = terms.explained_by(seen, sigma)
    return terms.reconstruction(seen.gather(1, point[..., None].expand(-1, -1, 3)), semantic, sigma)


def seen_by(poses: Poses, shape: ClassShape, terms: ImageTerms) -> torch.Tensor:
    return terms.seen(poses.apply(torch.from_numpy(shape.points.astype(np.float32))), 1 / poses.inverse_focal)


def test_a_cell_is_explained_by_the_likeliest_of_all_points(shape: ClassShape, views: list[View]) -> None:
    view = views[3]
    terms = terms_of(shape, view, cells=40)
    poses = fit_to_mask(Rotation.random(2, rng=np.random.default_rng(0)).as_matrix(), shape, view.observation)
    seen = seen_by(poses, shape, terms)
    chosen = np.sort(np.random.default_rng(0).permutation(len(view.observation.xy))[:40])
    wanted = []
    for points in poses.apply(torch.from_numpy(shape.points.astype(np.float32))).double().numpy():
        total = 0.0
        for cell in chosen:
            cosines = shape.prototypes.features @ view.observation.features[cell]
            below = np.maximum(shape.prototypes.mean - cosines, 0) / shape.prototypes.deviation
            at = points[:, :2] / points[:, 2:] / view.inverse + [0.5, 90 / 240]
            away = ((at - view.observation.xy[cell]) ** 2).sum(axis=1)
            unit = np.median(view.observation.depth) * view.inverse
            away = away + 0.5 * ((points[:, 2] - view.observation.depth[cell]) / unit) ** 2
            total -= np.log(1e-4 + (2 * norm.sf(below) * np.exp(-away / (2 * SIGMA**2))).max())
        wanted.append(total / len(chosen))
    np.testing.assert_allclose(reconstruction(terms, seen).numpy(), wanted, rtol=1e-3)


def test_gradients_are_those_of_differences(shape: ClassShape, views: list[View]) -> None:
    view = views[5]
    terms = terms_of(shape, view)
    poses = fit_to_mask(Rotation.random(1, rng=np.random.default_rng(1)).as_matrix(), shape, view.observation)
    keypoints = poses.apply(torch.from_numpy(shape.keypoints.astype(np.float32)))
    matrix = torch.from_numpy(shape.matrix)
    by = terms.explained_by(terms.seen(matrix @ keypoints, 1 / poses.inverse_focal), SIGMA)

    def energy(at: torch.Tensor) -> torch.Tensor:
        focal = 1 / poses.inverse_focal
        image = terms.reconstruction(terms.seen(matrix[by[0]] @ at, focal), by[1], SIGMA)
        return (image + terms.background(terms.seen(matrix @ at, focal)) + terms.depth_error(at[..., 2])).sum()

    at = keypoints.clone().requires_grad_()
    energy(at).backward()
    assert at.grad is not None
    rng = torch.Generator().manual_seed(0)
    for _ in range(5):
        direction = torch.randn(at.shape, generator=rng)
        step = 2e-3 * direction / direction.norm()
        difference = (energy(keypoints + step) - energy(keypoints - step)).item() / 2
        assert difference == pytest.approx((at.grad * step).sum().item(), rel=0.1, abs=2e-4)


def test_the_energy_rises_as_the_right_pose_is_turned_away(scene: Scene, shape: ClassShape, views: list[View]) -> None:
    rises = []
    for view in views[:6]:
        terms, right = terms_of(shape, view), true_rotation(shape, scene, view)
        turns = Rotation.from_euler("y", np.array([[0], [20], [40], [90], [180]]), degrees=True).as_matrix()
        rises.append(reconstruction(terms, seen_by(fit_to_mask(right @ turns, shape, view.observation), shape, terms)).numpy())
    mean = np.mean(rises, axis=0)
    assert mean[0] < mean[1] < mean[2] < mean[3]
    assert mean[4] > mean[1]


def test_depth_tells_a_pose_from_its_mirror_twin_and_the_image_alone_does_not(
    scene: Scene, shape: ClassShape, views: list[View]
) -> None:
    """Two poses that see a symmetric object at the same places. Features here know left from right, so they are left out."""
    normal = mirror_normal(shape)
    assert normal is not None
    gaps, flat_gaps = [], []
    for view in views[:8]:
        right = true_rotation(shape, scene, view)
        poses = fit_to_mask(np.stack([right, mirror_twins(right[None], normal)[0]]), shape, view.observation)
        terms = terms_of(shape, view)
        terms.log_semantic = torch.zeros_like(terms.log_semantic)
        seen = seen_by(poses, shape, terms)
        energies = reconstruction(terms, seen).numpy()
        gaps.append(energies[1] - energies[0])
        terms.places, seen = terms.places * torch.tensor([1, 1, 0]), seen * torch.tensor([1, 1, 0])
        energies = reconstruction(terms, seen).numpy()
        flat_gaps.append(energies[1] - energies[0])
    assert np.mean(gaps) > 4 * abs(np.mean(flat_gaps))


def test_the_other_terms_are_zero_where_nothing_is_wrong(shape: ClassShape, views: list[View]) -> None:
    terms = terms_of(shape, views[0])
    inside = torch.from_numpy(views[0].observation.xy.astype(np.float32))[None]
    seen = torch.cat([inside, torch.zeros_like(inside[..., :1])], dim=-1)
    assert terms.background(seen).item() == pytest.approx(0, abs=1e-4)
    assert terms.background(seen + torch.tensor([0.3, 0, 0])).item() > 1
    assert terms.background(seen + torch.tensor([5.0, 0, 0])).item() > 50
    assert terms.depth_error(terms.depth.expand(1, 4)).item() == pytest.approx(0, abs=1e-9)
    assert terms.depth_error(2 * terms.depth.expand(1, 4)).item() == pytest.approx(1, rel=1e-4)

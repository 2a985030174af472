"""From annotated images to the class shape of their category: focal lengths, statistics, sparse cloud, dense cloud, prototypes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from sc3d.class_shapes.camera import lift, principal_point
from sc3d.class_shapes.class_shape import ClassShape
from sc3d.class_shapes.dense_cloud import DenseCloud, barycentric_rows, merge_rows
from sc3d.class_shapes.focal import estimate_inverse_focals
from sc3d.class_shapes.observation import Annotation, Observation
from sc3d.class_shapes.pose_prior import learn_pose_prior
from sc3d.class_shapes.prototypes import Prototypes, make_prototypes
from sc3d.class_shapes.sparse_cloud import build_sparse_cloud, only
from sc3d.class_shapes.statistics import fit_statistics
from sc3d.errors import InputError

Annotated = tuple[Observation, Annotation]

_LEAST_KEYPOINTS = 4
_FLAT = 0.005
"""Least extent of an image's keypoints across their plane, in the largest one along it."""


def build_class_shape(
    category: str,
    views: Sequence[Annotated],
    mirrored: Mapping[int, int] | None = None,
    points: int = 1000,
    samples: int = 400,
    seed: int = 0,
) -> ClassShape:
    """Build the class shape of a category.

    Args:
        views: its annotated images.
        mirrored: keypoint id -> the id that it becomes in a mirror, of those that change. Each image then counts as its mirror image too,
            in what its geometry tells.
        points: most points of the dense cloud beside the keypoints.
        samples: most cells of an image that it is made of.
        seed: of all that is drawn.

    Raises:
        InputError: too few keypoints are seen together in enough images, or they all lie in one plane; ``mirrored`` is no mirror.
    """
    _check_mirror(category, mirrored or {})
    usable = [view for view in views if len(view[1].ids) >= _LEAST_KEYPOINTS]
    if not usable:
        raise InputError(
            f"{category}: no image shows {_LEAST_KEYPOINTS} annotated keypoints of known depth; a class shape needs several that do"
        )
    ids = np.unique(np.concatenate([annotation.ids for _, annotation in usable]))
    twins = _twins(ids, mirrored or {})
    xy, depth = _tables(ids, usable)
    inverse = _inverse_focals(usable, xy, depth, twins, seed)
    lifted = _lifted(xy, depth, inverse)
    if np.median(_flatness(lifted)) < _FLAT:
        raise InputError(
            f"{category}: the keypoints of most images lie in one plane, as far as their depths say; a class shape takes four that do not"
        )
    try:
        statistics = fit_statistics(np.concatenate([lifted, _mirror_images(lifted, twins)]), len(ids), seed)
        cloud = build_sparse_cloud(statistics, len(ids))
    except InputError as error:
        raise InputError(f"{category}: {error}") from None
    placed = np.flatnonzero(cloud.placed)
    keypoints = cloud.points[placed]
    dense, features, images = _dense(usable, lifted[:, placed], inverse, keypoints, points, samples, seed)
    row = np.full(len(ids), -1)
    row[placed] = np.arange(len(placed))
    own = row[twins[placed]]
    return ClassShape(
        category,
        ids[placed],
        keypoints,
        only(statistics, placed, len(ids)),
        dense.matrix,
        _prototypes(dense, features, images, usable, ids[placed]),
        np.where(own < 0, np.arange(len(placed)), own),
        float(np.median(inverse)),
        cloud.mirror_gap,
        len(usable),
        learn_pose_prior(keypoints, lifted[:, placed], [observation.pose for observation, _ in usable]),
    )


def _twins(ids: np.ndarray, mirrored: Mapping[int, int]) -> np.ndarray:
    """The row (K,) of each keypoint's counterpart in a mirror; its own where it has none."""
    row = {int(one): number for number, one in enumerate(ids)}
    return np.array([row.get(mirrored.get(int(one), int(one)), row[int(one)]) for one in ids], np.int64)


def _tables(ids: np.ndarray, views: Sequence[Annotated]) -> tuple[np.ndarray, np.ndarray]:
    """The keypoints of all images: (S, K, 2) in longer sides from the principal point and depths (S, K); NaN where one is not seen."""
    xy, depth = np.full((len(views), len(ids), 2), np.nan), np.full((len(views), len(ids)), np.nan)
    for number, (observation, annotation) in enumerate(views):
        at = np.searchsorted(ids, annotation.ids)
        xy[number, at] = annotation.xy - principal_point(observation.size)
        depth[number, at] = annotation.depth
    return xy, depth


def _mirror_images(values: np.ndarray, twins: np.ndarray) -> np.ndarray:
    """Keypoints (S, K, D) as a mirror shows them: x negated, and each under its counterpart's number. None without counterparts."""
    if (twins == np.arange(len(twins))).all():
        return values[:0]
    return np.asarray(values[:, twins] * np.array([-1.0, 1.0, 1.0])[: values.shape[2]])


def _inverse_focals(views: Sequence[Annotated], xy: np.ndarray, depth: np.ndarray, twins: np.ndarray, seed: int) -> np.ndarray:
    """(S,): those that are known, else estimated; an image and its mirror image have one."""
    known = np.array([view.inverse_focal or np.nan for view, _ in views])
    if np.isfinite(known).all():
        return known
    other = _mirror_images(xy, twins)
    both = np.concatenate([xy, other]), np.concatenate([depth, depth[: len(other), twins]])
    group = np.arange(len(both[0])) % len(xy)
    return np.where(np.isfinite(known), known, estimate_inverse_focals(*both, seed, group)[: len(xy)])


def _lifted(xy: np.ndarray, depth: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """Camera points (S, K, 3) of the keypoints."""
    origin = torch.zeros(2, dtype=torch.float64)
    return lift(torch.from_numpy(xy), torch.from_numpy(depth), torch.from_numpy(inverse)[:, None, None], origin).numpy()


def _check_mirror(category: str, mirrored: Mapping[int, int]) -> None:
    wrong = sorted(one for one, other in mirrored.items() if mirrored.get(other) != one)
    if wrong:
        raise InputError(
            f"{category}: a mirror exchanges two keypoints, which its table does not say of {wrong}; correct the table"
        )


def _flatness(lifted: np.ndarray) -> np.ndarray:
    """The least by the largest extent (S,) of the lifted keypoints (S, K, 3) of each image."""
    seen = [points[np.isfinite(points).all(axis=1)] for points in lifted]
    extents = np.stack([np.linalg.svd(points - points.mean(axis=0), compute_uv=False) for points in seen])
    return np.asarray(extents[:, 2] / np.maximum(extents[:, 0], 1e-12))


def _dense(
    views: Sequence[Annotated],
    lifted: np.ndarray,
    inverse: np.ndarray,
    keypoints: np.ndarray,
    points: int,
    samples: int,
    seed: int,
) -> tuple[DenseCloud, np.ndarray, np.ndarray]:
    """The dense cloud, and of the merged cells that it is made of the unit features (R, C) and the images (R,)."""
    rng = np.random.default_rng(seed)
    rows, features = [], []
    for (observation, _), at, phi in zip(views, lifted, inverse, strict=True):
        chosen = np.sort(rng.permutation(len(observation.xy))[:samples])
        principal = torch.from_numpy(principal_point(observation.size))
        cells = lift(torch.from_numpy(observation.xy[chosen]), torch.from_numpy(observation.depth[chosen]), phi, principal)
        own, kept = barycentric_rows(cells.numpy(), at, seed)
        rows.append(own)
        features.append(observation.features[chosen[kept]])
    merged = np.concatenate(rows)
    # The authors' thousand of 55 images' thousand: as large a share of whatever there is.
    neighbours = max(len(merged) // len(views), 20)
    images = np.repeat(np.arange(len(views)), [len(own) for own in features])
    return merge_rows(merged, keypoints, points, neighbours, seed), np.concatenate(features), images


def _prototypes(
    dense: DenseCloud, features: np.ndarray, images: np.ndarray, views: Sequence[Annotated], ids: np.ndarray
) -> Prototypes:
    """Of the dense points from the cells around them, of the keypoints from their annotated cells."""
    seen = np.concatenate([annotation.ids for _, annotation in views])
    at_keypoints = np.concatenate([annotation.features for _, annotation in views])
    groups = [len(features) + np.flatnonzero(seen == one) for one in ids]
    annotated = np.repeat(np.arange(len(views)), [len(annotation.ids) for _, annotation in views])
    every, of = np.concatenate([features, at_keypoints]), np.concatenate([images, annotated])
    return make_prototypes([*dense.near[: len(dense.matrix) - len(ids)], *groups], every, of)

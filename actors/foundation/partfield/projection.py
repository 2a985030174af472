"""Fewer channels for part features: principal axes, common to all meshes that are to be compared."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sc3d.errors import FeatureError


def principal_axes(features: Sequence[np.ndarray], dims: int) -> np.ndarray:
    """Axes (D, dims) float32 along which L2-normalised features (V_i, D) of several meshes are longest; every mesh counts the same.

    They go through the origin, not through the mean: features are compared by cosines, which are taken from there.

    Raises:
        FeatureError: there are no features, or fewer channels than ``dims``.
    """
    if not features or any(len(f) == 0 for f in features):
        raise FeatureError("principal axes need the features of at least one mesh, and of at least one vertex each")
    channels = features[0].shape[1]
    if not 1 <= dims <= channels:
        raise FeatureError(f"{channels} channels cannot be projected to {dims}")
    moment = np.zeros((channels, channels))
    for values in features:
        unit = _unit_length(values).astype(np.float64)
        moment += unit.T @ unit / len(unit)
    axes = np.linalg.eigh(moment)[1][:, ::-1][:, :dims]
    # An eigenvector's sign is arbitrary.
    signs = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(dims)])
    return (axes * signs).astype(np.float32)


def onto_axes(features: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """L2-normalised features (V, D) in terms of ``axes`` (D, dims): (V, dims) float32, whose dot products approximate cosines."""
    return _unit_length(features) @ axes


def project(features: Sequence[np.ndarray], dims: int) -> list[np.ndarray]:
    """Features (V_i, D) of several meshes in terms of ``dims`` common principal axes: (V_i, dims) float32 each.

    The results can be compared with one another, and with nothing else.
    """
    axes = principal_axes(features, dims)
    return [onto_axes(values, axes) for values in features]


def _unit_length(features: np.ndarray) -> np.ndarray:
    values = np.asarray(features, np.float32)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)

"""Labels of two photos from anybody's dense features: what a run does to a pair, without a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from sc3d.arrays import checked_array
from sc3d.config import LabelConfig, MatchConfig
from sc3d.errors import ConfigError, FeatureError, InputError
from sc3d.features import Features
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.posed_mesh import PosedMesh
from sc3d.grid import Letterbox, object_extent
from sc3d.matching.described import Described
from sc3d.matching.explain import Explanation, explain_pair
from sc3d.matching.fusion import DINO, SHAPE, normalise
from sc3d.matching.pairing import BALL_RADIUS, Pairing, PairTransfer

SHAPE_WEIGHT = 1 / 6
"""Of the 3D descriptors where no weights are given; the paper's."""


def label_pair(
    source: PosedMesh,
    target: PosedMesh,
    source_features: Mapping[str, Any],
    target_features: Mapping[str, Any],
    *,
    weights: Mapping[str, float] | None = None,
    tau_cc: float = 0.05,
    tau_geo: float = 0.05,
    transfer: PairTransfer = "registration",
    references: Sequence[Mesh] = (),
) -> Explanation:
    """Match two photos by dense features of any origin, and verify the matches on both meshes (3D-SC, stage 2).

    Each foreground cell of the source, on a grid of 60 x 60 over its photo, is matched to the target's most similar one; ``keep`` of the
    result says which matches pass the relaxed cycle and the bicyclic geodesic error, ``rejected_by`` why the others do not.

    Args:
        source, target: the meshes where the photos show them (:class:`~sc3d.geometry.posed_mesh.PosedMesh`), with or without a mask.
        source_features, target_features: name -> (rows, columns, C) array or tensor that covers the whole photo, on a grid of any size;
            the same names and C for both photos.
        weights: name -> weight of its cosine, "shape" for the 3D descriptors of the meshes; their sum does not matter. ``None``: equal
            ones, and a sixth for the shape. A weight of 0 leaves features out.
        tau_cc: largest cycle error, in extents of the source's object; at least a cell.
        tau_geo, transfer, references: as of :func:`~sc3d.matching.pixels.verify`.

    Raises:
        InputError: features have another shape or differ between the photos, or a mask covers no cell.
        ConfigError: weights for other features, none above 0, an unknown transfer, or a threshold that is not above 0.
        FeatureError: features that are not finite.
        GeometryError: a mesh is not welded, not seen, or cannot be registered.
    """
    if not (0 < tau_cc < np.inf and 0 < tau_geo < np.inf):
        raise ConfigError(f"tau_cc and tau_geo must be above 0 and finite, got {tau_cc} and {tau_geo}")
    pairing = Pairing(source, target, transfer, references)
    maps = _checked(source_features, "source_features"), _checked(target_features, "target_features")
    channels = [{name: one.shape[2] for name, one in side.items()} for side in maps]
    if channels[0] != channels[1]:
        raise InputError(
            f"source_features and target_features must have the same names and channels, got {channels[0]} and {channels[1]}"
        )
    shares = _shares(list(channels[0]), weights)
    config = MatchConfig(alpha=0, beta=1 - shares[SHAPE], transfer="nearest" if transfer == "template" else transfer)
    radius = max(BALL_RADIUS, 2 * tau_geo)
    described = [
        Described(_features(name, one, side, shares, radius, pairing), config, pairing.places(one))
        for name, one, side in zip(("source", "target"), (source, target), maps, strict=True)
    ]
    return explain_pair(described[0], described[1], LabelConfig(tau_cc, tau_geo), pairing.transfer)


def _checked(features: Mapping[str, Any], name: str) -> dict[str, np.ndarray]:
    if not features or SHAPE in features:
        raise InputError(f"{name} must name at least one array, and none '{SHAPE}', which are the descriptors of the mesh")
    found = {key: checked_array(value, f"{name}['{key}']", ("rows", "columns", "C")) for key, value in features.items()}
    for key, value in found.items():
        if not value.size:
            raise InputError(f"{name}['{key}'] is empty: {value.shape}")
        if not np.isfinite(value).all():
            raise FeatureError(f"{name}['{key}'] holds values that are not finite")
    return found


def _shares(names: Sequence[str], weights: Mapping[str, float] | None) -> dict[str, float]:
    """Name -> its share of the fused cosine, of "shape" too."""
    known = [*names, SHAPE]
    if weights is None:
        return {**dict.fromkeys(names, (1 - SHAPE_WEIGHT) / len(names)), SHAPE: SHAPE_WEIGHT}
    unknown = [name for name in weights if name not in known]
    values = {name: float(weights.get(name, 0.0)) for name in known}
    total = sum(values.values())
    if unknown or not 0 < total < np.inf or min(values.values()) < 0:
        raise ConfigError(f"weights must be at least 0, one of them more, for {', '.join(known)}; got {dict(weights)}")
    return {name: value / total for name, value in values.items()}


def _features(
    name: str, posed: PosedMesh, maps: Mapping[str, np.ndarray], shares: Mapping[str, float], radius: float, pairing: Pairing
) -> Features:
    box = Letterbox(posed.camera.width, posed.camera.height)
    foreground = box.sample_mask(posed.object_mask)
    if not foreground.any():
        raise InputError(
            f"the {name}'s mask covers no cell of its grid of {box.side} x {box.side}; the object is too small in the photo"
        )
    surface = pairing.numbered(posed.cell_surface(box, foreground, radius))
    # One group for all: each was scaled to the root of its share, so that its cosine is their weighted mean.
    parts = [_on_grid(one, box) * shares[key] ** 0.5 for key, one in sorted(maps.items()) if shares[key]]
    sources = {DINO: np.concatenate(parts)} if parts else {}
    return Features(name, box, foreground, object_extent(posed.object_mask), sources, posed.vertex_descriptors, surface)


def _on_grid(features: np.ndarray, box: Letterbox) -> np.ndarray:
    """A map (rows, columns, C) over the whole photo at the cells of its letterbox, of unit length in each: (C, side, side) float32."""
    centres = box.centres().reshape(box.side, box.side, 2) / box.size
    grid = torch.from_numpy((2 * centres - 1).astype(np.float32))[None]
    values = torch.from_numpy(np.ascontiguousarray(features, np.float32)).permute(2, 0, 1)[None]
    sampled = torch.nn.functional.grid_sample(values, grid, mode="bilinear", padding_mode="border", align_corners=False)[0]
    unit = normalise(sampled.reshape(len(sampled), -1).T)
    return np.asarray(unit.T.reshape(sampled.shape).numpy())

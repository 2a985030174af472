"""The label step again, as plainly as it can be said: loops over cells, vertices and ball members, in float64."""

from __future__ import annotations

import math

import numpy as np
import torch

from sc3d.config import MatchConfig
from sc3d.features import Features, GeodesicBalls
from sc3d.geometry.geodesic import LEVELS


def unit(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v)


def cell_groups(features: Features, cell: int, surface_row: int | None) -> dict[str, np.ndarray]:
    """Each group's unit descriptor at a cell; layers are resized by torch's own interpolation."""
    side = features.letterbox.side
    groups: dict[str, list[np.ndarray]] = {}
    for name in sorted(features.sources):
        layer = torch.from_numpy(features.sources[name].astype(np.float64))[None]
        resized = torch.nn.functional.interpolate(layer, size=(side, side), mode="bilinear", align_corners=False)[0].numpy()
        groups.setdefault(name.split(".")[0], []).append(resized[:, cell // side, cell % side])
    result = {name: unit(np.concatenate(parts)) for name, parts in groups.items()}
    if surface_row is not None:
        result["shape"] = unit(point_descriptor(features, surface_row))
    return result


def point_descriptor(features: Features, surface_row: int) -> np.ndarray:
    surface = features.surface
    corners, weights = surface.corners[surface_row], surface.barycentric[surface_row].astype(np.float64)
    return sum(w * features.shape[c].astype(np.float64) for c, w in zip(corners, weights, strict=True))


def ball_distance(balls: GeodesicBalls, centre: int, vertex: int) -> float:
    row = balls.centres.tolist().index(centre)
    for i in range(balls.offsets[row], balls.offsets[row + 1]):
        if balls.members[i] == vertex:
            return float(balls.distances[i]) * balls.radius / LEVELS
    return math.inf


def nearest_vertex(features: Features, query: np.ndarray) -> int:
    return int(np.argmax([unit(v) @ unit(query) for v in features.shape.astype(np.float64)]))


def reference_candidates(source: Features, target: Features, config: MatchConfig):
    """[(source cell, source row, target cell, target row, cosine, cycle error)], one a matching source cell."""
    weights = {"sd": config.alpha, "dino": config.beta, "shape": config.gamma}

    def described(features: Features):
        row_of = {int(c): i for i, c in enumerate(features.surface.cells)} if features.surface is not None else {}
        cells = [int(c) for c in np.flatnonzero(features.foreground)]
        if config.gamma > 1e-6:
            cells = [c for c in cells if c in row_of]
        return [(c, row_of.get(c), cell_groups(features, c, row_of.get(c))) for c in cells]

    def cosine(a, b):
        return sum(w * (a[g] @ b[g]) for g, w in weights.items() if w > 1e-6)

    mine, theirs = described(source), described(target)
    side = source.letterbox.side
    result = []
    for cell, row, groups in mine:
        if not theirs:
            break
        scores = [cosine(groups, other[2]) for other in theirs]
        j = int(np.argmax(scores))
        back = mine[int(np.argmax([cosine(other[2], theirs[j][2]) for other in mine]))][0]
        error = math.hypot(back // side - cell // side, back % side - cell % side) * source.letterbox.cell_pixels
        result.append((cell, row, theirs[j][0], theirs[j][1], scores[j], error))
    return result


def reference_label(source: Features, target: Features, config: MatchConfig):
    """(number of candidates, number after the cycle, [(source cell, target cell, cosine, cycle error, geodesic error)])."""
    candidates = reference_candidates(source, target, config)
    tolerance = max(config.tau_cc * source.extent, source.letterbox.cell_pixels)
    passing = [c for c in candidates if c[5] <= tolerance * (1 + 1e-6)]
    kept = []
    for cell, row, other, other_row, cosine, cycle in passing:
        if source.surface is None or target.surface is None or row is None or other_row is None:
            continue
        if source.surface.fill_distance[row] > 1 or target.surface.fill_distance[other_row] > 1:
            continue
        hat_t = nearest_vertex(target, point_descriptor(source, row))
        hat_s = nearest_vertex(source, point_descriptor(target, other_row))
        there = ball_distance(target.surface.balls, int(target.surface.dominant[other_row]), hat_t) / target.surface.diagonal
        here = ball_distance(source.surface.balls, int(source.surface.dominant[row]), hat_s) / source.surface.diagonal
        error = (there + here) / 2
        if error <= config.tau_geo:
            kept.append((cell, other, cosine, cycle, error))
    return len(candidates), len(passing), kept

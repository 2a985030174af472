"""Stored matches -> chains around triangles of images, at some thresholds: what precision is estimated from where nothing is annotated."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cache

import pyarrow.compute as pc

from pipelines.stages.describe import DescribeStage
from pipelines.stages.match import MatchStage
from pipelines.stages.reconstruct import ReconstructStage
from sc3d.artefacts import Catalogue
from sc3d.config import RunConfig
from sc3d.errors import FeatureError
from sc3d.grid import Letterbox
from sc3d.matching.cycle_chains import CellMatches, SeenSurface, Triangle, count_chains, triangles_of
from sc3d.matching.cycle_precision import ALLOWED, CategoryChains, ThresholdEstimate, estimate_wrong
from sc3d.matching.thresholds import apply_thresholds
from sc3d.pair_ids import split_pair_id
from sc3d.records import Matches

CyclesAt = Mapping[float, Mapping[str, CategoryChains]]
"""tau_geo -> category -> its chains."""


def read_cycles(
    config: RunConfig, taus: Sequence[float], most: int, categories: Sequence[str] = (), images: int | None = None
) -> CyclesAt:
    """The chains of a run's stored matches under each ``tau_geo``; the other thresholds are those of ``config.label``.

    Args:
        most: triangles of a category, drawn by lot; the feature files of the images that they begin with are read, and their pairs.
        categories: those that are looked at; by default all.
        images: of a category, that triangles begin with, at most; by default as many as there are.

    Raises:
        SchemaError, StoreError: a file cannot be read.
        FeatureError: an image of a match has no surface.
    """
    matched = MatchStage(config).catalogue().within(categories)
    found = matched.columns(["pair_id", "category"])
    sizes = _letterboxes(config)
    cycles: dict[float, dict[str, CategoryChains]] = {tau: {} for tau in taus}
    for category in sorted(pc.unique(found["category"]).to_pylist()):
        ids = found.filter(pc.equal(found["category"], category))["pair_id"].to_pylist()
        triangles = triangles_of((split_pair_id(pair_id) for pair_id in ids), most, config.seed)
        begun = set(list(dict.fromkeys(one.first for one in triangles))[:images])
        triangles = [one for one in triangles if one.first in begun]
        for tau, chains in _of_category(config, matched, ids, triangles, sizes, taus).items():
            cycles[tau][category] = chains
    return cycles


def _of_category(
    config: RunConfig,
    matched: Catalogue,
    ids: Sequence[str],
    triangles: Sequence[Triangle],
    sizes: Mapping[str, Letterbox],
    taus: Sequence[float],
) -> dict[float, CategoryChains]:
    asked = {
        frozenset(leg) for one in triangles for leg in ((one.first, one.second), (one.second, one.third), (one.third, one.first))
    }
    chosen = [pair_id for pair_id in ids if frozenset(split_pair_id(pair_id)) in asked]
    pairs: list[Matches] = list(matched.read(chosen).values())
    described = DescribeStage(config)

    @cache
    def surface(image_id: str) -> SeenSurface:
        found = described.read_features(image_id).surface
        if found is None:
            raise FeatureError(f"{image_id}: it has matches but no surface; describe it again")
        return SeenSurface.of(found)

    result = {}
    for tau in taus:
        kept = {(one.source_id, one.target_id): _cells(one, config, tau, sizes) for one in pairs}
        labels = sum(len(one.source_cells) for one in kept.values()) / max(len(kept), 1) * len(ids)
        result[tau] = CategoryChains(labels, count_chains(kept, triangles, surface, ALLOWED))
    return result


def _cells(matches: Matches, config: RunConfig, tau: float, sizes: Mapping[str, Letterbox]) -> CellMatches:
    labels = apply_thresholds(matches, dataclasses.replace(config.label, tau_geo=tau))
    return CellMatches(sizes[labels.source_id].cells_of(labels.source_xy), sizes[labels.target_id].cells_of(labels.target_xy))


def _letterboxes(config: RunConfig) -> dict[str, Letterbox]:
    columns = ReconstructStage(config).catalogue().columns(["image_id", "width", "height"])
    rows = zip(*(columns[name].to_pylist() for name in ("image_id", "width", "height")), strict=True)
    return {image_id: Letterbox(width, height) for image_id, width, height in rows}


def estimates(cycles: CyclesAt, pairs: int, categories: Sequence[str] = ()) -> list[ThresholdEstimate]:
    """What is estimated at each threshold of some categories together, or of all; ``pairs``: how many pairs these have."""
    rows = []
    for tau, found in sorted(cycles.items()):
        chosen = {name: one for name, one in found.items() if not categories or name in categories}
        labels = sum(one.labels for one in chosen.values())
        rows.append(ThresholdEstimate(tau, labels / max(pairs, 1), estimate_wrong(chosen)))
    return rows

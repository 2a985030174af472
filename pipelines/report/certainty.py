"""How sure a run is of each category, and what it is least sure of: from stored probabilities, registrations and matches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from pipelines.report.summary import RunSummary
from pipelines.stages.cycles import estimates, read_cycles
from pipelines.stages.register import RegisterStage, is_registered
from sc3d.config import RunConfig
from sc3d.errors import Sc3dError
from sc3d.matching.cycle_chains import ChainCounts
from sc3d.matching.cycle_precision import Estimate, NotEstimated
from sc3d.pair_ids import pair_id_of
from sc3d.records import Registration
from sc3d.report.certainty import CertaintyRow
from sc3d.report.selection import spread

MAX_CATEGORIES = 20
"""Categories whose labels and registrations are looked at."""
_TRIANGLES, _IMAGES = 200, 24
_REGISTERED = 6
_VERTICES = 200
_MIN_CHAINS = 20


@dataclass(frozen=True)
class Certainty:
    """A row a category. ``images``: of each category the image whose front is least sure, with its probability; ``pairs``: the one of
    whose label chains most end open, with that share. ``looked_at``: how many categories the labels and registrations are of."""

    rows: tuple[CertaintyRow, ...]
    images: dict[str, tuple[str, float]]
    pairs: dict[str, tuple[str, float]]
    looked_at: int


def gather_certainty(config: RunConfig, summary: RunSummary) -> Certainty:
    """What is known of the categories of a run.

    Raises:
        SchemaError, StoreError: the registrations cannot be read.
    """
    found = summary.orientations
    categories = sorted({str(name) for name in found["category"]})
    chosen = [categories[i] for i in spread(len(categories), MAX_CATEGORIES)]
    gaps = _gaps(config, chosen)
    labels, pairs = _labels(config, summary, chosen)
    rows, images = [], {}
    for category in categories:
        mine = np.flatnonzero(found["category"] == category)
        likeliest = {str(found["image_id"][i]): float(np.max(p)) for i in mine if (p := found["posterior"][i]) is not None}
        if likeliest:
            images[category] = min(likeliest.items(), key=lambda one: (one[1], one[0]))
        rows.append(
            CertaintyRow(
                category=category,
                images=len(mine),
                sure=int((~found["uncertain"][mine].astype(bool)).sum()),
                posterior=float(np.mean(list(likeliest.values()))) if likeliest else None,
                gap=gaps.get(category),
                labels=labels.get(category),
            )
        )
    return Certainty(tuple(rows), images, pairs, len(chosen))


def _labels(
    config: RunConfig, summary: RunSummary, categories: list[str]
) -> tuple[dict[str, Estimate], dict[str, tuple[str, float]]]:
    """Category -> what is estimated of its labels, and the pair that is least sure."""
    tau, matched = config.label.tau_geo, summary.matches["category"]
    found: dict[str, Estimate] = {}
    pairs: dict[str, tuple[str, float]] = {}
    for category in (name for name in categories if (matched == name).any()):
        try:
            cycles = read_cycles(config, [tau], _TRIANGLES, [category], _IMAGES)
        except Sc3dError as error:  # a damaged file costs the estimate of its category alone
            found[category] = NotEstimated(str(error))
            continue
        found[category] = estimates(cycles, int((matched == category).sum()))[0].estimate
        shares = _open_shares(cycles[tau][category].counts)
        if shares:
            pairs[category] = max(shares.items(), key=lambda one: (one[1], one[0]))
    return found, pairs


def _open_shares(counts: Sequence[ChainCounts]) -> dict[str, float]:
    """Pair id -> the share of its chains that end open, of pairs with enough of them."""
    totals: dict[str, np.ndarray] = {}
    for one in counts:
        pair = pair_id_of(one.triangle.first, one.triangle.second)
        totals[pair] = totals.get(pair, np.zeros(2)) + np.array([one.open, one.chains])
    return {pair: float(opened / chains) for pair, (opened, chains) in totals.items() if chains >= _MIN_CHAINS and opened}


def _gaps(config: RunConfig, categories: list[str]) -> dict[str, float]:
    """Category -> the mean gap between its registered meshes, of a few."""
    if not is_registered(config):
        return {}
    catalogue = RegisterStage(config).catalogue()
    gaps = {}
    for category in categories:
        ids = sorted(catalogue.within([category]).ids.to_pylist())
        chosen = [ids[i] for i in spread(len(ids), _REGISTERED)]
        meshes = list(catalogue.read(chosen).values())
        if len(meshes) > 1:
            gaps[category] = mean_gap(meshes)
    return gaps


def mean_gap(meshes: list[Registration]) -> float:
    """The mean distance, in diagonals, from scattered vertices of each mesh to what is nearest to them of each other one, of the median
    reference: what a registration adds to the geodesic error (:mod:`sc3d.matching.registration`)."""
    trees = [[cKDTree(places) for places in one.by_reference] for one in meshes]
    found = []
    for a, one in enumerate(meshes):
        rows = spread(one.by_reference.shape[1], _VERTICES)
        for b in range(len(meshes)):
            if a != b:
                away = [tree.query(places[rows])[0] for tree, places in zip(trees[b], one.by_reference, strict=True)]
                found.append(float(np.median(away, axis=0).mean()))
    return float(np.mean(found))

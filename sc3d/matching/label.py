"""The matches of a pair with their evidence: candidates, relaxed cycle, lifting, transfer, verification (3D-SC, stage 2), in order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sc3d.config import LabelConfig, MatchConfig
from sc3d.matching.candidates import cycle_error, cycle_tolerance, nearest, passes_cycle, similarity
from sc3d.matching.described import Described
from sc3d.matching.lift import lift, positions
from sc3d.matching.thresholds import passes_geodesic
from sc3d.matching.transfer import Transfer, transfer_of
from sc3d.matching.verify import bicyclic_error, check_radius
from sc3d.pair_ids import pair_id_of
from sc3d.records import Matches

CYCLE, SURFACE, GEODESIC = "cycle", "surface", "geodesic"


@dataclass(frozen=True)
class Candidates:
    """Each matching source cell and its nearest target cell; all arrays (N,), rows into the images' ``cells``."""

    source_rows: np.ndarray
    target_rows: np.ndarray
    cosine: np.ndarray
    cycle_error: np.ndarray


@dataclass(frozen=True)
class Explanation:
    """All candidates of a pair with every error, and what rejected each. All arrays have N rows.

    ``source_cells``, ``target_cells`` (N,) flat cells; ``source_xy``, ``target_xy`` (N, 2) pixels of the original images; ``cosine`` (N,)
    fused; ``cycle_error`` (N,) in source pixels; ``geodesic_error`` (N,) in mesh diagonals, ``inf`` beyond the balls or without a surface
    hit; ``source_vertex``, ``target_vertex`` (N,) dominant vertices and ``predicted_source``, ``predicted_target`` (N,) what the other mesh
    predicts, -1 without a hit; ``shape_cosine`` (N,) of the 3D descriptors at the two hits; ``source_position``, ``target_position`` (N, 3)
    canonical positions from the box's centre in mesh diagonals, NaN without a hit; ``rejected_by`` (N,) the first filter that rejects the
    candidate: ``cycle``, ``surface`` (no hit), ``geodesic``, or an empty string if it is kept.
    """

    source_cells: np.ndarray
    target_cells: np.ndarray
    source_xy: np.ndarray
    target_xy: np.ndarray
    cosine: np.ndarray
    cycle_error: np.ndarray
    geodesic_error: np.ndarray
    source_vertex: np.ndarray
    target_vertex: np.ndarray
    predicted_source: np.ndarray
    predicted_target: np.ndarray
    shape_cosine: np.ndarray
    source_position: np.ndarray
    target_position: np.ndarray
    rejected_by: np.ndarray

    def __len__(self) -> int:
        return len(self.cosine)


def find_candidates(source: Described, target: Described) -> Candidates:
    """The nearest target cell of each matching source cell, and the cycle error; none if either image has no matching cell.

    Raises:
        FeatureError: the images were described by different recipes.
    """
    source.check_pair(target)
    n = len(source.cells)
    if n == 0 or len(target.cells) == 0:
        rows = np.zeros(0, np.int64)
        return Candidates(rows, rows, np.zeros(0, np.float32), np.zeros(0, np.float32))
    cosines = similarity(source, target)
    forward, backward = nearest(cosines)
    rows = np.arange(n)
    error = cycle_error(source.cells, forward, backward, source.letterbox.side, source.letterbox.cell_pixels)
    return Candidates(rows, forward, cosines.numpy()[rows, forward], error)


def match_pair(
    source: Described, target: Described, category: str, config: MatchConfig, transfer: Transfer | None = None
) -> Matches:
    """Match two images of a category and keep every candidate within the configuration's wide thresholds, with its evidence.

    An image without foreground or without a mesh gives an empty row, not an error. An image may be paired with itself.

    Raises:
        FeatureError: the images were described by different recipes, or their geodesic balls are too small for ``config.tau_geo``.
    """
    check_radius(source, config.tau_geo)
    check_radius(target, config.tau_geo)
    candidates = find_candidates(source, target)
    tolerance = cycle_tolerance(config.tau_cc, source.extent, source.letterbox.cell_pixels)
    passing = np.flatnonzero(passes_cycle(candidates.cycle_error, tolerance))
    lifted = lift(source, target, candidates.source_rows[passing], candidates.target_rows[passing])
    verified = bicyclic_error(source, target, lifted, transfer or transfer_of(config.transfer), limit=config.tau_geo)
    close = passes_geodesic(verified.error, config.tau_geo)
    kept = passing[lifted.index[close]]
    return collect_matches(
        source,
        target,
        category,
        candidates.source_rows[kept],
        candidates.target_rows[kept],
        candidates.cosine[kept],
        candidates.cycle_error[kept],
        verified.error[close],
        len(candidates.cosine),
        len(passing),
    )


def collect_matches(
    source: Described,
    target: Described,
    category: str,
    source_rows: np.ndarray,
    target_rows: np.ndarray,
    cosine: np.ndarray,
    cycle_error: np.ndarray,
    geodesic_error: np.ndarray,
    n_candidates: int,
    n_cycle: int,
) -> Matches:
    """The record of a pair from its K kept matches: rows (K,) of the images' ``cells`` and their evidence (K,)."""
    return Matches(
        pair_id=pair_id_of(source.image_id, target.image_id),
        source_id=source.image_id,
        target_id=target.image_id,
        category=category,
        source_xy=source.letterbox.centres(source.cells[source_rows]),
        target_xy=target.letterbox.centres(target.cells[target_rows]),
        cosine=cosine,
        cycle_error=cycle_error,
        geodesic_error=geodesic_error,
        source_extent=float(source.extent),
        source_cell=source.letterbox.cell_pixels,
        n_candidates=n_candidates,
        n_cycle=n_cycle,
    )


def explain_pair(source: Described, target: Described, config: LabelConfig, transfer: Transfer | None = None) -> Explanation:
    """All candidates of a pair with every error and the filter that rejects each at the label thresholds: for pictures and tables.

    Raises:
        FeatureError: the images were described by different recipes, or their geodesic balls are too small for ``config.tau_geo``.
    """
    check_radius(source, config.tau_geo)
    check_radius(target, config.tau_geo)
    candidates = find_candidates(source, target)
    n = len(candidates.cosine)
    lifted = lift(source, target, candidates.source_rows, candidates.target_rows)
    verified = bicyclic_error(source, target, lifted, transfer or transfer_of(source.transfer))
    geodesic = _spread(n, lifted.index, verified.error, np.float32(np.inf))
    tolerance = cycle_tolerance(config.tau_cc, source.extent, source.letterbox.cell_pixels)
    hit = _spread(n, lifted.index, np.ones(len(lifted.index), bool), False)
    rejected = np.where(
        ~passes_cycle(candidates.cycle_error, tolerance),
        CYCLE,
        np.where(~hit, SURFACE, np.where(passes_geodesic(geodesic, config.tau_geo), "", GEODESIC)),
    )
    source_cells, target_cells = source.cells[candidates.source_rows], target.cells[candidates.target_rows]
    return Explanation(
        source_cells=source_cells,
        target_cells=target_cells,
        source_xy=source.letterbox.centres(source_cells),
        target_xy=target.letterbox.centres(target_cells),
        cosine=candidates.cosine,
        cycle_error=candidates.cycle_error,
        geodesic_error=geodesic,
        predicted_source=_spread(n, lifted.index, verified.predicted_source, -1),
        predicted_target=_spread(n, lifted.index, verified.predicted_target, -1),
        rejected_by=rejected,
        **_surface_evidence(source, target, n, lifted.index, lifted.source_hits, lifted.target_hits),
    )


def _surface_evidence(
    source: Described, target: Described, n: int, index: np.ndarray, source_hits: np.ndarray, target_hits: np.ndarray
) -> dict[str, np.ndarray]:
    evidence: dict[str, np.ndarray] = {
        "source_vertex": np.full(n, -1, np.int64),
        "target_vertex": np.full(n, -1, np.int64),
        "shape_cosine": np.full(n, np.nan, np.float32),
        "source_position": np.full((n, 3), np.nan),
        "target_position": np.full((n, 3), np.nan),
    }
    if source.mesh is None or target.mesh is None:
        return evidence
    evidence["source_vertex"][index] = source.mesh.surface.dominant[source_hits]
    evidence["target_vertex"][index] = target.mesh.surface.dominant[target_hits]
    cosines = (source.mesh.queries[source_hits] * target.mesh.queries[target_hits]).sum(dim=1)
    evidence["shape_cosine"][index] = cosines.numpy()
    evidence["source_position"][index] = positions(source.mesh.surface, source_hits)
    evidence["target_position"][index] = positions(target.mesh.surface, target_hits)
    return evidence


def _spread(n: int, index: np.ndarray, values: np.ndarray, elsewhere: object) -> np.ndarray:
    result = np.full(n, elsewhere, values.dtype)
    result[index] = values
    return result

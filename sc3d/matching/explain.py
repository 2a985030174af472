"""Why each candidate of a pair is kept or rejected: all of them with every error, for pictures, tables and comparisons of filters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sc3d.config import LabelConfig
from sc3d.matching.box_position import box_positions
from sc3d.matching.candidates import Candidates, within_cycle
from sc3d.matching.described import Described
from sc3d.matching.lift import positions
from sc3d.matching.thresholds import agreement, passes_geodesic
from sc3d.matching.transfer import Transfer, transfer_of
from sc3d.matching.verify import Verified, check_radii, verify_pair

CYCLE, SURFACE, GEODESIC, REPROJECTION, AGREEMENT = "cycle", "surface", "geodesic", "reprojection", "agreement"
AFTER_GEODESIC = (REPROJECTION, AGREEMENT)
"""What rejects a candidate that both meshes agree on."""


@dataclass(frozen=True)
class Explanation:
    """All candidates of a pair with every error, and what rejected each. All arrays have N rows.

    ``source_cells``, ``target_cells`` (N,) flat cells; ``source_xy``, ``target_xy`` (N, 2) pixels of the original images; ``cosine`` (N,)
    fused; ``cycle_error`` (N,) in source pixels; ``geodesic_error`` (N,) in mesh diagonals, ``inf`` beyond the balls or without a surface
    hit; ``source_vertex``, ``target_vertex`` (N,) dominant vertices and ``predicted_source``, ``predicted_target`` (N,) what the other mesh
    predicts, -1 without a hit; ``shape_cosine`` (N,) of the 3D descriptors at the two hits; ``source_position``, ``target_position`` (N, 3)
    canonical positions from the box's centre in mesh diagonals, NaN without a hit; ``source_box``, ``target_box`` (N, 2) positions in the
    2D box around the object's matching cells, 0 to 1; ``rejected_by`` (N,) the first filter that rejects the candidate: ``cycle``,
    ``surface`` (no hit), ``geodesic``, ``reprojection`` (the template puts it elsewhere in the other photo), ``agreement`` (too few
    candidates of the pair pass the others), or an empty string if it is kept.
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
    source_box: np.ndarray
    target_box: np.ndarray
    rejected_by: np.ndarray

    def __len__(self) -> int:
        return len(self.cosine)

    @property
    def keep(self) -> np.ndarray:
        """Which candidates (N,) bool are labels."""
        return np.asarray(self.rejected_by == "")


def explain_pair(source: Described, target: Described, config: LabelConfig, transfer: Transfer | None = None) -> Explanation:
    """All candidates of a pair with every error and the filter that rejects each at the label thresholds: for pictures and tables.

    Raises:
        FeatureError: the images were described by different recipes, or their geodesic balls are too small for ``config.tau_geo``.
    """
    check_radii(source, target, config.tau_geo)
    pair = verify_pair(source, target, transfer or transfer_of(source.transfer))
    candidates, verified = pair.candidates, pair.verified
    source_cells, target_cells = source.cells[candidates.source_rows], target.cells[candidates.target_rows]
    return Explanation(
        source_cells=source_cells,
        target_cells=target_cells,
        source_xy=source.letterbox.centres(source_cells),
        target_xy=target.letterbox.centres(target_cells),
        cosine=candidates.cosine,
        cycle_error=candidates.cycle_error,
        geodesic_error=verified.error,
        predicted_source=verified.predicted_source,
        predicted_target=verified.predicted_target,
        source_box=box_positions(source_cells, source.cells, source.letterbox.side),
        target_box=box_positions(target_cells, target.cells, target.letterbox.side),
        rejected_by=_rejected_by(source, candidates, verified, config),
        **_surface_evidence(source, target, verified),
    )


def _rejected_by(source: Described, candidates: Candidates, verified: Verified, config: LabelConfig) -> np.ndarray:
    """The first filter that rejects each candidate (N,), or an empty string."""
    kept_by = {
        CYCLE: within_cycle(source, candidates.cycle_error, config.tau_cc),
        SURFACE: verified.source_hits >= 0,
        GEODESIC: passes_geodesic(verified.error, config.tau_geo),
        REPROJECTION: verified.reprojects,
    }
    unit = float(source.extent), source.letterbox.cell_pixels
    agreed = agreement(len(candidates), candidates.cycle_error, verified.evidence, unit, config)
    kept_by[AGREEMENT] = np.full(len(candidates), agreed >= config.min_agreement)
    return np.select([~kept for kept in kept_by.values()], list(kept_by), default="")


def _surface_evidence(source: Described, target: Described, verified: Verified) -> dict[str, np.ndarray]:
    """The fields of :class:`Explanation` that follow from the two hits of each candidate."""
    n, at = len(verified.error), np.flatnonzero(verified.source_hits >= 0)
    evidence: dict[str, np.ndarray] = {
        "source_vertex": np.full(n, -1, np.int64),
        "target_vertex": np.full(n, -1, np.int64),
        "shape_cosine": np.full(n, np.nan, np.float32),
        "source_position": np.full((n, 3), np.nan),
        "target_position": np.full((n, 3), np.nan),
    }
    if source.mesh is None or target.mesh is None:
        return evidence
    source_hits, target_hits = verified.source_hits[at], verified.target_hits[at]
    evidence["source_vertex"][at] = source.mesh.surface.dominant[source_hits]
    evidence["target_vertex"][at] = target.mesh.surface.dominant[target_hits]
    evidence["shape_cosine"][at] = (source.mesh.queries[source_hits] * target.mesh.queries[target_hits]).sum(dim=1).numpy()
    evidence["source_position"][at] = positions(source.mesh.surface, source_hits)
    evidence["target_position"][at] = positions(target.mesh.surface, target_hits)
    return evidence

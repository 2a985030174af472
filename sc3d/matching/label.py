"""The matches of a pair with their evidence: the candidates within the wide thresholds, as a record (3D-SC, stage 2)."""

from __future__ import annotations

import numpy as np

from sc3d.config import MatchConfig
from sc3d.matching.candidates import Candidates, within_cycle
from sc3d.matching.described import Described
from sc3d.matching.thresholds import passes_geodesic
from sc3d.matching.transfer import Transfer, transfer_of
from sc3d.matching.verify import check_radii, verify_pair
from sc3d.pair_ids import pair_id_of
from sc3d.records import Matches


def match_pair(
    source: Described, target: Described, category: str, config: MatchConfig, transfer: Transfer | None = None
) -> Matches:
    """Match two images of a category and keep every candidate within the configuration's wide thresholds, with its evidence.

    An image without foreground or without a mesh gives an empty row, not an error. An image may be paired with itself.

    Raises:
        FeatureError: the images were described by different recipes, or their geodesic balls are too small for ``config.tau_geo``.
    """
    check_radii(source, target, config.tau_geo)
    pair = verify_pair(source, target, transfer or transfer_of(config.transfer), limit=config)
    return collect_matches(source, target, category, pair.candidates, pair.geodesic_error, config)


def collect_matches(
    source: Described,
    target: Described,
    category: str,
    candidates: Candidates,
    geodesic_error: np.ndarray,
    config: MatchConfig,
) -> Matches:
    """The record of a pair: those of its N candidates that are within the wide thresholds.

    Args:
        geodesic_error: (N,) float32 in mesh diagonals, ``inf`` without a surface hit; of what is beyond the cycle threshold it may be
            anything.
    """
    passing = within_cycle(source, candidates.cycle_error, config.tau_cc)
    kept = np.flatnonzero(passing & passes_geodesic(geodesic_error, config.tau_geo))
    return Matches(
        pair_id=pair_id_of(source.image_id, target.image_id),
        source_id=source.image_id,
        target_id=target.image_id,
        category=category,
        source_xy=source.letterbox.centres(source.cells[candidates.source_rows[kept]]),
        target_xy=target.letterbox.centres(target.cells[candidates.target_rows[kept]]),
        cosine=candidates.cosine[kept],
        cycle_error=candidates.cycle_error[kept],
        geodesic_error=geodesic_error[kept],
        source_extent=float(source.extent),
        source_cell=source.letterbox.cell_pixels,
        n_candidates=len(candidates),
        n_cycle=int(passing.sum()),
        mask_signs=max(source.mask_signs, target.mask_signs),
    )

"""A pair under many settings of the fusion weights at once, from one similarity matrix a group (3D-SC: the grid over alpha, beta, gamma).

The fused cosine is the weighted mean of the groups' cosines, so nothing but that mean depends on the weights: the matrices, the surface
hits and what each mesh predicts on the other are computed once a pair, and the error of a candidate once, however many settings propose it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sc3d.config import LabelConfig, MatchConfig
from sc3d.errors import FeatureError
from sc3d.features import Features
from sc3d.matching.candidates import Candidates, cycle_error, penalty, similarity, within_cycle
from sc3d.matching.described import Described
from sc3d.matching.fusion import DINO, SD, SHAPE, group_weights, layers_of, renormalise, reweighted, surface_rows
from sc3d.matching.lift import spread
from sc3d.matching.transfer import Transfer, transfer_of
from sc3d.matching.verify import check_radii, verify_matches
from sc3d.matching.weighted_nearest import weighted_nearest

_OUT_OF_REACH = np.float32(-1e30)
"""3D similarity of a cell without a surface point: with any 3D weight it is beyond all cosines, without one it changes nothing."""


class GroupedImage(Described):
    """An image ready to be paired under any weights; those of ``config`` do not matter, its transfer and its prior do.

    As a :class:`Described` it is that of its first group alone, on all foreground cells.

    Attributes:
        groups: the 2D groups that the image has, each described alone on the same cells; the first is the image itself.
        covered: (N,) which cells have a surface point: with a 3D weight the others take no part.
        shape: (N, D) float32 L2-normalised 3D descriptors of the cells, zeros where not covered; ``None`` without a mesh.

    Raises:
        FeatureError: values are malformed or not finite.
    """

    def __init__(self, features: Features, config: MatchConfig, places: np.ndarray | None = None) -> None:
        present = [group for group in (SD, DINO) if layers_of(features, group)]
        super().__init__(features, _alone(config, present[0] if present else SHAPE), places)
        flat = dataclasses.replace(features, shape=None, surface=None)
        self.groups: dict[str, Described] = dict.fromkeys(present[:1], self)
        self.groups |= {group: Described(flat, _alone(config, group)) for group in present[1:]}
        rows = surface_rows(features.surface, self.cells)
        self.covered = rows >= 0
        self.shape: torch.Tensor | None = None
        if self.mesh is not None:
            self.shape = torch.zeros(len(rows), self.mesh.queries.shape[1])
            self.shape[torch.from_numpy(self.covered)] = self.mesh.queries[torch.from_numpy(rows[self.covered])]

    @property
    def n_bytes(self) -> int:
        """Memory of the arrays, for byte-bounded caches."""
        others = sum(other.n_bytes for other in self.groups.values() if other is not self)
        return super().n_bytes + others + (0 if self.shape is None else self.shape.nbytes)


def _alone(config: MatchConfig, group: str) -> MatchConfig:
    return reweighted(config, float(group == SD), float(group == DINO))


@dataclass(frozen=True)
class SettingCandidates:
    """The candidates of a pair under one setting of the weights; all arrays have N rows.

    ``source_cells``, ``target_cells`` (N,) flat cells; ``target_xy`` (N, 2) pixels of the original image; ``cosine`` (N,) fused;
    ``cycle_error`` (N,) in source pixels; ``geodesic_error`` (N,) in mesh diagonals, ``inf`` without a surface hit and where one of the
    errors is beyond the widest thresholds.
    """

    source_cells: np.ndarray
    target_cells: np.ndarray
    target_xy: np.ndarray
    cosine: np.ndarray
    cycle_error: np.ndarray
    geodesic_error: np.ndarray

    def __len__(self) -> int:
        return len(self.cosine)


def match_settings(
    source: GroupedImage,
    target: GroupedImage,
    settings: Sequence[MatchConfig],
    widest: LabelConfig,
    transfer: Transfer | None = None,
) -> list[SettingCandidates]:
    """The candidates of a pair under each of ``settings``, of which only the weights matter.

    The same as describing both images with each setting and matching them alone, except where two cells are equally near to within
    rounding (1e-6).

    Args:
        widest: the widest thresholds of interest: candidates beyond them are not verified.

    Raises:
        FeatureError: the images were described by different recipes, their geodesic balls are too small for ``widest.tau_geo``, or a
            setting gives all the weight to groups that they do not have.
    """
    check_radii(source, target, widest.tau_geo)
    proposals = _propose(source, target, settings)
    passing = [np.flatnonzero(within_cycle(source, one.cycle_error, widest.tau_cc)) for one in proposals]
    n_target = max(len(target.cells), 1)
    flat = [one.source_rows[rows] * n_target + one.target_rows[rows] for one, rows in zip(proposals, passing, strict=True)]
    matches, position = np.unique(np.concatenate([*flat, np.zeros(0, np.int64)]), return_inverse=True)
    pairs_of_rows = matches // n_target, matches % n_target
    verified = verify_matches(source, target, *pairs_of_rows, transfer or transfer_of(source.transfer), widest.tau_geo)
    errors = verified.evidence[position]
    centres = target.letterbox.centres(target.cells)
    result, first = [], 0
    for one, rows in zip(proposals, passing, strict=True):
        geodesic = spread(len(one), rows, errors[first : first + len(rows)], np.inf)
        first += len(rows)
        cells = source.cells[one.source_rows], target.cells[one.target_rows]
        result.append(SettingCandidates(*cells, centres[one.target_rows], one.cosine, one.cycle_error, geodesic))
    return result


def _propose(source: GroupedImage, target: GroupedImage, settings: Sequence[MatchConfig]) -> list[Candidates]:
    source.check_pair(target)
    if source.groups.keys() != target.groups.keys():
        raise FeatureError(
            f"{source.image_id} and {target.image_id} have different groups of features: {', '.join(source.groups) or 'none'} and "
            f"{', '.join(target.groups) or 'none'}; describe both with one configuration"
        )
    # A wanted 3D group is never "absent": an image without a mesh has no cells then, rather than other weights.
    shares = [renormalise(group_weights(setting), {*source.groups, SHAPE}, source.image_id) for setting in settings]
    if not settings or not len(source.cells) or not len(target.cells):
        return [Candidates.none() for _ in settings]
    weights = np.array([[share.get(group, 0.0) for group in (SD, DINO, SHAPE)] for share in shares], np.float32)
    cosines, less = _similarities(source, target), penalty(source, target)
    # Weights sum to 1: what is taken from every group is taken from the fused cosine, whatever the weights.
    closeness = cosines
    if less is not None:
        sd, dino, shape = (matrix - less.numpy() for matrix in cosines)
        closeness = sd, dino, shape
    found = weighted_nearest(closeness, weights)
    proposals = []
    for s, share in enumerate(shares):
        rows = np.arange(len(source.cells))
        if SHAPE in share:
            rows = np.flatnonzero(source.covered) if target.covered.any() else rows[:0]
        forward, box = found.forward[s], source.letterbox
        error = cycle_error(source.cells, forward, found.backward[s], box.side, box.cell_pixels)
        cosine = found.similarity[s, rows]
        if less is not None:
            at = rows, forward[rows]
            cosine = sum(weight * matrix[at] for weight, matrix in zip(weights[s], cosines, strict=True))
        proposals.append(Candidates(rows, forward[rows], cosine, error[rows]))
    return proposals


def _similarities(source: GroupedImage, target: GroupedImage) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cosines (N, M) of each group; those of a group that the images do not have are never weighted."""
    found = {group: similarity(mine, target.groups[group]).numpy() for group, mine in source.groups.items()}
    if source.shape is None or target.shape is None:
        shape = np.full((len(source.cells), len(target.cells)), _OUT_OF_REACH)
    else:
        shape = (source.shape @ target.shape.T).numpy()
        shape[~source.covered] = _OUT_OF_REACH
        shape[:, ~target.covered] = _OUT_OF_REACH
    return found.get(SD, shape), found.get(DINO, shape), shape

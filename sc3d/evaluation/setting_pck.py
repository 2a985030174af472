"""PCK of the fused features of an annotated pair under many settings of the fusion weights.

The fused cosine is the weighted mean of the groups' cosines, so each group's similarities are computed once a pair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sc3d.config import EvaluateConfig, MatchConfig
from sc3d.evaluation.pck import WINDOW, common_keypoints, read_cells, score_cells
from sc3d.evaluation.protocols import Unit
from sc3d.evaluation.readout import CellDescriptors
from sc3d.features import Features
from sc3d.matching.fusion import DINO, SD, SHAPE, group_weights, layers_of, renormalise
from sc3d.records import ImageRecord

ALPHA = 0.1


class GroupDescriptors(dict[str, CellDescriptors]):
    """Group of features -> the descriptors of an image by that group alone."""

    @property
    def n_bytes(self) -> int:
        """Memory of the arrays, for byte-bounded caches."""
        return sum(descriptors.n_bytes for descriptors in self.values())


def describe_groups(features: Features) -> GroupDescriptors:
    """Each group that an image has, described alone at all its cells."""
    present = [group for group in (SD, DINO) if layers_of(features, group)]
    if features.shape is not None and features.surface is not None:
        present.append(SHAPE)
    return GroupDescriptors({group: CellDescriptors.of_features(features, {group: 1.0}) for group in present})


def count_points(
    source: Mapping[str, CellDescriptors],
    target: Mapping[str, CellDescriptors],
    annotations: tuple[ImageRecord, ImageRecord],
    weights: Sequence[MatchConfig],
    config: EvaluateConfig,
    unit: Unit = "box",
) -> np.ndarray:
    """Right keypoints at PCK@0.10 by window soft-argmax, and all common keypoints, under each of S weights: (S, 2) int64.

    The same as scoring the fused features of each setting alone, up to rounding.

    Args:
        source, target: of :func:`describe_groups`.
        annotations: manifest rows of both images.
        weights: S settings, of which only the weights matter. Weights of groups that an image lacks go to the others.
        config: how a prediction is read from similarities.
        unit: what the threshold is a share of.

    Raises:
        InputError: the target lacks what the unit is made of.
        FeatureError: the images were described differently, or lack a group that has all the weight.
    """
    ids, source_xy, _ = common_keypoints(*annotations)
    counts = np.zeros((len(weights), 2), np.int64)
    if len(ids) == 0:
        return counts
    some = next(iter(target.values()))
    cells = next(iter(source.values())).letterbox.cells_of(source_xy)
    similarities = {group: mine.similarity(cells, target[group]) for group, mine in source.items() if group in target}
    for row, setting in enumerate(weights):
        shares = renormalise(group_weights(setting), similarities, annotations[0].image_id)
        fused = np.sum([np.float32(share) * similarities[group] for group, share in shares.items()], axis=0)
        read = {WINDOW: read_cells(fused, some.letterbox.side, config)[WINDOW]}
        (record,) = score_cells(*annotations, read, some.letterbox, unit=unit)
        counts[row] = int((record.distances < ALPHA).sum()), len(ids)
    return counts

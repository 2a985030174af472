"""Filters of candidate matches side by side: the paper's bicyclic geodesic filter and the simpler ones it is compared with.

The paper names its rivals (spherical mapper, triplane, 3D feature similarity) without their settings. The definitions here are this
project's: every filter but ``none`` starts from the candidates that pass the relaxed cycle, and adds one test of its own.

A filter of one's own is a function like these, in :data:`FILTERS` or elsewhere: see :data:`Filter`. Under its name it is also a way to make
labels (:mod:`sc3d.evaluation.labellings`), so it can be judged, compared and trained on.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sc3d import plugins
from sc3d.config import LabelConfig
from sc3d.errors import ConfigError
from sc3d.matching.explain import AFTER_GEODESIC, CYCLE, Explanation
from sc3d.matching.thresholds import passes_geodesic

MIN_SHAPE_COSINE = 0.8
"""Least cosine of the 3D descriptors at the two hits. Ours."""
MAX_POSITION_DISTANCE = 0.1
"""Greatest distance of the canonical positions, in mesh diagonals: twice the geodesic threshold, since the mean of the bicyclic error
lets one of its terms reach that. Ours; stands for the paper's triplane filter."""
MAX_BOX_DISTANCE = 0.1
"""Greatest distance of the positions in the 2D boxes, in shares of their sides: PCK's usual tolerance. Ours."""
MAX_DIRECTION_ANGLE = 27.0
"""Greatest angle in degrees between the canonical directions from the box's centre: the 0.15 pi of DIY-SC's spherical filter."""

Filter = Callable[[Explanation, LabelConfig], np.ndarray]
"""Which of a pair's N candidates survive, (N,) bool, from what is known of them and the configured thresholds.

:class:`~sc3d.matching.explain.Explanation` has arrays of N rows, one a matching cell of the source in ascending order, each with its
nearest cell of the target: the cells and their pixels, the fused cosine, the cycle and the geodesic error, the vertices that were hit and
those that the other mesh predicts, the cosine of the 3D descriptors, the canonical positions, the positions in the 2D boxes, and which of
the project's own tests rejects it at the thresholds (``rejected_by``). What needs a surface is ``inf``, -1 or NaN where a cell hits none; a
comparison with NaN is false. N may be 0. A filter changes none of these arrays, and says the same whenever it is asked.
"""


def keep_all(explanation: Explanation, config: LabelConfig) -> np.ndarray:
    """Every candidate."""
    return np.ones(len(explanation), bool)


def keep_cycle(explanation: Explanation, config: LabelConfig) -> np.ndarray:
    """Candidates that pass the relaxed cycle."""
    return explanation.rejected_by != CYCLE


def keep_shape(explanation: Explanation, config: LabelConfig) -> np.ndarray:
    """Relaxed cycle, and 3D descriptors at the two hits that are similar enough."""
    return keep_cycle(explanation, config) & (explanation.shape_cosine >= MIN_SHAPE_COSINE)


def keep_position(explanation: Explanation, config: LabelConfig) -> np.ndarray:
    """Relaxed cycle, and canonical positions that are close."""
    distance = np.linalg.norm(explanation.source_position - explanation.target_position, axis=1)
    return keep_cycle(explanation, config) & (distance <= MAX_POSITION_DISTANCE)


def keep_direction(explanation: Explanation, config: LabelConfig) -> np.ndarray:
    """Relaxed cycle, and canonical directions that are close."""
    source, target = explanation.source_position, explanation.target_position
    lengths = np.linalg.norm(source, axis=1) * np.linalg.norm(target, axis=1)
    cosine = (source * target).sum(axis=1) / np.maximum(lengths, 1e-12)
    return keep_cycle(explanation, config) & (cosine >= np.cos(np.radians(MAX_DIRECTION_ANGLE)))


def keep_box(explanation: Explanation, config: LabelConfig) -> np.ndarray:
    """Relaxed cycle, and close positions in the 2D boxes of the objects: a control, which knows no third dimension."""
    distance = np.linalg.norm(explanation.source_box - explanation.target_box, axis=1)
    return keep_cycle(explanation, config) & (distance <= MAX_BOX_DISTANCE)


def keep_geodesic(explanation: Explanation, config: LabelConfig) -> np.ndarray:
    """Relaxed cycle and bicyclic geodesic error, and what a template adds (reprojection, agreement of the pair): the labels."""
    passes = keep_cycle(explanation, config) & passes_geodesic(explanation.geodesic_error, config.tau_geo)
    return np.asarray(passes & ~np.isin(explanation.rejected_by, AFTER_GEODESIC))


FILTERS: dict[str, Filter] = {
    "none": keep_all,
    "cycle": keep_cycle,
    "3D-feature similarity": keep_shape,
    "position in the 2D box": keep_box,
    "canonical position": keep_position,
    "canonical direction": keep_direction,
    "cycle + geodesic": keep_geodesic,
}
"""Name -> which candidates (N,) bool survive."""


def filter_named(name: str) -> Filter:
    """The filter of a name: one of :data:`FILTERS`, ``module:Name``, or an entry point of the group ``sc3d.filters``.

    Raises:
        ConfigError: there is none of this name, it cannot be imported, or it is no function.
    """
    found: Filter = plugins.find(plugins.FILTERS, name, FILTERS, "filter")
    if not callable(found):
        raise ConfigError(f"filter '{name}' must be a function of an Explanation and a LabelConfig, not {found!r}")
    return found


def survivors(name: str, explanation: Explanation, config: LabelConfig) -> np.ndarray:
    """Which candidates (N,) bool a filter of any origin keeps.

    Raises:
        ConfigError: as :func:`filter_named`; or the filter returns something else than (N,) bool.
    """
    keep = filter_named(name)(explanation, config)
    if not isinstance(keep, np.ndarray) or keep.dtype != bool or keep.shape != (len(explanation),):
        given = f"an array {keep.shape} of {keep.dtype}" if isinstance(keep, np.ndarray) else f"a {type(keep).__name__}"
        raise ConfigError(
            f"filter '{name}' must return an array ({len(explanation)},) of bool, one a candidate; it returned {given}"
        )
    return keep

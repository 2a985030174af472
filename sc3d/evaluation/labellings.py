"""Other ways to make labels, by name: the rows of 3D-SC's ablation, any filter of matches, and DIY-SC's way, which knows no meshes.

The rows of the ablation are filters of the candidates of a pair, from 2D features or with the 3D descriptors. The name of a filter stands
for the candidates with 3D descriptors that it keeps. What a filter keeps can be asked of class shapes too, the second system: a match stays
if both of its ends show nearly the same point of one. DIY-SC (Duenkel et al., 2025) chains matches through images of neighbouring
viewpoints: each hop is a nearest neighbour that must come back to within two cells of where it started, searched among the points that are
still in the chain; at the end, points whose places on a sphere differ are dropped, where a map of each image onto the sphere is given.
"""

from __future__ import annotations

import hashlib
import inspect
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sc3d import plugins
from sc3d.class_shapes.carry import AlignedImage, class_shape_gap
from sc3d.config import LabelConfig
from sc3d.errors import ConfigError, InputError
from sc3d.evaluation.pck import common_keypoints
from sc3d.grid import Letterbox
from sc3d.matching.azimuth_chains import azimuth_bins
from sc3d.matching.candidates import similarity
from sc3d.matching.described import Described
from sc3d.matching.explain import Explanation
from sc3d.matching.filters import FILTERS, MAX_DIRECTION_ANGLE, Filter, survivors
from sc3d.pair_ids import pair_id_of
from sc3d.records import ImageRecord, Labels

ROUND_TRIP = 2.0
"""Cells that a match of a chain may be off when it comes back."""
MAX_CLASS_SHAPE_GAP = 0.1
"""How far apart the points of a class shape may be that the ends of a match show, in distances of its farthest two keypoints. Ours."""
_BINS = 8


@dataclass(frozen=True)
class Labelling:
    """A way to make labels.

    Attributes:
        name, meaning: its name, and a line for people.
        filter: name of the filter of candidates, see :func:`~sc3d.matching.filters.filter_named`.
        shape: candidates are made with 3D descriptors too.
        chained: DIY-SC's chains instead of candidates.
        annotated: the keypoints that a person marked in both images: **supervised**, for comparisons.
        carried: of what the filter keeps, only that on which class shapes in both images agree. They are built without annotation.
        published: PCK@0.10 of the adapter that the paper trained so, in per cent.
    """

    name: str
    meaning: str
    filter: str = "none"
    shape: bool = False
    chained: bool = False
    annotated: bool = False
    carried: bool = False
    published: float | None = None

    @property
    def code(self) -> str:
        """What tells the versions of a filter of one's own apart; empty for the project's. Labels depend on it."""
        return plugins.code_of(plugins.FILTERS, self.filter, FILTERS, "filter")


def _of_filter(name: str, keeps: Filter) -> Labelling:
    said = (inspect.getdoc(keeps) or "").partition("\n")[0].rstrip(".") if inspect.isroutine(keeps) else ""
    return Labelling(name, f"2D and 3D features, filter: {said[:1].lower()}{said[1:] or name}", name, shape=True)


LABELLINGS: dict[str, Labelling] = {
    labelling.name: labelling
    for labelling in (
        Labelling("2d", "nearest neighbours of 2D features", published=67.0),
        Labelling("2d-cycle", "the same, relaxed cycle", "cycle", published=67.6),
        Labelling("2d-cycle-geodesic", "the same, and the geodesic filter", "cycle + geodesic", published=71.6),
        Labelling("3d", "nearest neighbours of 2D and 3D features", shape=True, published=66.9),
        Labelling("3d-cycle", "the same, relaxed cycle", "cycle", shape=True, published=68.8),
        Labelling("3d-cycle-geodesic", "the same, and the geodesic filter: 3D-SC", "cycle + geodesic", shape=True, published=72.1),
        Labelling("3d-cycle-shape", "relaxed cycle, similar 3D features", "3D-feature similarity", shape=True),
        Labelling("3d-cycle-class-shape", "relaxed cycle, and class shapes agree", "cycle", shape=True, carried=True),
        Labelling(
            "3d-cycle-geodesic-class-shape",
            "3D-SC, and class shapes agree: both systems",
            "cycle + geodesic",
            shape=True,
            carried=True,
        ),
        Labelling("diy-sc", "chains over neighbouring viewpoints, relaxed cycle, sphere filter where maps are given", chained=True),
        Labelling("keypoints", "the annotated keypoints of both images: supervised, for comparisons", annotated=True),
        *(_of_filter(name, keeps) for name, keeps in FILTERS.items()),
    )
}
"""Name -> labelling, of the project's own."""


def labelling_named(name: str) -> Labelling:
    """The labelling of a name: one of :data:`LABELLINGS`, or that of a filter, ``module:Name`` or an entry point of ``sc3d.filters``.

    Raises:
        ConfigError: there is none of this name, it cannot be imported, or it is no filter.
    """
    if name in LABELLINGS:
        return LABELLINGS[name]
    keeps = plugins.find(plugins.FILTERS, name, LABELLINGS, "labelling")
    if not callable(keeps):
        raise ConfigError(f"labelling '{name}' must be a filter, a function of an Explanation and a LabelConfig, not {keeps!r}")
    return _of_filter(name, keeps)


@dataclass(frozen=True, eq=False)
class KeptMatches:
    """What a labelling keeps of a pair, all (N,) in ascending order of ``source_cells``: flat cells, pixels (N, 2), and what is known of
    them: ``geodesic_error`` is infinite where nobody measured it."""

    source_cells: np.ndarray
    target_cells: np.ndarray
    source_xy: np.ndarray
    target_xy: np.ndarray
    cosine: np.ndarray
    cycle_error: np.ndarray
    geodesic_error: np.ndarray

    def select(self, keep: np.ndarray) -> KeptMatches:
        """Those that are kept (N,) bool."""
        return KeptMatches(*(getattr(self, name)[keep] for name in self.__dataclass_fields__))


def filtered_matches(labelling: Labelling, explanation: Explanation, config: LabelConfig) -> KeptMatches:
    """The candidates of a pair that the filter of a labelling keeps.

    Raises:
        ConfigError: the filter is not to be found, or does not return (N,) bool.
    """
    found = KeptMatches(*(getattr(explanation, name) for name in KeptMatches.__dataclass_fields__))
    return found.select(survivors(labelling.filter, explanation, config))


def chained_matches(images: Sequence[Described]) -> KeptMatches:
    """Matches of the first image with the last one, hop by hop.

    Args:
        images: at least two, described alike.

    Raises:
        FeatureError: they were described by different recipes.
    """
    first, last = images[0], images[-1]
    rows = np.arange(len(first.cells))
    start, cosine, error = rows, np.ones(len(rows), np.float32), np.zeros(len(rows))
    for here, there in itertools.pairwise(images):
        if len(rows) == 0 or len(there.cells) == 0:
            rows = start = start[:0]
            cosine, error = cosine[:0], error[:0]
            break
        cosines = similarity(here, there).numpy()[rows]
        forward = cosines.argmax(axis=1)
        backward = cosines[:, forward].argmax(axis=0)
        side = here.letterbox.side
        cells = here.cells[rows]
        off = np.hypot(cells[backward] // side - cells // side, cells[backward] % side - cells % side)
        kept = off <= ROUND_TRIP
        cosine, error = np.minimum(cosine, cosines[np.arange(len(rows)), forward])[kept], np.maximum(error, off)[kept]
        rows, start = forward[kept], start[kept]
    source_cells, target_cells = first.cells[start], last.cells[rows]
    return KeptMatches(
        source_cells=source_cells,
        target_cells=target_cells,
        source_xy=first.letterbox.centres(source_cells),
        target_xy=last.letterbox.centres(target_cells),
        cosine=cosine,
        cycle_error=(error * first.letterbox.cell_pixels).astype(np.float32),
        geodesic_error=np.full(len(start), np.inf, np.float32),
    )


def annotated_matches(images: tuple[ImageRecord, ImageRecord], grids: tuple[Letterbox, Letterbox]) -> KeptMatches:
    """The common keypoints of two images, where the annotation has them, of each cell of the source one.

    Args:
        images: source and target.
        grids: theirs.
    """
    _, source_xy, target_xy = common_keypoints(*images)
    cells = grids[0].cells_of(source_xy)
    _, first = np.unique(cells, return_index=True)
    unknown = np.full(len(first), np.nan, np.float32)
    target_cells = grids[1].cells_of(target_xy[first])
    return KeptMatches(cells[first], target_cells, source_xy[first], target_xy[first], unknown, unknown, unknown)


def agreed_by_class_shapes(matches: KeptMatches, aligned: tuple[AlignedImage, AlignedImage]) -> np.ndarray:
    """Whether (N,) both ends of a match show nearly the same point of the class shape.

    Args:
        aligned: the source and the target, with the class shape in them.
    """
    gap = class_shape_gap(aligned[0], matches.source_xy, aligned[1], matches.target_xy)
    return np.asarray(gap <= MAX_CLASS_SHAPE_GAP)


def on_one_spot(matches: KeptMatches, spheres: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Whether (N,) both ends of a match lie on one spot of the sphere: at most 27 degrees (0.15 pi) apart.

    Args:
        spheres: of the source and the target: directions (side, side, 3) of the cells, of any length.

    Raises:
        InputError: a map does not fit the cells.
    """
    ends = []
    for sphere, cells in zip(spheres, (matches.source_cells, matches.target_cells), strict=True):
        if sphere.ndim != 3 or sphere.shape[2] != 3 or (len(cells) and cells.max() >= sphere.shape[0] * sphere.shape[1]):
            raise InputError(f"a spherical map has the shape (side, side, 3) of the working grid, not {sphere.shape}")
        if sphere.dtype.kind not in "fiu" or not np.isfinite(sphere).all():
            raise InputError("a spherical map holds finite numbers only")
        directions = sphere.reshape(-1, 3)[cells].astype(np.float64)
        ends.append(directions / np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-12))
    return np.asarray((ends[0] * ends[1]).sum(axis=1) >= np.cos(np.radians(MAX_DIRECTION_ANGLE)))


def chain_between(source_id: str, target_id: str, ids: Sequence[str], azimuths: np.ndarray) -> list[str]:
    """A chain of images from the source to the target: one of each viewpoint that lies between theirs, the shorter way around.

    Which image of a viewpoint is taken follows from the pair alone. Viewpoints without an image are skipped; without known azimuths the
    chain is the pair itself.

    Args:
        ids: images of the category (N,).
        azimuths: theirs in degrees (N,); NaN where not known.
    """
    known = np.isfinite(azimuths)
    bin_of = dict(zip(np.array(ids)[known].tolist(), azimuth_bins(azimuths[known], _BINS).tolist(), strict=True))
    if source_id not in bin_of or target_id not in bin_of:
        return [source_id, target_id]
    way = (bin_of[target_id] - bin_of[source_id] + _BINS // 2) % _BINS - _BINS // 2
    chain = [source_id]
    for step in range(1, abs(way)):
        wanted = (bin_of[source_id] + step * int(np.sign(way))) % _BINS
        members = sorted(i for i, number in bin_of.items() if number == wanted and i not in (source_id, target_id))
        if members:
            drawn = hashlib.sha256(f"{pair_id_of(source_id, target_id)} {step}".encode()).digest()
            chain.append(members[int.from_bytes(drawn[:8], "big") % len(members)])
    return [*chain, target_id]


def to_labels(matches: KeptMatches, source: Described, target: Described, category: str, candidates: int) -> Labels:
    """The label record of a pair. Thresholds of 0 say that they were not applied as the label stage applies its own."""
    return Labels(
        pair_id=pair_id_of(source.image_id, target.image_id),
        source_id=source.image_id,
        target_id=target.image_id,
        category=category,
        source_xy=matches.source_xy,
        target_xy=matches.target_xy,
        cosine=matches.cosine,
        cycle_error=matches.cycle_error,
        geodesic_error=matches.geodesic_error,
        source_extent=float(source.extent),
        source_cell=source.letterbox.cell_pixels,
        n_candidates=candidates,
        n_cycle=len(matches.cosine),
        n_kept=len(matches.cosine),
    )

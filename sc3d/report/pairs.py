"""A pair side by side: what was kept, coloured by where it lies on the source, and what each filter rejected."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sc3d.geometry.sampling import scattered
from sc3d.grid import Letterbox
from sc3d.matching.explain import AFTER_GEODESIC, AGREEMENT, CYCLE, GEODESIC, REPROJECTION, SURFACE, Explanation
from sc3d.report.colours import FILTERS, hex_of, position_colours
from sc3d.report.pictures import enlarge, faded, grid_picture, jpeg_uri, outline_mask, png_uri, shrink, shrink_mask

KEPT = "kept"
WIDTH = 640.0
"""Width of the figure in its own units; the gap between the photos and the greatest height are in the same."""
_GAP = 28.0
_MAX_HEIGHT = 330.0
_PHOTO_PIXELS = 440
_MARGIN = 0.12
_KEPT_LINES = 22
_REJECTED_LINES = 12
FATES = (KEPT, CYCLE, SURFACE, GEODESIC, REPROJECTION, AGREEMENT)
"""What became of a candidate, in the order of their codes."""


@dataclass(frozen=True, eq=False)
class View:
    """One side of a pair: the photo (H, W, 3), its grid, the foreground cells (side, side) that the picture is cropped to, and the
    mask (H, W) whose outline is drawn, if any."""

    photo: np.ndarray
    letterbox: Letterbox
    foreground: np.ndarray
    mask: np.ndarray | None = None


@dataclass(frozen=True)
class Side:
    """A cropped photo placed in the figure. ``x, y, width, height`` in figure units; ``box`` is the crop and ``frame`` the whole grid
    in image pixels (x, y, width, height), of ``side`` cells along each edge."""

    uri: str
    x: float
    y: float
    width: float
    height: float
    box: tuple[float, float, float, float]
    frame: tuple[float, float, float, float]
    side: int

    @property
    def cells(self) -> str:
        """Where the grid lies in the figure: x and y of its corner, and the side of a cell."""
        scale = self.width / self.box[2]
        x, y = self.place(np.array([self.frame[:2]]))[0]
        return f"{x:.3f} {y:.3f} {self.frame[2] / self.side * scale:.4f}"

    @property
    def view_box(self) -> str:
        """The crop as an SVG viewBox."""
        return " ".join(f"{v:.2f}" for v in self.box)

    def place(self, xy: np.ndarray) -> np.ndarray:
        """Image pixels (N, 2) -> figure units (N, 2)."""
        return (xy - np.array(self.box[:2])) * (self.width / self.box[2]) + np.array([self.x, self.y])


@dataclass(frozen=True)
class Line:
    """A drawn match in figure units."""

    x1: float
    y1: float
    x2: float
    y2: float
    colour: str


@dataclass(frozen=True)
class Layer:
    """The matches of one fate: kept, or rejected by one filter. ``source_uri``, ``target_uri`` colour its cells on either photo."""

    name: str
    title: str
    colour: str
    count: int
    shown: bool
    source_uri: str
    target_uri: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class PairFigure:
    """Everything that the page draws of a pair. ``evidence`` is base64 of little-endian int16 rows (source cell, target cell, code,
    cosine x 1000, cycle error x 10 in px, geodesic error x 10000), the codes being kept, cycle, surface, geodesic."""

    pair_id: str
    source_id: str
    target_id: str
    category: str
    candidates: int
    cycle: int
    kept: int
    height: float
    source: Side
    target: Side
    layers: tuple[Layer, ...]
    evidence: str


def pair_figure(
    pair_id: str, category: str, ids: tuple[str, str], views: tuple[View, View], explanation: Explanation
) -> PairFigure:
    """The figure of one pair.

    Args:
        ids: source and target image id.
        views: source and target.
        explanation: all candidates of the pair.
    """
    source, target = place_sides(views, WIDTH, _MAX_HEIGHT, _PHOTO_PIXELS)
    fate = np.where(explanation.rejected_by == "", KEPT, explanation.rejected_by)
    counts = {name: int((fate == name).sum()) for name in FATES}
    return PairFigure(
        pair_id=pair_id,
        source_id=ids[0],
        target_id=ids[1],
        category=category,
        candidates=len(explanation),
        cycle=len(explanation) - counts[CYCLE],
        kept=counts[KEPT],
        height=max(source.height, target.height),
        source=source,
        target=target,
        layers=tuple(
            _layer(name, explanation, fate == name, views, (source, target))
            for name in FATES
            if name not in AFTER_GEODESIC or counts[name]
        ),
        evidence=_evidence(explanation, fate),
    )


def place_sides(views: Sequence[View], width: float, max_height: float, pixels: int) -> tuple[Side, Side]:
    """Both photos beside each other, equally high, in a figure of ``width`` and at most ``max_height`` units; ``pixels`` limits the long
    side of each picture."""
    cropped = [cropped_photo(view, pixels) for view in views]
    ratios = [box[2] / box[3] for _, box in cropped]
    height = min((width - _GAP) / sum(ratios), max_height)
    left = (width - _GAP - height * sum(ratios)) / 2
    starts = (left, left + height * ratios[0] + _GAP)
    sides = []
    for view, (picture, box), ratio, start in zip(views, cropped, ratios, starts, strict=True):
        (fx, fy), (gx, gy) = view.letterbox.to_image(np.array([[0, 0], [view.letterbox.square] * 2]))
        sides.append(
            Side(jpeg_uri(picture), start, 0.0, height * ratio, height, box, (fx, fy, gx - fx, gy - fy), view.letterbox.side)
        )
    return sides[0], sides[1]


def cropped_photo(view: View, pixels: int) -> tuple[np.ndarray, tuple[float, float, float, float]]:
    """The faded photo around the object, its long side at most ``pixels``, and its box (x, y, width, height) in image pixels."""
    box = _crop(view)
    x, y, w, h = (int(v) for v in box)
    picture = shrink(faded(view.photo[y : y + h, x : x + w], 0.5), pixels)
    if view.mask is not None:
        # The outline is a few pixels wide: on a small photo it would cover what it surrounds.
        picture = enlarge(picture, pixels)
        picture = outline_mask(picture, shrink_mask(view.mask[y : y + h, x : x + w], (picture.shape[1], picture.shape[0])))
    return picture, box


def _crop(view: View) -> tuple[float, float, float, float]:
    """Box in whole image pixels around the foreground with a margin; the whole photo where there is no foreground."""
    height, width = view.photo.shape[:2]
    cells = np.flatnonzero(view.foreground.reshape(-1))
    if len(cells) == 0:
        return 0.0, 0.0, float(width), float(height)
    xy = view.letterbox.centres(cells)
    margin = _MARGIN * np.ptp(xy, axis=0).max() + view.letterbox.cell_pixels
    low = np.maximum(np.floor(xy.min(axis=0) - margin), 0)
    high = np.minimum(np.ceil(xy.max(axis=0) + margin), [width, height])
    return float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1])


_TITLES = {
    KEPT: "labels: they pass every test",
    CYCLE: "matched back, they do not land near where they started",
    SURFACE: "no mesh behind the spot",
    GEODESIC: "the meshes disagree on where on the surface they are",
    REPROJECTION: "they pass, but the template puts them elsewhere in the other photo",
    AGREEMENT: "they pass, but too few of the pair do: the photos share too little, or a pose is wrong",
}


def _layer(name: str, explanation: Explanation, rows: np.ndarray, views: Sequence[View], sides: tuple[Side, Side]) -> Layer:
    xy = explanation.source_xy[rows]
    if name == KEPT:
        colours = position_colours(xy)
        colour = ""
    else:
        colour = FILTERS[name]
        colours = np.tile(np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], np.uint8), (len(xy), 1))
    grids = [
        png_uri(grid_picture(cells[rows], colours, view.letterbox.side)) if len(xy) else ""
        for cells, view in zip((explanation.source_cells, explanation.target_cells), views, strict=True)
    ]
    drawn = scattered(xy, _KEPT_LINES if name == KEPT else _REJECTED_LINES)
    starts, ends = sides[0].place(xy[drawn]), sides[1].place(explanation.target_xy[rows][drawn])
    ends_of = np.round(np.concatenate([starts, ends], axis=1), 1).tolist()
    lines = tuple(Line(x1, y1, x2, y2, hex_of(c)) for (x1, y1, x2, y2), c in zip(ends_of, colours[drawn], strict=True))
    # A pair without labels shows what its last test rejected instead of nothing.
    shown = name == KEPT or (name in (GEODESIC, *AFTER_GEODESIC) and not (explanation.rejected_by == "").any())
    return Layer(name, _TITLES[name], colour, len(xy), shown, grids[0], grids[1], lines)


def _evidence(explanation: Explanation, fate: np.ndarray) -> str:
    """See :class:`PairFigure`; an error beyond what is measured is -1."""
    geodesic = np.where(np.isfinite(explanation.geodesic_error), explanation.geodesic_error * 10_000, -1)
    code = np.select([fate == name for name in FATES], range(len(FATES)))
    rows = np.stack(
        [
            explanation.source_cells,
            explanation.target_cells,
            code,
            explanation.cosine * 1000,
            np.clip(explanation.cycle_error * 10, 0, 32_767),
            np.clip(geodesic, -1, 32_767),
        ],
        axis=1,
    )
    return base64.b64encode(np.round(rows).astype("<i2").tobytes()).decode()

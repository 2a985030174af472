"""One pair with its evidence as a still picture, for papers and for reading without a browser."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sc3d.geometry.camera import project
from sc3d.geometry.mesh import Mesh
from sc3d.matching.explain import AFTER_GEODESIC, GEODESIC
from sc3d.report.evidence import FATE_COLOURS, WIDTH, PairEvidence
from sc3d.report.pairs import FATES, KEPT, Side, cropped_photo, place_sides
from sc3d.report.pictures import MeshView, mesh_view

_INCHES = 10.0
_PIXELS_PER_INCH = 160
_MAX_HEIGHT = 400.0
_PHOTO_PIXELS = 800
_MESH_PIXELS = 900
_MESH_HEIGHT = 320.0
_MESH_WIDTH = 440.0
_GREY = (158, 165, 174)
_MARKERS = ("o", "x", "s", "^", "v", "D")
_PREDICTED = "#ffe14d"
_HIDDEN_BEHIND = 0.012
"""A point counts as seen when the mesh lies in front of it by no more than this part of its diagonal."""


def evidence_picture(evidence: PairEvidence) -> bytes:
    """The pair as a PNG, see :func:`evidence_figure`."""
    buffer = io.BytesIO()
    evidence_figure(evidence).savefig(buffer, format="png", metadata={"Software": "sc3d"})
    return buffer.getvalue()


def evidence_figure(evidence: PairEvidence) -> Figure:
    """Three rows of source and target: what was kept, coloured by place on the source; what each test rejected; and both meshes with the
    lifted spots and, for some matches that the geodesic test rejected, a line from the dominant vertex to the one that the other mesh
    predicts.

    Raises:
        GeometryError: a mesh cannot be used.
    """
    views = (evidence.shown[0].view, evidence.shown[1].view)
    sides = place_sides(views, WIDTH, _MAX_HEIGHT, _PHOTO_PIXELS)
    photos = [cropped_photo(view, _PHOTO_PIXELS)[0] for view in views]
    heights = (sides[0].height, sides[0].height, _MESH_HEIGHT)
    head, gap = 84.0, 46.0
    total = head + sum(heights) + gap * len(heights)
    figure = Figure(figsize=(_INCHES, _INCHES * total / WIDTH), dpi=_PIXELS_PER_INCH, facecolor="white")
    FigureCanvasAgg(figure)
    _write_head(figure, evidence, total)
    top = head
    for draw, height in zip((_draw_kept, _draw_rejected), heights, strict=False):
        axes = _axes(figure, top + gap - 8, height, total)
        for photo, side in zip(photos, sides, strict=True):
            axes.imshow(photo, extent=(side.x, side.x + side.width, side.height, 0), interpolation="antialiased")
        draw(axes, evidence, sides)
        top += height + gap
    _draw_meshes(_axes(figure, top + gap - 8, _MESH_HEIGHT, total), evidence)
    return figure


def _axes(figure: Figure, top: float, height: float, total: float) -> Axes:
    """Axes over the whole width in the units of the photos, y down."""
    axes = figure.add_axes((0.01, 1 - (top + height) / total, 0.98, height / total))
    axes.set_xlim(0, WIDTH)
    axes.set_ylim(height, 0)
    axes.set_autoscale_on(False)
    axes.axis("off")
    return axes


def _write_head(figure: Figure, evidence: PairEvidence, total: float) -> None:
    pair, limits, counts = evidence.pair, evidence.limits, evidence.counts
    rejected = ", ".join(f"{name} {counts[name]:,}" for name in FATES[1:])
    ids = f"{pair.source_id} → {pair.target_id}"
    # Two ids of 181 characters are allowed, and must not leave the picture.
    size = min(13.0, 13.0 * 78 / max(len(ids), 1))
    lines = (
        (f"{pair.category}:  {ids}", size, "bold"),
        (f"{len(evidence.explanation):,} candidates: kept {counts[KEPT]:,}; rejected by {rejected}", 10.5, "normal"),
        (
            f"cycle error at most {limits.cycle:.1f} px ({limits.cycle_extents:.3f} extents); geodesic error at most "
            f"{limits.geodesic:g} mesh diagonals",
            10.5,
            "normal",
        ),
    )
    for i, (text, points, weight) in enumerate(lines):
        # Ids are text, not formulas, even where they hold a dollar sign.
        figure.text(0.01, 1 - (14 + 26 * i) / total, text, size=points, weight=weight, va="top", parse_math=False)


def _title(axes: Axes, text: str) -> None:
    axes.text(0, -8, text, size=10.5, weight="bold", va="bottom", color="#1b2430")


def _ends(evidence: PairEvidence, sides: tuple[Side, Side], rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return sides[0].place(evidence.explanation.source_xy[rows]), sides[1].place(evidence.explanation.target_xy[rows])


def _draw_kept(axes: Axes, evidence: PairEvidence, sides: tuple[Side, Side]) -> None:
    rows = np.flatnonzero(evidence.fate == FATES.index(KEPT))
    _title(axes, f"kept {len(rows):,}: the same colour is the same match; lines join a few that lie far apart")
    colours = evidence.colours / 255
    for row in rows[evidence.drawn[rows]]:
        start, end = (xy[0] for xy in _ends(evidence, sides, np.array([row])))
        axes.plot(*zip(start, end, strict=True), color="black", alpha=0.3, linewidth=2.2)
        axes.plot(*zip(start, end, strict=True), color=colours[row], linewidth=1.2)
    for xy in _ends(evidence, sides, rows):
        axes.scatter(xy[:, 0], xy[:, 1], s=_size(sides), c=colours[rows], edgecolors="black", linewidths=0.35, zorder=3)


def _draw_rejected(axes: Axes, evidence: PairEvidence, sides: tuple[Side, Side]) -> None:
    _title(axes, "rejected, by the first test that they fail")
    handles = []
    for code, name in enumerate(FATES):
        rows = np.flatnonzero(evidence.fate == code)
        if name == KEPT or (name in AFTER_GEODESIC and not len(rows)):
            continue
        colour, marker = FATE_COLOURS[code], _MARKERS[code]
        for xy in _ends(evidence, sides, rows):
            axes.plot(
                xy[:, 0], xy[:, 1], linestyle="", marker=marker, markersize=_size(sides) ** 0.5, color=colour, fillstyle="none"
            )
        handles.append(Line2D([], [], linestyle="", marker=marker, color=colour, fillstyle="none", label=f"{name} {len(rows):,}"))
    _legend(axes, handles)


def _size(sides: tuple[Side, Side]) -> float:
    """Area of a mark that fills most of a cell, in square points."""
    cell = min(float(side.cells.split()[2]) for side in sides)
    return float((0.72 * cell * _INCHES * 72 * 0.98 / WIDTH) ** 2)


def _legend(axes: Axes, handles: list[Line2D]) -> None:
    axes.legend(
        handles=handles,
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncol=len(handles),
        frameon=False,
        fontsize=9.5,
        borderaxespad=0.1,
        columnspacing=1.4,
        handletextpad=0.3,
    )


def _draw_meshes(axes: Axes, evidence: PairEvidence) -> None:
    _title(axes, "lifted onto the meshes")
    x = evidence.explanation
    sides = ((x.source_position, x.source_vertex, x.predicted_source), (x.target_position, x.target_vertex, x.predicted_target))
    for nth, (shown, of_side) in enumerate(zip(evidence.shown, sides, strict=True)):
        middle = WIDTH * (0.25 + 0.5 * nth)
        mesh = shown.mesh()
        if mesh is None or shown.rotation is None:
            axes.text(middle, _MESH_HEIGHT / 2, "no mesh", ha="center", color="#5b6776")
        else:
            _draw_mesh(axes, middle, evidence, mesh, shown.rotation, *of_side)
    wrong = FATE_COLOURS[FATES.index(GEODESIC)]
    handles = [
        Line2D([], [], linestyle="", marker="o", color="#8a8f98", label="kept"),
        Line2D([], [], linestyle="", marker="o", color=wrong, fillstyle="none", label="geodesic reject: its dominant vertex"),
        Line2D([], [], linestyle="", marker="D", color=_PREDICTED, markeredgecolor="black", label="what the other mesh predicts"),
    ]
    _legend(axes, handles)


def _draw_mesh(
    axes: Axes,
    middle: float,
    evidence: PairEvidence,
    mesh: Mesh,
    rotation: np.ndarray,
    positions: np.ndarray,
    dominant: np.ndarray,
    predicted: np.ndarray,
) -> None:
    """One mesh as large as it fits around ``middle``, with the lifted ``positions`` (N, 3) of what was kept."""
    view = mesh_view(mesh, rotation, _MESH_PIXELS, _GREY)
    drawn = view.picture[..., 3] > 0
    (top, bottom), (left, right) = (np.flatnonzero(drawn.any(axis=i))[[0, -1]] + [0, 1] for i in (1, 0))
    scale = min(_MESH_WIDTH / (right - left), _MESH_HEIGHT / (bottom - top))
    corner = np.array([middle - scale * (left + right) / 2, _MESH_HEIGHT / 2 - scale * (top + bottom) / 2])
    (x, y), size = corner, scale * _MESH_PIXELS
    axes.imshow(view.picture, extent=(x, x + size, y + size, y))

    def place(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        xy, seen = _seen(view, points, mesh.diagonal)
        return xy * scale + corner, seen

    centre = (mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0)) / 2
    rows = np.flatnonzero((evidence.fate == FATES.index(KEPT)) & np.isfinite(positions).all(axis=1))
    xy, seen = place(positions[rows] * mesh.diagonal + centre)
    axes.scatter(xy[seen, 0], xy[seen, 1], s=13, c=evidence.colours[rows[seen]] / 255, edgecolors="black", linewidths=0.25)
    wrong = np.flatnonzero((evidence.fate == FATES.index(GEODESIC)) & evidence.drawn & (predicted >= 0))
    _draw_misses(axes, place(mesh.vertices[dominant[wrong]]), place(mesh.vertices[predicted[wrong]]))


def _draw_misses(axes: Axes, dominant: tuple[np.ndarray, np.ndarray], predicted: tuple[np.ndarray, np.ndarray]) -> None:
    """Pairs of vertices joined by a line, dashed and faint where the second is hidden behind the mesh."""
    colour = FATE_COLOURS[FATES.index(GEODESIC)]
    for (x1, y1), (x2, y2), seen in zip(dominant[0], predicted[0], predicted[1], strict=True):
        axes.plot([x1, x2], [y1, y2], color=colour, linewidth=1.2, linestyle="-" if seen else (0, (2, 2)))
        axes.scatter([x1], [y1], s=26, c="none", edgecolors=colour, linewidths=1.3, zorder=4)
        axes.scatter(
            [x2], [y2], s=22, c=_PREDICTED, marker="D", edgecolors="black", linewidths=0.7, alpha=1 if seen else 0.5, zorder=4
        )


def _seen(view: MeshView, points: np.ndarray, diagonal: float) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (N, 2) of points (N, 3) in the picture, and whether (N,) no surface hides them."""
    xy, depth = project(points, view.pose, view.camera)
    column, row = (np.clip(xy[:, i].astype(np.int64), 0, _MESH_PIXELS - 1) for i in (0, 1))
    return xy, depth <= view.depth[row, column] + _HIDDEN_BEHIND * diagonal

"""One pair with the evidence of every candidate: what was matched to what, on the photos and on both meshes, and what rejected it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sc3d.class_shapes.carry import AlignedImage, carried
from sc3d.config import LabelConfig
from sc3d.errors import GeometryError
from sc3d.geometry.geodesic import lookup
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.sampling import scattered
from sc3d.matching.candidates import cycle_tolerance, guided, nearest, similarity
from sc3d.matching.described import Described
from sc3d.matching.explain import Explanation, explain_pair
from sc3d.records import Pair
from sc3d.report.colours import FILTERS, hex_of, position_colours
from sc3d.report.page import render_template
from sc3d.report.pairs import FATES, KEPT, Side, View, place_sides

SCRIPTS = ("surface_way.js", "turning.js", "mesh_view.js", "evidence.js")
FATE_COLOURS = ("#ffffff", *(FILTERS[name] for name in FATES[1:]))
WIDTH = 960.0
_MAX_HEIGHT = 470.0
_PHOTO_PIXELS = 840
_KEPT_LINES = 30
_REJECTED_LINES = 12
_VERTEX_STEPS = 60_000
"""Vertices travel as int16 in steps of this part of the mesh's diagonal; none is farther than half of it from the box's centre."""


@dataclass(frozen=True, eq=False)
class Shown:
    """One image of the pair: prepared for matching, with its photo (H, W, 3), its mask (H, W), and the faces (F, 3) and the rotation
    (3, 3) of the posed mesh; both ``None`` where there is no mesh."""

    described: Described
    photo: np.ndarray
    mask: np.ndarray
    faces: np.ndarray | None
    rotation: np.ndarray | None

    @property
    def view(self) -> View:
        """The photo with its grid, foreground and mask."""
        box = self.described.letterbox
        foreground = np.zeros(box.side**2, bool)
        foreground[self.described.cells] = True
        return View(self.photo, box, foreground, self.mask)

    def mesh(self) -> Mesh | None:
        """The canonical mesh.

        Raises:
            GeometryError: faces and described vertices do not belong to each other.
        """
        if self.described.mesh is None or self.faces is None:
            return None
        try:
            return Mesh(self.described.mesh.surface.vertices, self.faces)
        except GeometryError as error:
            raise GeometryError(f"{self.described.image_id}: {error}; describe the image again") from None


@dataclass(frozen=True)
class Limits:
    """What a label has to keep to: ``cycle`` in source pixels and ``cycle_extents`` in object extents (``tau_cc``, or one cell where that
    is more), ``geodesic`` (``tau_geo``) in mesh diagonals, ``agreement`` of the pair (``min_agreement``). ``extent`` in source pixels;
    ``reach`` of the balls of source and target in mesh diagonals: distances beyond it are not known."""

    cycle: float
    cycle_extents: float
    geodesic: float
    agreement: float
    extent: float
    reach: tuple[float, float]


@dataclass(frozen=True, eq=False)
class PairEvidence:
    """All candidates of a pair, row by row as in ``explanation``.

    Attributes:
        shown: source and target.
        fate: (N,) index into :data:`FATES`.
        returned: (N,) flat source cell that the match leads back to; its distance is the cycle error.
        terms: (N, 2) distance of dominant and predicted vertex on source and target in mesh diagonals, whose mean is the geodesic error;
            ``inf`` beyond the balls, NaN without a surface hit.
        colours: (N, 3) uint8 by position on the source.
        drawn: (N,) a few candidates of each fate that lie far apart, for lines.
        carried: (N, 2) pixels of the target where the class shape puts each, if one is fitted to both images.
    """

    pair: Pair
    shown: tuple[Shown, Shown]
    explanation: Explanation
    limits: Limits
    fate: np.ndarray
    returned: np.ndarray
    terms: np.ndarray
    colours: np.ndarray
    drawn: np.ndarray
    carried: np.ndarray | None

    @property
    def counts(self) -> dict[str, int]:
        """Fate -> candidates."""
        return {name: int((self.fate == code).sum()) for code, name in enumerate(FATES)}


def gather_evidence(
    pair: Pair,
    source: Shown,
    target: Shown,
    config: LabelConfig,
    aligned: tuple[AlignedImage, AlignedImage] | None = None,
) -> PairEvidence:
    """Match a pair again and keep everything that explains what became of each candidate.

    Args:
        aligned: both images with a class shape in them, if there is one.

    Raises:
        FeatureError: the images do not go together, or their balls are too small for the thresholds.
        GeometryError: a mesh cannot be used.
    """
    one, two = source.described, target.described
    explanation = explain_pair(one, two, config)
    tolerance = cycle_tolerance(config.tau_cc, one.extent, one.letterbox.cell_pixels)
    code = {name: i for i, name in enumerate(FATES)}
    fate = np.array([code[str(name) or KEPT] for name in explanation.rejected_by], np.int64)
    drawn = np.zeros(len(fate), bool)
    for i, name in enumerate(FATES):
        rows = np.flatnonzero(fate == i)
        drawn[rows[scattered(explanation.source_xy[rows], _KEPT_LINES if name == KEPT else _REJECTED_LINES)]] = True
    terms = np.stack(
        [
            _term(one, explanation.source_vertex, explanation.predicted_source),
            _term(two, explanation.target_vertex, explanation.predicted_target),
        ],
        axis=1,
    )
    return PairEvidence(
        pair=pair,
        shown=(source, target),
        explanation=explanation,
        limits=Limits(
            tolerance, tolerance / one.extent, config.tau_geo, config.min_agreement, one.extent, (_reach(one), _reach(two))
        ),
        fate=fate,
        returned=_returned(one, two),
        terms=terms,
        colours=position_colours(explanation.source_xy),
        drawn=drawn,
        carried=_carried(explanation, aligned) if aligned is not None else None,
    )


def _carried(explanation: Explanation, aligned: tuple[AlignedImage, AlignedImage]) -> np.ndarray:
    likely = carried(aligned[0], explanation.source_xy, aligned[1])
    return aligned[1].letterbox.centres(likely.argmax(axis=1))


def _returned(source: Described, target: Described) -> np.ndarray:
    if len(source.cells) == 0 or len(target.cells) == 0:
        return np.zeros(0, np.int64)
    forward, backward = nearest(guided(similarity(source, target), source, target))
    return source.cells[backward[forward]]


def _term(image: Described, dominant: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    term = np.full(len(dominant), np.nan)
    rows = np.flatnonzero((dominant >= 0) & (predicted >= 0))
    if image.mesh is not None:
        surface = image.mesh.surface
        term[rows] = lookup(surface.balls, dominant[rows], predicted[rows]).astype(np.float64) / surface.diagonal
    return term


def _reach(image: Described) -> float:
    return image.mesh.surface.balls.radius / image.mesh.surface.diagonal if image.mesh is not None else 0.0


def evidence_page(evidence: PairEvidence, links: Sequence[tuple[str, str]] = (), notes: Sequence[str] = ()) -> str:
    """The pair as one self-contained HTML file: every candidate on both photos, on both meshes and in a list, linked to each other.

    Args:
        links: text and address of ways to other pages, for its head.
        notes: what else is to be known of the pair.

    Raises:
        GeometryError: a mesh cannot be used.
    """
    views = (evidence.shown[0].view, evidence.shown[1].view)
    sides = place_sides(views, WIDTH, _MAX_HEIGHT, _PHOTO_PIXELS)
    return render_template(
        "evidence.html",
        SCRIPTS,
        ("style.css", "evidence.css"),
        pair=evidence.pair,
        links=links,
        notes=notes,
        counts=evidence.counts,
        total=len(evidence.explanation),
        limits=evidence.limits,
        colours=dict(zip(FATES, FATE_COLOURS, strict=True)),
        sides=sides,
        width=WIDTH,
        height=max(side.height for side in sides),
        meshes=[shown.mesh() is not None for shown in evidence.shown],
        data=_page_data(evidence, sides),
    )


def _page_data(evidence: PairEvidence, sides: tuple[Side, Side]) -> dict[str, Any]:
    """What the page's script reads: plain JSON. Unknown numbers are null; points are flat lists of x, y(, z)."""
    x, limits = evidence.explanation, evidence.limits
    box = evidence.shown[0].described.letterbox
    return {
        "fates": FATES,
        "fateColours": FATE_COLOURS,
        "limits": {"cycle": limits.cycle, "geodesic": limits.geodesic, "extent": limits.extent, "reach": limits.reach},
        "cells": [float(side.cells.split()[2]) for side in sides],
        "meshes": [_mesh_data(shown) for shown in evidence.shown],
        "candidates": {
            "fate": evidence.fate.tolist(),
            "cosine": _numbers(x.cosine, 4),
            "cycle": _numbers(x.cycle_error, 2),
            "extents": _numbers(x.cycle_error / limits.extent, 4),
            "geodesic": _numbers(x.geodesic_error, 5),
            "terms": [_numbers(evidence.terms[:, side], 5) for side in (0, 1)],
            "ends": [_numbers(side.place(xy), 2) for side, xy in zip(sides, (x.source_xy, x.target_xy), strict=True)],
            "returned": _numbers(sides[0].place(box.centres(evidence.returned)), 2),
            "drawn": evidence.drawn.astype(int).tolist(),
            "carried": None if evidence.carried is None else _carried_data(evidence.carried, x, sides[1]),
            "colour": [hex_of(colour) for colour in evidence.colours],
            "points": [_numbers(x.source_position, 4), _numbers(x.target_position, 4)],
            "dominant": [x.source_vertex.tolist(), x.target_vertex.tolist()],
            "predicted": [x.predicted_source.tolist(), x.predicted_target.tolist()],
        },
    }


def _carried_data(carried: np.ndarray, explanation: Explanation, target: Side) -> dict[str, Any]:
    """Where the class shape puts each candidate on the page, and how many pixels from its match that is."""
    away = np.linalg.norm(carried - explanation.target_xy, axis=1)
    return {"ends": _numbers(target.place(carried), 2), "away": _numbers(away, 1)}


def _mesh_data(shown: Shown) -> dict[str, Any] | None:
    """Vertices relative to the box's centre as little-endian int16 steps of the diagonal, faces as int32, both in base64; and the
    rotation into the camera, row by row."""
    mesh = shown.mesh()
    if mesh is None or shown.rotation is None:
        return None
    centre = (mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0)) / 2
    steps = np.round((mesh.vertices - centre) / mesh.diagonal * _VERTEX_STEPS)
    return {
        "vertices": base64.b64encode(steps.astype("<i2").tobytes()).decode(),
        "faces": base64.b64encode(mesh.faces.astype("<i4").tobytes()).decode(),
        "steps": _VERTEX_STEPS,
        "rotation": _numbers(shown.rotation, 6),
    }


def _numbers(values: np.ndarray, digits: int) -> list[float | None]:
    flat = np.round(np.asarray(values, np.float64).reshape(-1), digits)
    return [float(v) if np.isfinite(v) else None for v in flat]

"""Actors that do nothing, for the rehearsal of a run: ``models.variant=none``.

The whole graph runs as it would: planning, scheduling, files, rejects, progress. What it writes has the right form and no meaning. It shows
whether a cluster, its store and its permissions can carry a run, and what the system itself costs an image and a pair.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from actors.base import Actor, Row
from sc3d.features import GeodesicBalls, Surface
from sc3d.grid import Letterbox
from sc3d.records import Matches

_SIDE = 8
_CELL = 0
_TETRAHEDRON = np.array([[-0.5, -0.5, -0.5], [0.5, 0.5, -0.5], [0.5, -0.5, 0.5], [-0.5, 0.5, 0.5]], np.float32)
_FACES = np.array([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]], np.int32)


class _Rehearsal(Actor):
    requires: ClassVar[Mapping[str, str]] = {}
    version: ClassVar[str] = "rehearsal-1"


class RehearseLoad(_Rehearsal):
    """No file is opened: every image is a black square."""

    provides = {"image": "upright RGB (H, W, 3) uint8", "width": "in pixels", "height": "in pixels", "cut_out": "None"}

    def process(self, row: Row) -> Row:
        return {"image": np.zeros((_SIDE, _SIDE, 3), np.uint8), "width": _SIDE, "height": _SIDE, "cut_out": None}


class RehearseMask(_Rehearsal):
    """The whole image."""

    provides = {"mask": "object mask (H, W) bool"}

    def process(self, row: Row) -> Row:
        return {"mask": np.ones((_SIDE, _SIDE), bool)}


class RehearseMaskSigns(_Rehearsal):
    """None."""

    provides = {"mask_flags": "none"}

    def process(self, row: Row) -> Row:
        return {"mask_flags": ()}


class RehearseMesh(_Rehearsal):
    """A tetrahedron in front of the camera."""

    provides = {
        "vertices": "(V, 3)",
        "faces": "(F, 3)",
        "intrinsics": "K (3, 3)",
        "rotation": "R (3, 3)",
        "scale_initial": "scale as reconstructed",
        "translation_initial": "t (3,) as reconstructed",
    }

    def process(self, row: Row) -> Row:
        camera = np.array([[_SIDE, 0, _SIDE / 2], [0, _SIDE, _SIDE / 2], [0, 0, 1]], np.float64)
        placed = {"intrinsics": camera, "rotation": np.eye(3), "scale_initial": 1.0, "translation_initial": np.array([0.0, 0, 2])}
        return {"vertices": _TETRAHEDRON, "faces": _FACES, **placed}


class RehearseAlign(_Rehearsal):
    """The pose as it is."""

    requires = {"scale_initial": "scale as reconstructed", "translation_initial": "t (3,) as reconstructed"}
    provides = {
        "scale": "scale after alignment",
        "translation": "t (3,) after alignment",
        "iou_before": "0",
        "iou_after": "0",
        "flags": "none",
    }

    def process(self, row: Row) -> Row:
        moved = {"scale": row["scale_initial"], "translation": row["translation_initial"]}
        return {**moved, "iou_before": 0.0, "iou_after": 0.0, "flags": ()}


class RehearseRenders(_Rehearsal):
    """One channel a yaw."""

    provides = {"descriptor": "(8, 1) float16", "sharpness": "1"}

    def process(self, row: Row) -> Row:
        return {"descriptor": np.ones((8, 1), np.float16), "sharpness": 1.0}


class RehearseOrient(_Rehearsal):
    """No turn."""

    provides = {"turn": "0", "votes": "none (0,)", "uncertain": "False", "symmetric": "False", "posterior": "none"}

    def process(self, row: Row) -> Row:
        return {"turn": 0, "votes": np.zeros(0, np.int32), "uncertain": False, "symmetric": False, "posterior": None}


class RehearseDino(_Rehearsal):
    """One channel."""

    provides = {"dino": "(1, 60, 60) float16"}

    def process(self, row: Row) -> Row:
        return {"dino": np.ones((1, 60, 60), np.float16)}


class RehearseSd(_Rehearsal):
    """One layer of one channel."""

    provides = {"sd": "layers: sd.s5 (1, 15, 15) float16"}

    def process(self, row: Row) -> Row:
        return {"sd": {"sd.s5": np.ones((1, 15, 15), np.float16)}}


class RehearseDepth(_Rehearsal):
    """One pixel."""

    provides = {"depth": "(1, 1) float16"}

    def process(self, row: Row) -> Row:
        return {"depth": np.ones((1, 1), np.float16)}


class RehearseShape(_Rehearsal):
    """One channel a vertex."""

    requires = {"vertices": "(V, 3)"}
    provides = {"shape": "(V, 1) float16"}

    def process(self, row: Row) -> Row:
        return {"shape": np.ones((len(row["vertices"]), 1), np.float16)}


class RehearseSurface(_Rehearsal):
    """One cell sees the first triangle."""

    requires = {"vertices": "(V, 3)"}
    provides = {"letterbox": "working grid", "foreground": "(side, side) bool", "extent": "in pixels", "surface": "one hit"}

    def process(self, row: Row) -> Row:
        box = Letterbox(_SIDE, _SIDE)
        foreground = np.zeros((box.side, box.side), bool)
        foreground.flat[_CELL] = True
        whole = np.zeros(1, np.int32)
        surface = Surface(
            cells=np.array([_CELL], np.int32),
            corners=_FACES[:1],
            barycentric=np.full((1, 3), 1 / 3, np.float32),
            dominant=whole,
            fill_distance=np.zeros(1, np.float16),
            vertices=row["vertices"],
            diagonal=float(np.sqrt(3)),
            balls=GeodesicBalls(whole, np.array([0, 1], np.int32), whole, np.zeros(1, np.uint16), 1.0),
        )
        return {"letterbox": box, "foreground": foreground, "extent": float(_SIDE), "surface": surface}


class RehearseMatch(_Rehearsal):
    """One match without an error, between the first pixels."""

    requires = {"pair_id": "id", "source_id": "image id", "target_id": "image id", "category": "of both"}
    provides = {"record": "the candidates with their evidence"}

    def process(self, row: Row) -> Row:
        first, zero = np.full((1, 2), 0.5, np.float32), np.zeros(1, np.float32)
        ids = (row["pair_id"], row["source_id"], row["target_id"], row["category"])
        return {"record": Matches(*ids, first, first, zero + 1, zero, zero, float(_SIDE), 1.0, 1, 1)}

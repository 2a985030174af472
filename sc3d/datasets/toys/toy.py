"""What a toy is: painted parts, decals and named keypoints.

Toys are built in their own coordinates: x to the toy's left, y up, z to its front, the plane x = 0 in its middle, sizes near 1.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sc3d.datasets.toys.charts import Chart
from sc3d.datasets.toys.shapes import Shape, Vector

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Part:
    """A solid of the toy, and the name of its paint. A mirrored part is modelled on the left (x > 0) and stands on both sides.

    ``name`` is what the solid is a part of, the same in all toys of the category; in that of a mirrored part, ``*`` stands for the side.
    ``chart`` says where within it a point lies; ``None``: the shape's own.
    """

    shape: Shape
    paint: str
    mirrored: bool = False
    name: str = ""
    chart: Chart | None = None


@dataclass(frozen=True)
class Zone:
    """A part without a shape of its own: what lies inside ``shape`` and on a part named ``on`` has this ``name`` and ``chart``."""

    name: str
    shape: Shape
    chart: Chart
    on: str
    mirrored: bool = False


@dataclass(frozen=True)
class Decal:
    """Paint without a shape of its own: what lies inside ``shape`` and on a part painted ``on`` (empty: any) takes this paint."""

    shape: Shape
    paint: str
    mirrored: bool = True
    on: str = ""


@dataclass(frozen=True)
class Texture:
    """A solid pattern that mixes a second colour into one paint; it is a function of abs(x), so both sides look the same."""

    kind: str
    paint: str
    colour: Colour
    period: float
    phase: Vector


@dataclass(frozen=True)
class Toy:
    """One instance of a category. ``keypoints`` are near the surface, of those of the category's names that it has; ``paints`` are sRGB
    0-1. ``zones`` divide parts by name, for the dense truth."""

    parts: tuple[Part, ...]
    keypoints: dict[str, Vector]
    paints: dict[str, Colour]
    decals: tuple[Decal, ...] = ()
    carvings: tuple[Shape, ...] = ()
    texture: Texture | None = None
    blend: float = 0.01
    cells: int = 48
    zones: tuple[Zone, ...] = ()


@dataclass(frozen=True)
class Category:
    """A kind of toy: how an instance is drawn, and how it is looked at.

    ``keypoints`` are its names in id order. ``elevation`` is the camera's range in degrees, ``outdoor`` chooses the surroundings,
    ``turns`` is False for a solid of revolution: its canonical frame has the camera in front, as no other frame could be told apart.
    """

    build: Callable[[np.random.Generator], Toy]
    keypoints: tuple[str, ...]
    elevation: tuple[float, float] = (0.0, 35.0)
    outdoor: bool = False
    grounded: bool = True
    turns: bool = True


_QUALIFIERS = re.compile(r"_(left|right|front|back|\d+)(?=_|$)")


def keypoint_table(names: tuple[str, ...]) -> dict[str, list]:
    """Groups that follow from keypoint names: what is left without "left", "right", "front", "back" and numbers names a repeated thing.

    Returns:
        ``names``; ``repeated``: groups of ids; ``mirrored``: pairs of ids that swap in a mirror; ``side``: 0 neutral, 1 left, 2 right.
    """
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        groups.setdefault(_QUALIFIERS.sub("", name), []).append(index)
    pairs = [[i, names.index(n.replace("_left", "_right"))] for i, n in enumerate(names) if "_left" in n]
    return {
        "names": list(names),
        "repeated": [g for g in groups.values() if len(g) > 1],
        "mirrored": pairs,
        "side": [1 if "_left" in n else 2 if "_right" in n else 0 for n in names],
    }


def both_sides(name: str, at: Vector) -> dict[str, Vector]:
    """The keypoints ``name_left`` and ``name_right`` of a point on the left side."""
    return {f"{name}_left": at, f"{name}_right": (-at[0], at[1], at[2])}


def side_name(name: str, sign: float) -> str:
    """The name of a mirrored part on the left (``sign`` > 0) or right side: ``front * wheel`` is ``front left wheel``."""
    return name.replace("*", "left" if sign > 0 else "right")


def sides(*names: str) -> tuple[str, ...]:
    """Each name with ``_left`` and with ``_right`` after it."""
    return tuple(f"{name}_{side}" for name in names for side in ("left", "right"))

"""Chairs and tables: few parts, four equal legs, thin structures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sc3d.datasets.toys.charts import Block, Limb
from sc3d.datasets.toys.palette import bright, contrast, darker, metal, texture, wood
from sc3d.datasets.toys.shapes import Box, Ellipsoid, Rod, Vector, turn_x
from sc3d.datasets.toys.toy import Category, Part, Toy, both_sides, sides

_SIDES = (("left", 1.0), ("right", -1.0))
_ENDS = (("front", 1.0), ("back", -1.0))


def _corners(name: str, x: float, y: float, front: float, back: float) -> dict[str, Vector]:
    """Four keypoints ``name_{front,back}_{left,right}`` of a horizontal rectangle."""
    return {f"{name}_{end}_{side}": (x * s, y, front if e > 0 else back) for end, e in _ENDS for side, s in _SIDES}


def _chair(rng: np.random.Generator) -> Toy:
    return chair(rng)


def chair(rng: np.random.Generator, stools: float = 0.0) -> Toy:
    """A chair with or without arms; a share of ``stools`` has neither arms nor a back, nor the keypoints there."""
    u = rng.uniform
    is_stool = stools > 0 and rng.random() < stools
    half_width, half_depth, seat_y = u(0.19, 0.26), u(0.19, 0.25), u(0.36, 0.5)
    seat_half, thick = u(0.022, 0.04), u(0.019, 0.028)
    back_height, lean = u(0.36, 0.55), u(0, 0.09)
    splay = u(0, 0.06) if rng.random() < 0.5 else 0.0
    foot = thick * u(0.75, 1.1)
    # Legs start under the seat, a little inside its corners.
    leg_x, leg_z = half_width - thick - 0.005, half_depth - thick - 0.005
    parts = [Part(Box((0, seat_y, 0), (half_width, seat_half, half_depth), 0.02), "seat", name="seat")]
    feet: dict[str, Vector] = {}
    for end, e in _ENDS:
        top: Vector = (leg_x, seat_y, e * leg_z)
        bottom: Vector = (leg_x + splay, foot, e * (leg_z + splay))
        leg = Rod(top, bottom, thick, foot)
        parts.append(Part(leg, "legs", mirrored=True, name=f"{end} * leg", chart=Limb(top, bottom, thick)))
        for side, s in _SIDES:
            feet[f"foot_{end}_{side}"] = (s * bottom[0], 0.0, bottom[2])
    crest_y, crest_z = seat_y + back_height, -half_depth + thick - lean
    if not is_stool:
        parts += _backrest(rng, half_width, half_depth, seat_y, back_height, lean, thick)
        parts += _arms(rng, half_width - thick, half_depth, seat_y, back_height, thick)
    if rng.random() < 0.4:
        rung = seat_y * u(0.3, 0.55)
        spread = leg_x + splay * (1 - rung / seat_y)
        rod = Rod((spread, rung, -leg_z), (spread, rung, leg_z), thick * 0.7)
        parts.append(Part(rod, "legs", mirrored=True, name="* rung", chart=Limb(rod.start, rod.end, rod.radius)))
    frame = wood(rng)
    seat = contrast(rng, frame) if rng.random() < 0.7 else frame
    rim = seat_y - seat_half
    keypoints: dict[str, Vector] = {
        **({} if is_stool else both_sides("backrest", (half_width, crest_y, crest_z))),
        **({} if is_stool else {"crest": (0.0, crest_y, crest_z)}),
        **_corners("seat", half_width, seat_y + seat_half, half_depth, -half_depth),
        "seat_edge": (0.0, seat_y, half_depth),
        **feet,
        **{
            f"leg_{end}_{side}": (s * (leg_x + thick * 0.7), rim - 0.03, e * (leg_z + thick * 0.7))
            for end, e in _ENDS
            for side, s in _SIDES
        },
    }
    pattern = texture(rng, "seat", seat, ("checks", "hoops", "blotches"))
    return Toy(tuple(parts), keypoints, {"seat": seat, "legs": frame}, texture=pattern, blend=0.012, cells=46)


def _arms(rng: np.random.Generator, x: float, half_depth: float, seat_y: float, back_height: float, thick: float) -> list[Part]:
    """On some chairs, a rest and its support on both sides."""
    u = rng.uniform
    if rng.random() >= 0.35:
        return []
    y, z = seat_y + back_height * u(0.38, 0.5), half_depth * u(0.4, 0.9)
    chart = Block(Box((x, (seat_y + y) / 2, (z - half_depth) / 2), (thick, (y - seat_y) / 2, (z + half_depth) / 2)))
    rods = (Rod((x, y, -half_depth), (x, y, z), thick), Rod((x, y, z), (x, seat_y, z), thick * 0.9))
    return [Part(rod, "legs", mirrored=True, name="* arm", chart=chart) for rod in rods]


def _backrest(
    rng: np.random.Generator, half_width: float, half_depth: float, seat_y: float, height: float, lean: float, thick: float
) -> list[Part]:
    """Two posts with a panel, with slats or with spindles between them; they lean back by ``lean`` at the crest."""
    z = -half_depth + thick
    bottom: Vector = (half_width - thick, seat_y, z)
    top: Vector = (half_width - thick, seat_y + height - thick, z - lean)
    parts = [Part(Rod(bottom, top, thick), "legs", mirrored=True)]

    def at(share: float) -> Vector:
        return 0.0, seat_y + share * (height - thick), z - share * lean

    style = rng.integers(3)
    tilt = turn_x(-float(np.degrees(np.arctan2(lean, height))))
    if style == 0:
        low = rng.uniform(0.15, 0.45)
        middle = (1 + low) / 2
        parts.append(Part(Box(at(middle), (half_width - thick, height * (1 - low) / 2, thick * 0.9), 0.016, rotation=tilt), "seat"))
    elif style == 1:
        count = int(rng.integers(2, 4))
        slat = (half_width, 0.035, thick * 0.85)
        parts += [Part(Box(at(float(share)), slat, 0.014, rotation=tilt), "seat") for share in np.linspace(0.4, 0.93, count)]
    else:
        parts.append(Part(Box(at(0.94), (half_width, 0.035, thick), 0.016, rotation=tilt), "legs"))
        for x in np.linspace(0, half_width - thick, 3)[:2]:
            x = max(float(x), 0.0)
            start, end = at(0.0), at(0.92)
            parts.append(Part(Rod((x, *start[1:]), (x, *end[1:]), max(thick * 0.7, 0.015)), "legs", mirrored=x > 0))
    # A crest rail joins the posts whatever is between them, so that its ends are corners in every style.
    parts.append(Part(Rod((0, top[1], top[2]), top, thick), "legs", mirrored=True))
    # One chart for all styles, so that slats and panels have their places on the same back.
    whole = Block(Box((0, seat_y + height / 2, z - lean / 2), (half_width, height / 2, thick), shear=(0, -lean / 2)))
    return [replace(part, name="backrest", chart=whole) for part in parts]


def _table(rng: np.random.Generator) -> Toy:
    u = rng.uniform
    half_width, half_depth, height = u(0.36, 0.5), u(0.2, 0.33), u(0.34, 0.56)
    slab, thick, overhang = u(0.018, 0.03), u(0.02, 0.034), u(0.0, 0.035)
    leg_x, leg_z = half_width - thick - overhang, half_depth - thick - overhang
    square = rng.random() < 0.5
    under = height - 2 * slab
    parts = [Part(Box((0, height - slab, 0), (half_width, slab, half_depth), 0.012), "top")]
    taper = u(0.65, 1.0)
    for _, e in _ENDS:
        if square:
            leg = Box(
                (leg_x, under / 2, e * leg_z), (thick * taper, under / 2 + slab, thick * taper), 0.006, top=(1 / taper, 1 / taper)
            )
            parts.append(Part(leg, "legs", mirrored=True))
        else:
            rod = Rod((leg_x, under + slab, e * leg_z), (leg_x, thick * taper, e * leg_z), thick, thick * taper)
            parts.append(Part(rod, "legs", mirrored=True))
    # The drawers tell the front; the panel between the hind legs tells the back where the drawers are out of sight.
    drawer = u(0.045, 0.065)
    front = leg_z + thick * 0.6
    parts.append(Part(Box((0, under - drawer, front * 0.55), (leg_x, drawer, front * 0.45), 0.01), "drawer"))
    panel = under * u(0.28, 0.42)
    parts.append(Part(Box((0, under - panel, -leg_z), (leg_x, panel, 0.016), 0.008), "legs"))
    knob_x = leg_x * u(0.4, 0.6)
    parts.append(Part(Ellipsoid((knob_x, under - drawer, front + 0.012), (0.026, 0.026, 0.026)), "knob", mirrored=True))
    colour = wood(rng)
    legs = colour if rng.random() < 0.4 else contrast(rng, colour)
    paints = {"top": colour, "legs": legs, "drawer": darker(colour, 0.8), "knob": metal(rng) if rng.random() < 0.5 else bright(rng)}
    tip = thick * taper * 0.8
    keypoints: dict[str, Vector] = {
        **_corners("top", half_width, height, half_depth, -half_depth),
        **_corners("foot", leg_x + tip, 0.0, leg_z + tip, -leg_z - tip),
        **_corners("leg", leg_x + thick, under - 0.03, leg_z + thick, -leg_z - thick),
        **both_sides("knob", (knob_x, under - drawer, front + 0.04)),
        "edge_front": (0.0, height, half_depth),
        "edge_back": (0.0, height, -half_depth),
        "edge_left": (half_width, height, 0.0),
        "edge_right": (-half_width, height, 0.0),
    }
    pattern = texture(rng, "top", colour, ("hoops", "checks", "blotches"), share=0.3)
    return Toy(tuple(parts), keypoints, paints, texture=pattern, blend=0.008, cells=36)


CHAIR = Category(
    _chair,
    (
        "backrest_left",
        "backrest_right",
        "crest",
        *sides("seat_front", "seat_back"),
        "seat_edge",
        *sides("foot_front", "foot_back"),
        *sides("leg_front", "leg_back"),
    ),
    elevation=(5, 40),
)
TABLE = Category(
    _table,
    (
        *sides("top_front", "top_back"),
        *sides("foot_front", "foot_back"),
        *sides("leg_front", "leg_back"),
        "knob_left",
        "knob_right",
        "edge_front",
        "edge_back",
        "edge_left",
        "edge_right",
    ),
    elevation=(5, 40),
)

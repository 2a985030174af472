"""Bicycles: thin tubes, two equal wheels, and cranks that no mirror maps onto themselves."""

from __future__ import annotations

import numpy as np

from sc3d.datasets.toys.palette import RUBBER, bright, contrast, metal
from sc3d.datasets.toys.shapes import Box, Disc, Ellipsoid, Ring, Rod, Vector, turn_x
from sc3d.datasets.toys.toy import Category, Part, Toy, both_sides, sides


def _bicycle(rng: np.random.Generator) -> Toy:
    u = rng.uniform
    radius, tyre, tube = u(0.185, 0.215), u(0.021, 0.028), u(0.0165, 0.021)
    base = u(0.27, 0.3)
    front: Vector = (0.0, radius + tyre, base)
    back: Vector = (0.0, radius + tyre, -base)
    bottom: Vector = (0.0, radius * u(0.9, 1.05), -u(0.02, 0.06))
    head_low: Vector = (0.0, radius * u(2.3, 2.45), base * u(0.62, 0.7))
    head_high: Vector = (0.0, head_low[1] + u(0.07, 0.11), head_low[2] - 0.03)
    seat: Vector = (0.0, head_low[1] + u(-0.04, 0.03), -u(0.11, 0.15))
    saddle: Vector = (0.0, seat[1] + u(0.06, 0.1), seat[2] - 0.03)
    drop, reach = (u(0.0, 0.3), u(0.02, 0.09))
    step_through = rng.random() < 0.3
    top_end = (
        0.0,
        bottom[1] + (seat[1] - bottom[1]) * (0.35 if step_through else 0.92),
        bottom[2] + (seat[2] - bottom[2]) * (0.35 if step_through else 0.92),
    )
    rods = [
        (head_low, head_high, tube * 1.15), (head_low, bottom, tube), (head_high, top_end, tube), (bottom, seat, tube),
        (seat, saddle, tube),
    ]  # fmt: skip
    parts = [Part(Rod(a, b, r), "frame") for a, b, r in rods]
    gauge = 0.032
    for hub, top in ((front, head_low), (back, bottom), (back, seat)):
        parts.append(Part(Rod((gauge, hub[1], hub[2]), (gauge * 0.6, top[1], top[2]), tube * 0.85), "frame", mirrored=True))
    for hub in (front, back):
        parts.append(Part(Ring(hub, radius, tyre), "tyre"))
        parts.append(Part(Disc(hub, 0.035, 0.045, 0.01), "metal"))
        turn = u(0, 60)
        for angle in np.deg2rad(turn + np.arange(3) * 60):
            arm = np.array([0, np.cos(angle), np.sin(angle)]) * radius
            ends = [(0.0, float(hub[1] + s * arm[1]), float(hub[2] + s * arm[2])) for s in (1, -1)]
            parts.append(Part(Rod(ends[0], ends[1], 0.0165), "metal"))
    bar_half, bar_y = u(0.13, 0.19), head_high[1] + u(0.03, 0.06)
    stem: Vector = (0.0, bar_y, head_high[2] + 0.03)
    grip: Vector = (bar_half, bar_y - drop * 0.1, stem[2] - reach)
    parts += [
        Part(Rod(head_high, stem, tube), "frame"),
        Part(Rod(stem, (bar_half * 0.45, bar_y, stem[2] + 0.005), tube * 0.9), "metal", mirrored=True),
        Part(Rod((bar_half * 0.45, bar_y, stem[2] + 0.005), grip, tube * 1.05), "grip", mirrored=True),
        Part(Ellipsoid(saddle, (0.05, 0.022, 0.085), turn_x(-4)), "grip"),
        Part(Disc(bottom, u(0.055, 0.07), 0.02, 0.008), "metal"),
    ]
    pedals: dict[str, Vector] = {}
    crank = u(0, 360)
    for side, s in (("left", 1.0), ("right", -1.0)):
        angle = np.deg2rad(crank) + (0 if s > 0 else np.pi)
        y, z = bottom[1] + 0.095 * np.sin(angle), bottom[2] + 0.095 * np.cos(angle)
        parts.append(Part(Rod((s * 0.045, bottom[1], bottom[2]), (s * 0.05, float(y), float(z)), 0.015), "metal"))
        parts.append(Part(Box((s * 0.085, float(y), float(z)), (0.045, 0.015, 0.03), 0.01), "grip"))
        pedals[f"pedal_{side}"] = (s * 0.13, float(y), float(z))
    parts.append(Part(Rod((-0.05, bottom[1], bottom[2]), (0.05, bottom[1], bottom[2]), 0.018), "metal"))
    if rng.random() < 0.3:
        parts.append(Part(Box((0, bar_y - 0.04, stem[2] + 0.09), (0.07, 0.05, 0.06), 0.015, (1.15, 1.15)), "basket"))
    colour = bright(rng)
    paints = {
        "frame": colour,
        "tyre": RUBBER,
        "metal": metal(rng),
        "grip": (0.25, 0.17, 0.12) if rng.random() < 0.5 else (0.12, 0.12, 0.13),
        "basket": contrast(rng, colour),
    }
    outer = radius + tyre
    keypoints: dict[str, Vector] = {
        **both_sides("grip", (grip[0] + 0.02, grip[1], grip[2])),
        "stem": (0.0, bar_y + tube, stem[2]),
        "saddle_front": (0.0, saddle[1], saddle[2] + 0.085),
        "saddle_back": (0.0, saddle[1], saddle[2] - 0.085),
        **both_sides("crank", (0.06, bottom[1], bottom[2])),
        **pedals,
        **both_sides("hub_front", (0.05, front[1], front[2])),
        **both_sides("hub_back", (0.05, back[1], back[2])),
        "tyre_bottom_front": (0.0, 0.0, front[2]),
        "tyre_bottom_back": (0.0, 0.0, back[2]),
        "tyre_end_front": (0.0, front[1], front[2] + outer),
        "tyre_end_back": (0.0, back[1], back[2] - outer),
        "tyre_top_front": (0.0, front[1] + outer, front[2]),
        "tyre_top_back": (0.0, back[1] + outer, back[2]),
        "head": (0.0, (head_low[1] + head_high[1]) / 2, (head_low[2] + head_high[2]) / 2 + tube * 1.15),
    }
    return Toy(tuple(parts), keypoints, paints, blend=0.006, cells=60)


BICYCLE = Category(
    _bicycle,
    (
        "grip_left", "grip_right", "stem", "saddle_front", "saddle_back", *sides("crank", "pedal", "hub_front", "hub_back"),
        "tyre_bottom_front", "tyre_bottom_back", "tyre_end_front", "tyre_end_back", "tyre_top_front", "tyre_top_back", "head",
    ),
    elevation=(0, 25), outdoor=True,
)  # fmt: skip

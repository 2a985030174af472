"""Cars and buses: repeated wheels, lamps and windows, and a front that has to be told from the back."""

from __future__ import annotations

import numpy as np

from sc3d.datasets.toys.palette import GLASS, LAMP, RUBBER, TAIL_LAMP, bright, contrast, darker, metal, texture
from sc3d.datasets.toys.shapes import Box, Disc, Ellipsoid, Rod, Vector
from sc3d.datasets.toys.toy import Category, Decal, Part, Toy, both_sides, sides


def vehicle_wheels(
    x: float, radius: float, half_width: float, front: float, back: float
) -> tuple[list[Part], list[Decal], dict[str, Vector]]:
    """Four wheels of a vehicle of which ``x`` is where they end outside; parts, rims and keypoints."""
    parts: list[Part] = []
    decals: list[Decal] = []
    keypoints: dict[str, Vector] = {}
    for end, z in (("front", front), ("back", back)):
        tyre = Disc((x - half_width, radius, z), radius, half_width, 0.015)
        parts.append(Part(tyre, "tyre", mirrored=True, name=f"{'rear' if end == 'back' else end} * wheel"))
        decals.append(Decal(Disc((x, radius, z), radius * 0.58, 0.03), "rim", on="tyre"))
        keypoints |= both_sides(f"wheel_{end}", (x, radius, z))
    return parts, decals, keypoints


def _car(rng: np.random.Generator) -> Toy:
    u = rng.uniform
    half_width, clearance = u(0.19, 0.23), u(0.055, 0.085)
    waist, radius = u(0.2, 0.26), u(0.085, 0.11)
    roof = waist + u(0.11, 0.18)
    # Where the glass meets the bonnet and the boot: from a saloon to a van without a boot.
    bonnet, boot = u(0.12, 0.27), -u(0.24, 0.46)
    rake_front, rake_back = u(0.08, 0.16), u(0.02, 0.12)
    length = bonnet - boot
    shrink = 1 - (rake_front + rake_back) / length
    shift = (rake_back - rake_front) / 4
    cabin_half = half_width - 0.012
    body = Box((0, (clearance + waist) / 2, 0), (half_width, (waist - clearance) / 2, 0.49), u(0.03, 0.05), top=(0.98, 0.97))
    middle: Vector = (0, (roof + waist) / 2 - 0.02, (bonnet + boot) / 2 + shift)
    cabin = Box(middle, (cabin_half, (roof - waist) / 2 + 0.02, length / 2), 0.03, (0.82, shrink), (0, shift))
    parts = [Part(body, "body"), Part(cabin, "body")]
    bumper_y, bumper_half = clearance + 0.04, u(0.024, 0.034)
    parts += [Part(Box((0, bumper_y, z), (half_width * 0.96, bumper_half, 0.03), 0.02), "trim") for z in (0.485, -0.485)]
    wheel_front, wheel_back = u(0.27, 0.32), -u(0.26, 0.31)
    wheels, rims, wheel_points = vehicle_wheels(half_width + 0.012, radius, 0.045, wheel_front, wheel_back)
    parts += wheels
    mirror: Vector = (half_width + 0.02, waist + 0.022, bonnet - rake_front * 0.45)
    parts.append(Part(Rod((half_width - 0.04, waist - 0.02, mirror[2]), mirror, 0.018), "trim", mirrored=True))
    parts.append(Part(Ellipsoid(mirror, (0.035, 0.024, 0.02)), "trim", mirrored=True))
    lamp_y = waist - u(0.05, 0.065)
    lamp: Vector = (half_width * 0.72, lamp_y, 0.49)
    tail: Vector = (half_width * 0.76, lamp_y + 0.005, -0.49)
    roof_front, roof_back = bonnet - rake_front, boot + rake_back
    decals = [*rims, *car_glass((waist, roof), (bonnet, roof_front), (boot, roof_back), half_width, cabin_half * 0.82)]
    decals += [
        Decal(Ellipsoid(lamp, (0.045, 0.032, 0.05)), "lamp", on="body"),
        Decal(Box(tail, (0.04, 0.026, 0.04), 0.005), "tail", on="body"),
        Decal(Box((0, lamp_y - 0.005, 0.49), (half_width * 0.42, 0.02, 0.04), 0.005), "trim", mirrored=False, on="body"),
    ]
    colour = bright(rng)
    paints = {
        "body": colour, "trim": darker(metal(rng), u(0.3, 1)), "tyre": RUBBER, "rim": metal(rng), "glass": GLASS, "lamp": LAMP,
        "tail": TAIL_LAMP,
    }  # fmt: skip
    roof_x = cabin_half * 0.82
    keypoints: dict[str, Vector] = {
        **wheel_points,
        **both_sides("roof_front", (roof_x, roof, roof_front)),
        **both_sides("roof_back", (roof_x, roof, roof_back)),
        **both_sides("windscreen", (cabin_half * 0.94, waist, bonnet)),
        **both_sides("backlight", (cabin_half * 0.94, waist, boot)),
        **both_sides("headlamp", (lamp[0], lamp[1], 0.5)),
        **both_sides("taillamp", (tail[0], tail[1], -0.5)),
        **both_sides("mirror", (mirror[0] + 0.04, mirror[1], mirror[2])),
        "bumper_front": (0.0, bumper_y, 0.52),
        "bumper_back": (0.0, bumper_y, -0.52),
    }
    return Toy(
        tuple(parts),
        keypoints,
        paints,
        tuple(decals),
        texture=texture(rng, "body", colour, ("hoops", "checks", "bands"), 0.25),
        blend=0.015,
        cells=44,
    )


def car_glass(
    levels: tuple[float, float], front: tuple[float, float], back: tuple[float, float], half_width: float, screen_half: float
) -> list[Decal]:
    """Two panes a side, windscreen and rear window.

    Args:
        levels: height of the waistline and of the roof.
        front, back: z of the cabin's front and back at the waistline and at the roof.
        half_width: of the car.
        screen_half: half width of the windscreen.
    """
    waist, roof = levels
    low, high = waist + 0.022, roof - 0.032
    middle, half_height = (low + high) / 2, (high - low) / 2
    pillar, gap = (front[1] + back[1]) / 2, 0.016
    spans = (
        (pillar + gap, (front[0] + front[1]) / 2 - 0.01, front[0] - front[1]),
        ((back[0] + back[1]) / 2 + 0.02, pillar - gap, back[0] - back[1]),
    )
    decals = []
    for start, end, rake in spans:
        lean = rake * half_height / (roof - waist)
        pane = Box((half_width, middle, (start + end) / 2), (0.08, half_height, (end - start) / 2), 0.005, shear=(0, -lean))
        decals.append(Decal(pane, "glass", on="body"))
    for (foot, top), outwards in ((front, 1), (back, -1)):
        # Reaches from the slope of the screen far outwards, so that only the screen's surface lies in it.
        centre = (0, middle, (foot + top) / 2 + outwards * 0.2)
        screen = Box(centre, (screen_half, half_height, 0.213), 0.01, shear=(0, (top - foot) / 2))
        decals.append(Decal(screen, "glass", mirrored=False, on="body"))
    return decals


def _bus(rng: np.random.Generator) -> Toy:
    u = rng.uniform
    half_width, clearance, height, radius = u(0.13, 0.16), u(0.035, 0.055), u(0.33, 0.43), u(0.055, 0.07)
    low, high = clearance + (height - clearance) * u(0.42, 0.5), height - u(0.05, 0.08)
    rake = u(0.0, 0.02)
    body = Box((0, (clearance + height) / 2, 0), (half_width, (height - clearance) / 2, 0.49), u(0.022, 0.04), top=(0.97, 1 - rake))
    wheels, rims, wheel_points = vehicle_wheels(half_width + 0.008, radius, 0.03, u(0.26, 0.33), -u(0.22, 0.31))
    mirror: Vector = (half_width + 0.028, high - 0.03, 0.475)
    parts = [
        Part(body, "body"),
        *wheels,
        Part(Ellipsoid(mirror, (0.026, 0.045, 0.02)), "trim", mirrored=True),
        Part(Rod((half_width - 0.02, high, 0.46), (mirror[0], mirror[1] + 0.02, mirror[2]), 0.016), "trim", mirrored=True),
        Part(Box((0, clearance + 0.03, 0.485), (half_width * 0.95, 0.026, 0.025), 0.015), "trim"),
    ]
    unit_z = -u(0.1, 0.3)
    unit_half = u(0.09, 0.14)
    parts.append(Part(Box((0, height, unit_z), (half_width * 0.6, 0.032, unit_half), 0.012), "roof"))
    count = int(rng.integers(4, 7))
    edges = np.linspace(0.45, -0.44, count + 1)
    gap = u(0.01, 0.018)
    decals = list(rims)
    for start, end in zip(edges[1:], edges[:-1], strict=True):
        pane = Box((half_width, (low + high) / 2, (start + end) / 2), (0.03, (high - low) / 2, (end - start) / 2 - gap), 0.008)
        decals.append(Decal(pane, "glass", on="body"))
    screen_low = low - (low - clearance) * u(0.1, 0.35)
    screen = Box((0, (screen_low + high) / 2, 0.49), (half_width * 0.86, (high - screen_low) / 2, 0.035), 0.008)
    rear = Box((0, (low + high) / 2 + 0.01, -0.49), (half_width * 0.72, (high - low) / 2 - 0.015, 0.035), 0.008)
    lamp: Vector = (half_width * 0.72, clearance + 0.085, 0.49)
    tail: Vector = (half_width * 0.76, clearance + 0.1, -0.49)
    decals += [
        Decal(screen, "glass", mirrored=False, on="body"),
        Decal(rear, "glass", mirrored=False, on="body"),
        Decal(Ellipsoid(lamp, (0.026, 0.02, 0.03)), "lamp", on="body"),
        Decal(Box(tail, (0.018, 0.032, 0.03), 0.004), "tail", on="body"),
    ]
    colour = bright(rng)
    paints = {
        "body": colour, "stripe": contrast(rng, colour), "roof": darker(colour, 0.85), "trim": darker(metal(rng), 0.5), "tyre": RUBBER,
        "rim": metal(rng), "glass": GLASS, "lamp": LAMP, "tail": TAIL_LAMP,
    }  # fmt: skip
    if rng.random() < 0.6:
        stripe = Box((half_width, clearance + (low - clearance) * u(0.4, 0.75), 0), (0.03, u(0.012, 0.03), 0.6))
        decals.insert(0, Decal(stripe, "stripe", on="body"))
    top_x = half_width * 0.97
    keypoints: dict[str, Vector] = {
        **wheel_points,
        **both_sides("roof_front", (top_x, height, 0.49 * (1 - rake))),
        **both_sides("roof_back", (top_x, height, -0.49 * (1 - rake))),
        **both_sides("sill_front", (half_width, clearance, 0.5)),
        **both_sides("sill_back", (half_width, clearance, -0.49)),
        **both_sides("screen", (half_width * 0.86, screen_low, 0.5)),
        **both_sides("headlamp", (lamp[0], lamp[1], 0.5)),
        **both_sides("taillamp", (tail[0], tail[1], -0.5)),
        **both_sides("mirror", (mirror[0] + 0.02, mirror[1] - 0.03, mirror[2])),
    }
    return Toy(
        tuple(parts),
        keypoints,
        paints,
        tuple(decals),
        texture=texture(rng, "body", colour, ("hoops", "checks"), 0.2),
        blend=0.01,
        cells=44,
    )


CAR = Category(
    _car,
    (
        *sides("wheel_front", "wheel_back", "roof_front", "roof_back", "windscreen", "backlight", "headlamp", "taillamp", "mirror"),
        "bumper_front", "bumper_back",
    ),
    elevation=(2, 30), outdoor=True,
)  # fmt: skip
BUS = Category(
    _bus,
    sides("wheel_front", "wheel_back", "roof_front", "roof_back", "sill_front", "sill_back", "screen", "headlamp", "taillamp", "mirror"),
    elevation=(2, 30), outdoor=True,
)  # fmt: skip

"""Cars, buses, aeroplanes and bicycles: repeated wheels and lamps, and a front that has to be told from the back."""

from __future__ import annotations

import numpy as np

from sc3d.datasets.toys.palette import GLASS, LAMP, RUBBER, TAIL_LAMP, bright, contrast, darker, metal, texture
from sc3d.datasets.toys.shapes import Box, Disc, Ellipsoid, Ring, Rod, Turned, Vector, turn_x, turn_z
from sc3d.datasets.toys.toy import Category, Decal, Part, Toy


def _both(name: str, at: Vector) -> dict[str, Vector]:
    """The keypoints ``name_left`` and ``name_right`` of a point of the left side."""
    return {f"{name}_left": at, f"{name}_right": (-at[0], at[1], at[2])}


def _wheels(x: float, radius: float, half_width: float, front: float, back: float) -> tuple[list[Part], list[Decal], dict[str, Vector]]:
    parts, decals, keypoints = [], [], {}
    for end, z in (("front", front), ("back", back)):
        parts.append(Part(Disc((x - half_width, radius, z), radius, half_width, 0.015), "tyre", mirrored=True))
        decals.append(Decal(Disc((x, radius, z), radius * 0.58, 0.03), "rim", on="tyre"))
        keypoints |= _both(f"wheel_{end}", (x, radius, z))
    return parts, decals, keypoints


def _car(rng: np.random.Generator) -> Toy:
    u = rng.uniform
    half_width, clearance = u(0.19, 0.23), u(0.055, 0.085)
    waist, radius = u(0.2, 0.26), u(0.085, 0.11)
    roof = waist + u(0.11, 0.18)
    # Where the glass meets the bonnet and the boot: from a saloon to a van without a boot.
    bonnet, boot = u(0.12, 0.27), -u(0.24, 0.46)
    rake_front, rake_back = u(0.08, 0.16), u(0.02, 0.12)
    middle_y, half_height = (roof + waist) / 2, (roof - waist) / 2
    length = bonnet - boot
    shrink = 1 - (rake_front + rake_back) / length
    shift = (rake_back - rake_front) / 4
    cabin_half = half_width - 0.012
    body = Box((0, (clearance + waist) / 2, 0), (half_width, (waist - clearance) / 2, 0.49), u(0.03, 0.05), top=(0.98, 0.97))
    cabin = Box(
        (0, middle_y - 0.02, (bonnet + boot) / 2 + shift), (cabin_half, half_height + 0.02, length / 2), 0.03, (0.82, shrink), (0, shift)
    )
    parts = [Part(body, "body"), Part(cabin, "body")]
    bumper_y, bumper_half = clearance + 0.04, u(0.024, 0.034)
    for z in (0.485, -0.485):
        parts.append(Part(Box((0, bumper_y, z), (half_width * 0.96, bumper_half, 0.03), 0.02), "trim"))
    wheel_front, wheel_back = u(0.27, 0.32), -u(0.26, 0.31)
    wheels, rims, wheel_points = _wheels(half_width + 0.012, radius, 0.045, wheel_front, wheel_back)
    parts += wheels
    mirror: Vector = (half_width + 0.02, waist + 0.025, bonnet - rake_front * 0.45)
    parts.append(Part(Ellipsoid(mirror, (0.035, 0.024, 0.02)), "trim", mirrored=True))
    lamp_y = waist - u(0.05, 0.065)
    lamp: Vector = (half_width * 0.72, lamp_y, 0.49)
    tail: Vector = (half_width * 0.76, lamp_y + 0.005, -0.49)
    low, high = waist + 0.022, roof - 0.032
    pillar = (bonnet + boot - rake_front + rake_back) / 2
    roof_front, roof_back = bonnet - rake_front, boot + rake_back
    gap = 0.016
    windows = [
        ((pillar + gap, bonnet - rake_front * 0.5 - 0.01), rake_front),
        ((boot + rake_back * 0.5 + 0.02, pillar - gap), -rake_back),
    ]
    decals = list(rims)
    for (start, end), rake in windows:
        lean = rake * (high - low) / (roof - waist) / 2
        pane = Box((half_width, (low + high) / 2, (start + end) / 2), (0.08, (high - low) / 2, (end - start) / 2), 0.005, shear=(0, -lean))
        decals.append(Decal(pane, "glass", on="body"))
    for at, half in (((roof_front + bonnet) / 2 + 0.2, 0.21), ((roof_back + boot) / 2 - 0.2, 0.215)):
        lean = Box((0, (low + high) / 2, at), (cabin_half * 0.82, (high - low) / 2, half), 0.01, shear=(0, -np.sign(at) * (rake_front if at > 0 else rake_back) / 2))
        decals.append(Decal(lean, "glass", mirrored=False, on="body"))
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
        **_both("roof_front", (roof_x, roof, roof_front)),
        **_both("roof_back", (roof_x, roof, roof_back)),
        **_both("windscreen", (cabin_half * 0.94, waist, bonnet)),
        **_both("backlight", (cabin_half * 0.94, waist, boot)),
        **_both("headlamp", (lamp[0], lamp[1], 0.5)),
        **_both("taillamp", (tail[0], tail[1], -0.5)),
        **_both("mirror", (mirror[0] + 0.04, mirror[1], mirror[2])),
        "bumper_front": (0.0, bumper_y, 0.52),
        "bumper_back": (0.0, bumper_y, -0.52),
    }
    return Toy(tuple(parts), keypoints, paints, tuple(decals), texture=texture(rng, "body", colour, ("hoops", "checks", "bands"), 0.25), blend=0.015, cells=44)


def _bus(rng: np.random.Generator) -> Toy:
    u = rng.uniform
    half_width, clearance, height, radius = u(0.13, 0.16), u(0.035, 0.055), u(0.33, 0.43), u(0.055, 0.07)
    low, high = clearance + (height - clearance) * u(0.42, 0.5), height - u(0.05, 0.08)
    rake = u(0.0, 0.02)
    body = Box((0, (clearance + height) / 2, 0), (half_width, (height - clearance) / 2, 0.49), u(0.022, 0.04), top=(0.97, 1 - rake))
    wheels, rims, wheel_points = _wheels(half_width + 0.008, radius, 0.03, u(0.26, 0.33), -u(0.22, 0.31))
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
        **_both("roof_front", (top_x, height, 0.49 * (1 - rake))),
        **_both("roof_back", (top_x, height, -0.49 * (1 - rake))),
        **_both("sill_front", (half_width, clearance, 0.5)),
        **_both("sill_back", (half_width, clearance, -0.49)),
        **_both("screen", (half_width * 0.86, screen_low, 0.5)),
        **_both("headlamp", (lamp[0], lamp[1], 0.5)),
        **_both("taillamp", (tail[0], tail[1], -0.5)),
        **_both("mirror", (mirror[0] + 0.02, mirror[1] - 0.03, mirror[2])),
    }
    return Toy(tuple(parts), keypoints, paints, tuple(decals), texture=texture(rng, "body", colour, ("hoops", "checks"), 0.2), blend=0.01, cells=46)


def _aeroplane(rng: np.random.Generator) -> Toy:
    u = rng.uniform
    girth = u(0.058, 0.08)
    nose, tail = 0.5, -0.5
    profile = (
        (tail, girth * 0.22), (tail + 0.12, girth * 0.62), (tail + 0.28, girth * 0.97), (0.3, girth), (0.4, girth * 0.86), (0.46, girth * 0.55),
        (nose, girth * 0.12),
    )  # fmt: skip
    parts = [Part(Turned((0, 0, 0), profile, axis=2), "body")]
    span, root, tip, sweep = u(0.38, 0.52), u(0.085, 0.12), u(0.4, 0.7), u(0.0, 0.2)
    wing_y, wing_z, dihedral = -girth * u(0.1, 0.6), u(0.0, 0.1), u(0, 9)
    if rng.random() < 0.3:
        wing_y = girth * 0.6
    wing, wing_points = _wing("wing", (0, wing_y, wing_z), span, root, tip, sweep, dihedral, 0.019)
    parts.append(Part(wing, "wing", mirrored=True))
    high_tail = rng.random() < 0.25
    fin_height = u(0.15, 0.22)
    fin_sweep = u(0.04, 0.09)
    plane_y = fin_height * 0.93 if high_tail else girth * 0.3
    plane_z = -0.43 - (fin_sweep if high_tail else 0)
    plane, plane_points = _wing("tailplane", (0, plane_y, plane_z), u(0.16, 0.22), u(0.05, 0.065), u(0.55, 0.8), u(0.02, 0.07), 2, 0.017)
    parts.append(Part(plane, "wing", mirrored=True))
    fin = Box((0, fin_height / 2, -0.42 - fin_sweep / 2), (0.017, fin_height / 2, 0.065), 0.01, (0.9, 0.6), (0, -fin_sweep / 2))
    parts.append(Part(fin, "fin"))
    engine_x, engine_r = span * u(0.3, 0.42), u(0.03, 0.042)
    share = engine_x / span
    along = sweep * share
    engine_y = wing_y + np.tan(np.deg2rad(dihedral)) * engine_x - engine_r * u(0.7, 1.0)
    engine_z = wing_z - along + root * 0.55
    intake = (engine_z + 0.085, engine_y)
    nacelle = ((-0.1, engine_r * 0.45), (-0.03, engine_r), (0.06, engine_r), (0.085, engine_r * 0.8))
    parts.append(Part(Turned((engine_x, engine_y, engine_z), nacelle, axis=2), "engine", mirrored=True))
    decals = [
        Decal(Box((0, girth * 0.62, 0.375), (girth * 0.75, girth * 0.24, 0.035), 0.008), "glass", mirrored=False, on="body"),
        Decal(Disc((engine_x, engine_y, intake[0] + 0.002), 0.03, engine_r * 0.62), "glass", on="engine"),
    ]
    for z in np.arange(-0.26, 0.29, 0.055):
        decals.append(Decal(Box((girth, girth * 0.22, float(z)), (girth * 0.3, girth * 0.14, 0.013), 0.004), "glass", on="body"))
    if rng.random() < 0.5:
        decals.insert(0, Decal(Box((0, -girth * 0.25, 0), (0.2, girth * 0.14, 0.7)), "fin", mirrored=False, on="body"))
    colour = (0.93, 0.93, 0.92) if rng.random() < 0.45 else bright(rng)
    accent = contrast(rng, colour)
    paints = {"body": colour, "wing": metal(rng) if rng.random() < 0.5 else colour, "fin": accent, "engine": accent, "glass": GLASS}
    keypoints: dict[str, Vector] = {
        "nose": (0.0, 0.0, nose),
        "cockpit": (0.0, girth * 0.9, 0.39),
        "tail": (0.0, 0.0, tail),
        "fin_tip": (0.0, fin_height, -0.42 - fin_sweep),
        "fin_root": (0.0, girth * 0.9, -0.36),
        "belly": (0.0, -girth, 0.22),
        **wing_points,
        **plane_points,
        **_both("engine", (engine_x, engine_y, intake[0])),
        **_both("exhaust", (engine_x, engine_y, engine_z - 0.1)),
    }
    return Toy(tuple(parts), keypoints, paints, tuple(decals), texture=texture(rng, "wing", paints["wing"], ("hoops", "checks", "blotches"), 0.3), blend=0.014, cells=64)


def _wing(
    name: str, centre: Vector, span: float, root: float, tip: float, sweep: float, dihedral: float, thickness: float
) -> tuple[Box, dict[str, Vector]]:
    """A left wing whose root is at ``centre``: half chord ``root``, at the tip times ``tip`` and swept back by ``sweep``."""
    # A box whose up is the span: its tapered top is the wing's tip.
    rotation = turn_z(dihedral - 90)
    out = rotation @ np.array([0, 1, 0])
    middle = np.asarray(centre) + out * span / 2 + np.array([0, 0, -sweep / 2])
    box = Box((float(middle[0]), float(middle[1]), float(middle[2])), (thickness, span / 2, root), 0.012, (0.9, tip), (0, -sweep / 2), rotation)
    end = np.asarray(centre) + out * span
    x, y = float(end[0]), float(end[1])
    lead, trail = centre[2] + root, centre[2] - root
    # Where the leading and trailing edges leave the fuselage, at a fixed share of the span.
    share = 0.2
    near = np.asarray(centre) + out * span * share
    chord = root * (1 + (tip - 1) * share)
    inner_z = centre[2] - sweep * share
    points = {
        **_both(f"{name}_tip", (x, y, centre[2] - sweep)),
        **_both(f"{name}_root_front", (float(near[0]), float(near[1]), min(inner_z + chord, lead))),
        **_both(f"{name}_root_back", (float(near[0]), float(near[1]), max(inner_z - chord, trail - sweep))),
    }
    return box, points


def _bicycle(rng: np.random.Generator) -> Toy:
    u = rng.uniform
    radius, tyre, tube = u(0.185, 0.215), u(0.021, 0.028), u(0.0165, 0.021)
    base = u(0.27, 0.3)
    front: Vector = (0.0, radius + tyre, base)
    back: Vector = (0.0, radius + tyre, -base)
    bottom: Vector = (0.0, radius * u(0.9, 1.05), -u(0.02, 0.06))
    head_low: Vector = (0.0, radius * u(2.0, 2.2), base * u(0.66, 0.74))
    head_high: Vector = (0.0, head_low[1] + u(0.07, 0.11), head_low[2] - 0.03)
    seat: Vector = (0.0, head_low[1] + u(0.0, 0.06), -u(0.11, 0.15))
    saddle: Vector = (0.0, seat[1] + u(0.06, 0.1), seat[2] - 0.03)
    drop, reach = (u(0.0, 0.3), u(0.02, 0.09))
    step_through = rng.random() < 0.3
    top_end = (0.0, bottom[1] + (seat[1] - bottom[1]) * (0.35 if step_through else 0.92), bottom[2] + (seat[2] - bottom[2]) * (0.35 if step_through else 0.92))
    rods = [
        (head_low, head_high, tube * 1.15), (head_low, bottom, tube), (head_high, top_end, tube), (bottom, seat, tube), (seat, saddle, tube),
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
            parts.append(Part(Rod(ends[0], ends[1], 0.0135), "metal"))
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
    paints = {"frame": colour, "tyre": RUBBER, "metal": metal(rng), "grip": (0.25, 0.17, 0.12) if rng.random() < 0.5 else (0.12, 0.12, 0.13), "basket": contrast(rng, colour)}
    outer = radius + tyre
    keypoints: dict[str, Vector] = {
        **_both("grip", (grip[0] + 0.02, grip[1], grip[2])),
        "stem": (0.0, bar_y + tube, stem[2]),
        "saddle_front": (0.0, saddle[1], saddle[2] + 0.085),
        "saddle_back": (0.0, saddle[1], saddle[2] - 0.085),
        **_both("crank", (0.06, bottom[1], bottom[2])),
        **pedals,
        **_both("hub_front", (0.05, front[1], front[2])),
        **_both("hub_back", (0.05, back[1], back[2])),
        "tyre_bottom_front": (0.0, 0.0, front[2]),
        "tyre_bottom_back": (0.0, 0.0, back[2]),
        "tyre_end_front": (0.0, front[1], front[2] + outer),
        "tyre_end_back": (0.0, back[1], back[2] - outer),
        "tyre_top_front": (0.0, front[1] + outer, front[2]),
        "tyre_top_back": (0.0, back[1] + outer, back[2]),
        "head": (0.0, head_low[1], head_low[2] + tube),
    }
    return Toy(tuple(parts), keypoints, paints, blend=0.006, cells=76, texture=None)


def _sides(*names: str) -> tuple[str, ...]:
    return tuple(f"{name}_{side}" for name in names for side in ("left", "right"))


CAR = Category(
    _car,
    (
        *_sides("wheel_front", "wheel_back", "roof_front", "roof_back", "windscreen", "backlight", "headlamp", "taillamp", "mirror"),
        "bumper_front", "bumper_back",
    ),
    elevation=(2, 30), outdoor=True,
)  # fmt: skip
BUS = Category(
    _bus,
    _sides("wheel_front", "wheel_back", "roof_front", "roof_back", "sill_front", "sill_back", "screen", "headlamp", "taillamp", "mirror"),
    elevation=(2, 30), outdoor=True,
)  # fmt: skip
AEROPLANE = Category(
    _aeroplane,
    (
        "nose", "cockpit", "tail", "fin_tip", "fin_root", "belly",
        *_sides("wing_tip", "wing_root_front", "wing_root_back", "tailplane_tip", "tailplane_root_front", "tailplane_root_back", "engine", "exhaust"),
    ),
    elevation=(-20, 40), outdoor=True, grounded=False,
)  # fmt: skip
BICYCLE = Category(
    _bicycle,
    (
        "grip_left", "grip_right", "stem", "saddle_front", "saddle_back", *_sides("crank", "pedal", "hub_front", "hub_back"),
        "tyre_bottom_front", "tyre_bottom_back", "tyre_end_front", "tyre_end_back", "tyre_top_front", "tyre_top_back", "head",
    ),
    elevation=(0, 25), outdoor=True,
)  # fmt: skip

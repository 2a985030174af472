"""Aeroplanes: thin wings in pairs, seen from below as well as from above."""

from __future__ import annotations

import numpy as np

from sc3d.datasets.toys.charts import Block
from sc3d.datasets.toys.palette import GLASS, bright, contrast, metal, texture
from sc3d.datasets.toys.shapes import Box, Disc, Turned, Vector, turn_z
from sc3d.datasets.toys.toy import Category, Decal, Part, Toy, both_sides, sides


def _aeroplane(rng: np.random.Generator) -> Toy:
    return aeroplane(rng)


def aeroplane(rng: np.random.Generator, mixed: bool = False) -> Toy:
    """An aeroplane with engines under its wings; a ``mixed`` one may be a high-winged one with straight wings, or have its engines at
    the tail, or none, without the keypoints there."""
    u = rng.uniform
    girth = u(0.058, 0.08)
    nose, tail = 0.5, -0.5
    profile = (
        (tail, girth * 0.22), (tail + 0.12, girth * 0.62), (tail + 0.28, girth * 0.97), (0.3, girth), (0.4, girth * 0.86),
        (0.46, girth * 0.55), (nose, girth * 0.12),
    )  # fmt: skip
    span, root, tip, sweep = u(0.38, 0.52), u(0.085, 0.12), u(0.4, 0.7), u(0.0, 0.2)
    wing_y, wing_z, dihedral = -girth * u(0.1, 0.6), u(0.0, 0.1), u(0, 9)
    if rng.random() < 0.3:
        wing_y = girth * 0.6
    engines = "wing"
    if mixed:
        is_high, is_straight = rng.random(2) < 0.5
        wing_y = girth * u(0.6, 0.9) if is_high else -girth * u(0.2, 0.7)
        sweep = u(-0.02, 0.03) if is_straight else u(0.1, 0.28)
        wing_z = u(0.0, 0.14) if is_straight else u(0.04, 0.16)
        engines = ("wing", "tail", "none")[int(rng.integers(3))]
    # The root of the wing is a landmark along the fuselage.
    along = ((tail, -1.0), (wing_z - root, -0.3), (wing_z + root, 0.3), (nose, 1.0))
    fuselage = Block(Box((0, 0, 0), (girth, girth, 0.5)), along)
    parts = [Part(Turned((0, 0, 0), profile, axis=2), "body", name="fuselage", chart=fuselage)]
    wing, wing_points = _wing("wing", (0, wing_y, wing_z), span, root, tip, sweep, dihedral, 0.019)
    parts.append(Part(wing, "wing", mirrored=True, name="* wing"))
    high_tail = rng.random() < (0.5 if mixed else 0.25)
    fin_height = u(0.15, 0.22)
    fin_sweep = u(0.04, 0.09)
    plane_y = fin_height * 0.93 if high_tail else girth * 0.3
    plane_z = -0.43 - (fin_sweep if high_tail else 0)
    plane, plane_points = _wing(
        "tailplane", (0, plane_y, plane_z), u(0.16, 0.22), u(0.05, 0.065), u(0.55, 0.8), u(0.02, 0.07), 2, 0.017
    )
    parts.append(Part(plane, "wing", mirrored=True, name="* tailplane"))
    fin = Box((0, fin_height / 2, -0.42 - fin_sweep / 2), (0.017, fin_height / 2, 0.065), 0.01, (0.9, 0.6), (0, -fin_sweep / 2))
    parts.append(Part(fin, "fin", name="fin"))
    engine_x, engine_r = span * u(0.3, 0.42), u(0.03, 0.042)
    share = engine_x / span
    engine_y = wing_y + np.tan(np.deg2rad(dihedral)) * engine_x - engine_r * u(0.7, 1.0)
    engine_z = wing_z - sweep * share + root * 0.55
    if engines == "tail":
        engine_x, engine_y, engine_z = girth * 0.75 + engine_r, girth * u(0.2, 0.5), u(-0.3, -0.22)
    intake = (engine_z + 0.085, engine_y)
    nacelle = ((-0.1, engine_r * 0.45), (-0.03, engine_r), (0.06, engine_r), (0.085, engine_r * 0.8))
    if engines != "none":
        parts.append(Part(Turned((engine_x, engine_y, engine_z), nacelle, axis=2), "engine", mirrored=True, name="* engine"))
    decals = [
        Decal(Box((0, girth * 0.62, 0.375), (girth * 0.75, girth * 0.24, 0.035), 0.008), "glass", mirrored=False, on="body"),
        Decal(Disc((engine_x, engine_y, intake[0] + 0.002), 0.03, engine_r * 0.62), "glass", on="engine"),
    ]
    porthole = (girth * 0.3, girth * 0.14, 0.013)
    decals += [
        Decal(Box((girth, girth * 0.22, float(z)), porthole, 0.004), "glass", on="body") for z in np.arange(-0.26, 0.29, 0.055)
    ]
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
    }
    if engines != "none":
        keypoints |= both_sides("engine", (engine_x, engine_y, intake[0])) | both_sides(
            "exhaust", (engine_x, engine_y, engine_z - 0.1)
        )
    return Toy(
        tuple(parts),
        keypoints,
        paints,
        tuple(decals),
        texture=texture(rng, "wing", paints["wing"], ("hoops", "checks", "blotches"), 0.3),
        blend=0.014,
        cells=56,
    )


def _wing(
    name: str, centre: Vector, span: float, root: float, tip: float, sweep: float, dihedral: float, thickness: float
) -> tuple[Box, dict[str, Vector]]:
    """A left wing whose root is at ``centre``: half chord ``root``, at the tip times ``tip`` and swept back by ``sweep``."""
    # A box whose up is the span: its tapered top is the wing's tip.
    rotation = turn_z(dihedral - 90)
    out = rotation @ np.array([0, 1, 0])
    middle = np.asarray(centre) + out * span / 2 + np.array([0, 0, -sweep / 2])
    box = Box(
        (float(middle[0]), float(middle[1]), float(middle[2])),
        (thickness, span / 2, root),
        0.012,
        (0.9, tip),
        (0, -sweep / 2),
        rotation,
    )
    end = np.asarray(centre) + out * span
    x, y = float(end[0]), float(end[1])
    lead, trail = centre[2] + root, centre[2] - root
    # Where the leading and trailing edges leave the fuselage, at a fixed share of the span.
    share = 0.2
    near = np.asarray(centre) + out * span * share
    chord = root * (1 + (tip - 1) * share)
    inner_z = centre[2] - sweep * share
    points = {
        **both_sides(f"{name}_tip", (x, y, centre[2] - sweep)),
        **both_sides(f"{name}_root_front", (float(near[0]), float(near[1]), min(inner_z + chord, lead))),
        **both_sides(f"{name}_root_back", (float(near[0]), float(near[1]), max(inner_z - chord, trail - sweep))),
    }
    return box, points


AEROPLANE = Category(
    _aeroplane,
    (
        "nose", "cockpit", "tail", "fin_tip", "fin_root", "belly",
        *sides("wing_tip", "wing_root_front", "wing_root_back", "tailplane_tip", "tailplane_root_front", "tailplane_root_back"),
        *sides("engine", "exhaust"),
    ),
    elevation=(-20, 40), outdoor=True, grounded=False,
)  # fmt: skip

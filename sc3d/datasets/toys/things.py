"""Mugs, bottles and quadrupeds: turned shapes, a shape without a front, and soft, posed ones."""

from __future__ import annotations

import numpy as np

from sc3d.datasets.toys.charts import Limb
from sc3d.datasets.toys.palette import bright, contrast, darker, fur, texture
from sc3d.datasets.toys.shapes import Ellipsoid, Ring, Rod, Turned, Vector
from sc3d.datasets.toys.toy import Category, Colour, Decal, Part, Texture, Toy, both_sides, sides

_ROUND = (("front", 0.0, 1.0), ("back", 0.0, -1.0), ("left", 1.0, 0.0), ("right", -1.0, 0.0))
_LEVELS = ("cap_top", "cap_bottom", "neck", "shoulder", "band_top", "band_bottom", "waist", "base")


def _mug(rng: np.random.Generator) -> Toy:
    """The handle is at the back, so that left and right mirror each other."""
    u = rng.uniform
    height, rim, base, wall = u(0.62, 0.95), u(0.3, 0.38), u(0.24, 0.36), u(0.045, 0.06)
    belly = (rim + base) / 2 * u(0.95, 1.12)
    profile = ((0.0, base - 0.02), (0.03, base), (height * 0.5, belly), (height - wall / 2, rim))
    # The wall keeps its thickness up to the rim, so the hollow goes on in a straight line above it.
    above = rim + (rim - belly) * 0.4
    hollow = ((0.07, base - wall - 0.02), (0.1, base - wall), (height * 0.5, belly - wall), (height * 1.2, above - wall))
    body = Turned((0, 0, 0), profile)
    handle_y, handle_r, thick = height * u(0.48, 0.56), height * u(0.22, 0.29), u(0.038, 0.055)
    stretch = u(0.85, 1.15)
    wall_z = -(body.radius_at(handle_y) - wall / 2)
    ring = Ring((0, handle_y, wall_z), handle_r, thick, stretch)
    lip = Ring((0, height - wall / 2, 0), rim - wall / 2, wall / 2, axis=1)
    parts = [Part(body, "body"), Part(ring, "handle"), Part(lip, "body")]
    band_y, band_half = height * u(0.35, 0.65), u(0.03, 0.1)
    colour = bright(rng)
    inside = (0.95, 0.94, 0.9) if rng.random() < 0.6 else darker(colour, 0.8)
    paints = {
        "body": colour,
        "handle": colour if rng.random() < 0.6 else contrast(rng, colour),
        "inside": inside,
        "band": contrast(rng, colour),
    }
    decals = [
        Decal(
            Turned((0, 0, 0), ((0.05, base - wall * 0.6), (height * 0.5, belly - wall * 0.6), (height * 1.2, above - wall * 0.6))),
            "inside",
            mirrored=False,
        )
    ]
    if rng.random() < 0.5:
        decals.insert(0, Decal(Turned((0, band_y, 0), ((-band_half, 1.0), (band_half, 1.0))), "band", mirrored=False, on="body"))
    outer_z = wall_z - stretch * handle_r
    attach = 0.5 * handle_r
    middle = height * 0.5
    keypoints: dict[str, Vector] = {
        **{f"rim_{name}": (x * (rim - wall / 2), height, z * (rim - wall / 2)) for name, x, z in _ROUND},
        **{f"base_{name}": (x * base, 0.0, z * base) for name, x, z in _ROUND},
        **{f"belly_{name}": (x * belly, middle, z * belly) for name, x, z in _ROUND if name != "back"},
        "handle_top": (0.0, handle_y + handle_r + thick, wall_z - attach * 0.6 * stretch),
        "handle_bottom": (0.0, handle_y - handle_r - thick, wall_z - attach * 0.6 * stretch),
        "handle_outside": (0.0, handle_y, outer_z - thick),
        "handle_side_left": (thick, handle_y, outer_z),
        "handle_side_right": (-thick, handle_y, outer_z),
    }
    # The hollow is carved after the handle is on: whatever of the ring reaches inside goes with it.
    hole = Turned((0, 0, 0), hollow)
    pattern = texture(rng, "body", colour, ("checks", "bands", "blotches"))
    return Toy(tuple(parts), keypoints, paints, tuple(decals), (hole,), pattern, blend=0.02, cells=30)


def _bottle(rng: np.random.Generator) -> Toy:
    """A solid of revolution, always seen from its front: its left and right are the outline's, as in SPair-71k's bottles."""
    u = rng.uniform
    radius, neck, cap = u(0.12, 0.18), u(0.042, 0.062), u(0.052, 0.07)
    shoulder, neck_low, cap_low = u(0.5, 0.62), u(0.68, 0.76), u(0.86, 0.91)
    waist_y, waist = u(0.24, 0.32), u(0.86, 1.0)
    band_low, band_high = waist_y + u(0.04, 0.08), shoulder - u(0.02, 0.06)
    glass = Turned(
        (0, 0, 0),
        ((0.0, radius * 0.9), (0.03, radius), (waist_y - 0.06, radius), (waist_y, radius * waist), (waist_y + 0.06, radius),
         (shoulder, radius * u(0.95, 1.0)), (shoulder + (neck_low - shoulder) * 0.5, radius * u(0.6, 0.8)), (neck_low, neck),
         (cap_low, neck)),
    )  # fmt: skip
    lid = Turned((0, 0, 0), ((cap_low - 0.01, cap), (0.99, cap), (1.0, cap * 0.9)))
    colour = bright(rng)
    label = contrast(rng, colour)
    paints = {"glass": darker(colour, 0.85), "cap": contrast(rng, label), "label": label}
    band = Turned((0, (band_low + band_high) / 2, 0), ((-(band_high - band_low) / 2, 1.0), ((band_high - band_low) / 2, 1.0)))
    heights = (1.0, cap_low, neck_low, shoulder, band_high, band_low, waist_y, 0.0)
    radii = (cap, cap, neck, *(glass.radius_at(y) for y in heights[3:]))
    keypoints: dict[str, Vector] = {}
    for name, y, r in zip(_LEVELS, heights, radii, strict=True):
        keypoints |= both_sides(name, (r, y, 0.0))
    pattern = texture(rng, "label", label, ("bands",), 0.5)
    return Toy(
        (Part(glass, "glass"), Part(lid, "cap")),
        keypoints,
        paints,
        (Decal(band, "label", mirrored=False, on="glass"),),
        (),
        pattern,
        0.015,
        50,
    )


def _quadruped(rng: np.random.Generator) -> Toy:
    u = rng.uniform
    back, body_r, half_length = u(0.42, 0.62), u(0.095, 0.15), u(0.2, 0.3)
    leg_r, foot_r = u(0.034, 0.05), u(0.032, 0.046)
    hip_x = body_r * u(0.5, 0.62)
    body_y = back - body_r
    chest: Vector = (0.0, body_y, half_length - body_r * 0.3)
    rump: Vector = (0.0, body_y + u(-0.02, 0.02), -half_length + body_r * 0.3)
    parts = [Part(Rod(rump, chest, body_r * u(0.85, 1.0), body_r), "fur")]
    neck_angle, neck = np.deg2rad(u(35, 75)), u(0.1, 0.3)
    head: Vector = (
        0.0,
        float(chest[1] + body_r * 0.5 + neck * np.sin(neck_angle)),
        float(chest[2] + body_r * 0.3 + neck * np.cos(neck_angle)),
    )
    head_r = u(0.07, 0.095)
    parts.append(Part(Rod((0, chest[1] + body_r * 0.2, chest[2]), head, body_r * u(0.55, 0.7), head_r * 0.75), "fur"))
    snout_length, snout_r, droop = u(0.07, 0.15), head_r * u(0.5, 0.7), np.deg2rad(u(5, 35))
    snout: Vector = (
        0.0,
        float(head[1] - np.sin(droop) * snout_length),
        float(head[2] + head_r * 0.5 + np.cos(droop) * snout_length),
    )
    parts += [
        Part(Ellipsoid(head, (head_r * 0.9, head_r, head_r * 1.1)), "fur"),
        Part(Rod(head, snout, head_r * 0.75, snout_r), "muzzle"),
    ]
    nose: Vector = (0.0, snout[1] + snout_r * 0.45, snout[2] + snout_r * 0.8)
    parts.append(Part(Ellipsoid(nose, (snout_r * 0.5, snout_r * 0.38, snout_r * 0.4)), "dark"))
    eye: Vector = (head_r * 0.68, head[1] + head_r * 0.38, head[2] + head_r * 0.68)
    parts.append(Part(Ellipsoid(eye, (0.021, 0.024, 0.021)), "dark", mirrored=True))
    ears, ear_tip = animal_ears(rng, head, head_r)
    parts += ears
    keypoints: dict[str, Vector] = {
        **both_sides("eye", (eye[0] + 0.01, eye[1], eye[2] + 0.01)),
        **both_sides("ear", ear_tip),
        "nose": (0.0, nose[1], nose[2] + 0.02),
        "chin": (0.0, snout[1] - snout_r, snout[2]),
        "withers": (0.0, chest[1] + body_r, chest[2] - body_r * 0.75),
        "croup": (0.0, rump[1] + body_r * 0.9, rump[2]),
        "chest": (0.0, chest[1] - body_r * 0.35, chest[2] + body_r * 0.9),
    }
    legs, leg_points = _legs(rng, hip_x, body_y, chest[2] - 0.02, rump[2] + 0.01, leg_r, foot_r)
    parts += legs
    tail_length, tail_angle = u(0.12, 0.28), np.deg2rad(u(-70, 60))
    root: Vector = (0.0, rump[1] + body_r * 0.55, rump[2] - body_r * 0.6)
    tip: Vector = (0.0, float(root[1] + tail_length * np.sin(tail_angle)), float(root[2] - tail_length * np.cos(tail_angle)))
    parts.append(Part(Rod(root, tip, 0.032, u(0.02, 0.035)), "fur"))
    keypoints |= leg_points
    away = np.subtract(tip, root) / tail_length * 0.03
    keypoints["tail"] = (0.0, float(tip[1] + away[1]), float(tip[2] + away[2]))
    paints, pattern = animal_coat(rng)
    return Toy(tuple(parts), keypoints, paints, texture=pattern, blend=0.035, cells=48)


def animal_coat(rng: np.random.Generator) -> tuple[dict[str, Colour], Texture | None]:
    """The paints of an animal, and the pattern of its fur."""
    u = rng.uniform
    coat = fur(rng) if rng.random() < 0.75 else bright(rng)
    paints = {
        "fur": coat,
        "muzzle": darker(coat, u(0.6, 1.3)),
        "dark": (0.06, 0.05, 0.05),
        "ear": darker(coat, u(0.55, 1.0)),
        "foot": darker(coat, u(0.35, 1.0)),
    }
    return paints, texture(rng, "fur", coat, ("blotches", "hoops"), 0.45)


def animal_ears(rng: np.random.Generator, head: Vector, head_r: float) -> tuple[list[Part], Vector]:
    """A pair of ears on a head, and the tip of the left one."""
    u = rng.uniform
    length, spread = u(0.05, 0.11), np.deg2rad(u(10, 75))
    root: Vector = (head_r * 0.55, head[1] + head_r * 0.6, head[2] - head_r * 0.2)
    tip: Vector = (float(root[0] + length * np.sin(spread)), float(root[1] + length * np.cos(spread)), root[2] - 0.01)
    ear = Rod(root, tip, u(0.028, 0.036), u(0.016, 0.026))
    # Ears may lie flat to the side: what is square to them there is the front.
    parts = [Part(ear, "ear", mirrored=True, name="* ear", chart=Limb(root, tip, ear.radius, across=(0.0, 0.0, 1.0)))]
    away = np.subtract(tip, root) / length * 0.025
    return parts, (float(tip[0] + away[0]), float(tip[1] + away[1]), tip[2])


def _legs(
    rng: np.random.Generator, hip_x: float, hip_y: float, front: float, back: float, leg_r: float, foot_r: float
) -> tuple[list[Part], dict[str, Vector]]:
    """Four legs in mid-stride: each swings by itself, so the pose is not mirror symmetric."""
    parts: list[Part] = []
    keypoints: dict[str, Vector] = {}
    swing = rng.uniform(0, 0.09)
    for end, z, bend in (("front", front, 0.02), ("back", back, -0.04)):
        for side, s in (("left", 1.0), ("right", -1.0)):
            stride = swing * rng.uniform(-1, 1)
            hip: Vector = (s * hip_x, hip_y, z)
            knee: Vector = (s * hip_x * 1.08, hip_y * 0.5, z + stride * 0.6 + bend)
            ankle: Vector = (s * hip_x * 1.08, foot_r, z + stride)
            parts.append(Part(Rod(hip, knee, leg_r * 1.5, leg_r), "fur"))
            parts.append(Part(Rod(knee, ankle, leg_r, leg_r * 0.85), "fur"))
            parts.append(Part(Ellipsoid((ankle[0], foot_r * 0.9, ankle[2] + 0.012), (foot_r, foot_r * 0.9, foot_r * 1.3)), "foot"))
            # The point of the knee is on the outer side, where it is seen from the animal's flank.
            keypoints[f"knee_{end}_{side}"] = (knee[0] + s * leg_r, knee[1], knee[2])
            keypoints[f"foot_{end}_{side}"] = (ankle[0], 0.0, ankle[2] + 0.012 + foot_r)
    return parts, keypoints


MUG = Category(
    _mug,
    (
        *(f"rim_{name}" for name, _, _ in _ROUND),
        *(f"base_{name}" for name, _, _ in _ROUND),
        "belly_front", "belly_left", "belly_right", "handle_top", "handle_bottom", "handle_outside",
        "handle_side_left", "handle_side_right",
    ),
    elevation=(5, 45),
)  # fmt: skip
BOTTLE = Category(_bottle, sides(*_LEVELS), elevation=(0, 25), turns=False)
QUADRUPED = Category(
    _quadruped,
    (
        "eye_left", "eye_right", "ear_left", "ear_right", "nose", "chin", "withers", "croup", "chest",
        *sides("knee_front", "foot_front", "knee_back", "foot_back"), "tail",
    ),
    elevation=(0, 30), outdoor=True,
)  # fmt: skip

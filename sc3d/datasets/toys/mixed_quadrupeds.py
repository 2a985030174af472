"""Quadrupeds of mixed build and pose: short and long legs, necks and tails, heads up and down, standing, stepping, crouching, lying."""

from __future__ import annotations

import numpy as np

from sc3d.datasets.toys.charts import Limb
from sc3d.datasets.toys.shapes import Ellipsoid, Rod, Vector
from sc3d.datasets.toys.things import animal_coat, animal_ears
from sc3d.datasets.toys.toy import Part, Toy, both_sides

POSES = ("standing", "stepping", "crouching", "lying")


def mixed_quadruped(rng: np.random.Generator) -> Toy:
    """One of four poses; the build is drawn apart from it."""
    u = rng.uniform
    pose = POSES[int(rng.integers(len(POSES)))]
    body_r, half_length, leg = u(0.085, 0.15), u(0.19, 0.33), u(0.16, 0.48)
    leg_r, foot_r = u(0.03, 0.048), u(0.03, 0.044)
    bend = {"standing": u(0.9, 0.99), "stepping": u(0.85, 0.97), "crouching": u(0.6, 0.8), "lying": 0.0}[pose]
    hip_y = max(body_r * 1.0 if pose == "lying" else leg * bend + foot_r, body_r * 0.75)
    chest: Vector = (0.0, hip_y, half_length - body_r * 0.3)
    rump: Vector = (0.0, hip_y + (u(-0.02, 0.03) if pose != "lying" else 0.0), -half_length + body_r * 0.3)
    parts = [_limb("body", rump, chest, (body_r * u(0.8, 1.0), body_r))]
    head_parts, points = _head(rng, chest, body_r)
    parts += head_parts
    points |= {
        "withers": (0.0, chest[1] + body_r, chest[2] - body_r * 0.75),
        "croup": (0.0, rump[1] + body_r * 0.85, rump[2]),
        "chest": (0.0, chest[1] - body_r * 0.35, chest[2] + body_r * 0.9),
    }
    swing = u(0.05, 0.14) if pose == "stepping" else u(0.0, 0.03)
    for end, z in (("front", chest[2] - 0.02), ("back", rump[2] + 0.01)):
        for side, s in (("left", 1.0), ("right", -1.0)):
            hip: Vector = (s * body_r * 0.56, hip_y, z)
            stride, lift = swing * u(-1, 1), max(u(-0.12, 0.12), 0.0) if pose == "stepping" else 0.0
            knee, ankle = (
                _folded_leg(hip, leg, leg_r, foot_r, end) if pose == "lying" else _leg(hip, leg, foot_r + lift, stride, end)
            )
            parts += _leg_parts(f"{end} {side}", hip, knee, ankle, leg_r, foot_r)
            points[f"knee_{end}_{side}"] = (knee[0] + s * leg_r, knee[1], knee[2])
            points[f"foot_{end}_{side}"] = (ankle[0], max(ankle[1] - foot_r, 0.0), ankle[2] + 0.012 + foot_r)
    tail_length, tail_angle = u(0.05, 0.4), np.deg2rad(u(-10, 60) if pose == "lying" else u(-70, 70))
    root: Vector = (0.0, rump[1] + body_r * 0.5, rump[2] - body_r * 0.6)
    away = np.array([0.0, np.sin(tail_angle), -np.cos(tail_angle)])
    tip = _moved(root, away * tail_length)
    parts.append(_limb("tail", root, tip, (0.032, u(0.018, 0.035))))
    points["tail"] = _moved(tip, away * 0.03)
    paints, pattern = animal_coat(rng)
    return Toy(tuple(parts), points, paints, texture=pattern, blend=0.03, cells=52)


def _head(rng: np.random.Generator, chest: Vector, body_r: float) -> tuple[list[Part], dict[str, Vector]]:
    """Neck, head, muzzle, nose, eyes and ears, and their keypoints; the neck may be long, and point up or down."""
    u = rng.uniform
    angle, neck, head_r = np.deg2rad(u(-30, 80)), u(0.08, 0.42), u(0.06, 0.09)
    root: Vector = (0.0, chest[1] + body_r * 0.25, chest[2])
    # A head that hangs stops short of the ground.
    reach = body_r * 0.8 + neck
    drop = max(reach * np.sin(angle), head_r * 1.6 - root[1])
    head = _moved(root, np.array([0.0, drop, max(reach * np.cos(angle), body_r * 0.7)]))
    droop, length, snout_r = np.deg2rad(u(0, 45)), u(0.06, 0.15), head_r * u(0.5, 0.7)
    down = min(np.sin(droop) * length, head[1] - snout_r * 1.1)
    snout = _moved(head, np.array([0.0, -down, head_r * 0.5 + np.cos(droop) * length]))
    nose: Vector = (0.0, snout[1] + snout_r * 0.45, snout[2] + snout_r * 0.8)
    eye: Vector = (head_r * 0.68, head[1] + head_r * 0.38, head[2] + head_r * 0.68)
    ears, ear_tip = animal_ears(rng, head, head_r)
    parts = [
        _limb("neck", root, head, (body_r * u(0.45, 0.65), head_r * 0.75)),
        Part(Ellipsoid(head, (head_r * 0.9, head_r, head_r * 1.1)), "fur", name="head"),
        _limb("muzzle", head, snout, (head_r * 0.75, snout_r), "muzzle"),
        Part(Ellipsoid(nose, (snout_r * 0.5, snout_r * 0.38, snout_r * 0.4)), "dark", name="nose"),
        Part(Ellipsoid(eye, (0.021, 0.024, 0.021)), "dark", mirrored=True, name="* eye"),
        *ears,
    ]
    points: dict[str, Vector] = {
        **both_sides("eye", (eye[0] + 0.01, eye[1], eye[2] + 0.01)),
        **both_sides("ear", ear_tip),
        "nose": (0.0, nose[1], nose[2] + 0.02),
        "chin": (0.0, snout[1] - snout_r, snout[2]),
    }
    return parts, points


def _leg(hip: Vector, length: float, height: float, stride: float, end: str) -> tuple[Vector, Vector]:
    """Knee and ankle of a leg that stands or steps: the ankle ``stride`` ahead of the hip, the front knee bent forwards,
    the hind one back."""
    ankle: Vector = (hip[0] * 1.08, height, hip[2] + stride)
    between = np.subtract(ankle, hip)
    span = float(np.linalg.norm(between))
    # Two equal bones; a leg that is stretched beyond its length is straight.
    aside = float(np.sqrt(max((length / 2) ** 2 - (span / 2) ** 2, 0.0)))
    forwards = np.cross(between / span, [1.0, 0.0, 0.0])
    forwards *= (1 if end == "front" else -1) * np.sign(forwards[2])
    return _moved(hip, between / 2 + forwards * aside), ankle


def _folded_leg(hip: Vector, length: float, leg_r: float, foot_r: float, end: str) -> tuple[Vector, Vector]:
    """Knee and ankle of a leg of an animal that lies: the hind knee forwards at the flank, both feet ahead on the ground."""
    out, bone = hip[0] * 1.5 + np.sign(hip[0]) * leg_r, length / 2
    knee_y = leg_r * 1.3 if end == "front" else max(hip[1], leg_r * 1.6)
    ahead = float(np.sqrt(max(bone**2 - (hip[1] - knee_y) ** 2, (0.3 * bone) ** 2)))
    back = -0.7 if end == "front" else 1.0
    knee: Vector = (out, knee_y, hip[2] + ahead * back)
    rest = float(np.sqrt(max(bone**2 - (knee_y - foot_r) ** 2, (0.3 * bone) ** 2)))
    forth = 1.0 if end == "front" else -0.6
    return knee, (out * 1.1, foot_r, knee[2] + rest * forth)


def _leg_parts(name: str, hip: Vector, knee: Vector, ankle: Vector, leg_r: float, foot_r: float) -> list[Part]:
    upper, lower = Rod(hip, knee, leg_r * 1.5, leg_r), Rod(knee, ankle, leg_r, leg_r * 0.85)
    foot = Ellipsoid((ankle[0], ankle[1] - foot_r * 0.1, ankle[2] + 0.012), (foot_r, foot_r * 0.9, foot_r * 1.3))
    return [
        Part(upper, "fur", name=f"{name} leg", chart=Limb(hip, knee, leg_r, (-1.0, 0.0))),
        Part(lower, "fur", name=f"{name} leg", chart=Limb(knee, ankle, leg_r, (0.0, 1.0))),
        Part(foot, "foot", name=f"{name} foot"),
    ]


def _limb(name: str, start: Vector, end: Vector, radii: tuple[float, float], paint: str = "fur") -> Part:
    return Part(Rod(start, end, *radii), paint, name=name, chart=Limb(start, end, max(radii)))


def _moved(point: Vector, by: np.ndarray) -> Vector:
    x, y, z = np.add(point, by)
    return float(x), float(y), float(z)

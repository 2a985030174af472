"""Cars of mixed body types: sedans, vans, pickups, flatbeds and bus-like ones, the same parts in other proportions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sc3d.datasets.toys.charts import Block
from sc3d.datasets.toys.palette import GLASS, LAMP, RUBBER, TAIL_LAMP, bright, darker, metal, texture
from sc3d.datasets.toys.shapes import Box, Ellipsoid, Rod, Shape, Vector
from sc3d.datasets.toys.toy import Decal, Part, Toy, Zone, both_sides
from sc3d.datasets.toys.vehicles import car_glass, vehicle_wheels

_END, _BODY = 0.49, "body"
# A zone on the skin of the body reaches this deep, a little more than its edges are rounded.
_SKIN = 0.035


@dataclass(frozen=True)
class _Sizes:
    """Half width, heights and positions along z. ``deck`` is the height of the body behind the cabin: below ``waist`` on a flatbed."""

    half_width: float
    clearance: float
    waist: float
    roof: float
    deck: float
    bonnet: float
    boot: float
    rake_front: float
    rake_back: float
    wheel: float
    wheel_front: float
    wheel_back: float

    @property
    def middle_y(self) -> float:
        return (self.clearance + self.waist) / 2

    @property
    def half_y(self) -> float:
        return (self.waist - self.clearance) / 2


def mixed_car(rng: np.random.Generator) -> Toy:
    """One of five body types."""
    kind = ("sedan", "van", "pickup", "flatbed", "bus")[int(rng.integers(5))]
    s = _sizes(rng, kind)
    body = [Box((0, s.middle_y, 0), (s.half_width, s.half_y, _END), 0.035, top=(0.98, 0.97))]
    if kind == "flatbed":
        # Only the cab is as high as the waist; behind it the body is a frame under the platform.
        rear = (s.boot - 0.02, _END)
        front = Box((0, s.middle_y, sum(rear) / 2), (s.half_width, s.half_y, (rear[1] - rear[0]) / 2), 0.03, top=(0.98, 0.97))
        half = (s.deck - s.clearance) / 2
        body = [front, Box((0, s.clearance + half, 0), (s.half_width * 0.8, half, _END), 0.02)]
    length = s.bonnet - s.boot
    shift = (s.rake_back - s.rake_front) / 4
    cabin = Box(
        (0, (s.roof + s.waist) / 2 - 0.02, (s.bonnet + s.boot) / 2 + shift),
        (s.half_width - 0.012, (s.roof - s.waist) / 2 + 0.02, length / 2),
        0.03,
        (float(rng.uniform(0.8, 0.95)), 1 - (s.rake_front + s.rake_back) / length),
        (0, shift),
    )
    parts = [*(Part(box, "body", name=_BODY, chart=Block(_skin(s), _along(s))) for box in body), Part(cabin, "body", name="cabin")]
    bed, carving, bed_zones = _bed(s, kind)
    parts += bed
    bumper_y = s.clearance + 0.04
    for z, end in ((0.485, "front"), (-0.485, "rear")):
        parts.append(Part(Box((0, bumper_y, z), (s.half_width * 0.96, 0.028, 0.03), 0.02), "trim", name=f"{end} bumper"))
    wheels, rims, wheel_points = vehicle_wheels(s.half_width + 0.012, s.wheel, 0.042, s.wheel_front, s.wheel_back)
    parts += wheels
    mirror: Vector = (s.half_width + 0.02, s.waist + 0.022, s.bonnet - s.rake_front * 0.45)
    shell = Ellipsoid(mirror, (0.035, 0.024, 0.02))
    parts.append(
        Part(Rod((s.half_width - 0.04, s.waist - 0.02, mirror[2]), mirror, 0.018), "trim", True, "* mirror", _round(shell))
    )
    parts.append(Part(shell, "trim", True, "* mirror", _round(shell)))
    roof_front, roof_back = s.bonnet - s.rake_front, s.boot + s.rake_back
    # The tail lamps sit below the deck, which a flatbed has far below its waist.
    lamp: Vector = (s.half_width * 0.72, s.waist - 0.057, 0.49)
    tail: Vector = (s.half_width * (0.6 if kind == "flatbed" else 0.76), min(s.waist - 0.052, s.deck - 0.02), -0.49)
    decals = [
        *rims,
        *car_glass((s.waist, s.roof), (s.bonnet, roof_front), (s.boot, roof_back), s.half_width, (s.half_width - 0.012) * 0.82),
        Decal(Ellipsoid(lamp, (0.045, 0.032, 0.05)), "lamp", on="body"),
        Decal(Box(tail, (0.04, 0.022, 0.04), 0.005), "tail", on="body"),
        Decal(Box((0, lamp[1] - 0.005, 0.49), (s.half_width * 0.42, 0.02, 0.04), 0.005), "trim", mirrored=False, on="body"),
    ]
    colour = bright(rng)
    paints = {
        "body": colour, "trim": darker(metal(rng), float(rng.uniform(0.3, 1))), "tyre": RUBBER, "rim": metal(rng), "glass": GLASS,
        "lamp": LAMP, "tail": TAIL_LAMP, "bed": darker(colour, 0.7) if rng.random() < 0.5 else metal(rng),
    }  # fmt: skip
    roof_x = cabin.half[0] * cabin.top[0]
    keypoints: dict[str, Vector] = {
        **wheel_points,
        **both_sides("roof_front", (roof_x, s.roof, roof_front)),
        **both_sides("roof_back", (roof_x, s.roof, roof_back)),
        **both_sides("windscreen", (cabin.half[0] * 0.94, s.waist, s.bonnet)),
        **both_sides("backlight", (cabin.half[0] * 0.94, s.waist, s.boot)),
        **both_sides("headlamp", (lamp[0], lamp[1], 0.5)),
        **both_sides("taillamp", (tail[0], tail[1], -0.5)),
        **both_sides("mirror", (mirror[0] + 0.04, mirror[1], mirror[2])),
        "bumper_front": (0.0, bumper_y, 0.52),
        "bumper_back": (0.0, bumper_y, -0.52),
    }
    pattern = texture(rng, "body", colour, ("hoops", "checks", "bands"), 0.25)
    zones = (*_zones(s, kind), *bed_zones)
    return Toy(tuple(parts), keypoints, paints, tuple(decals), carving, pattern, blend=0.012, cells=48, zones=zones)


def _sizes(rng: np.random.Generator, kind: str) -> _Sizes:
    u = rng.uniform
    width = {"sedan": (0.18, 0.23), "van": (0.16, 0.22), "pickup": (0.16, 0.21), "flatbed": (0.14, 0.2), "bus": (0.12, 0.17)}[kind]
    waist = u(0.2, 0.27)
    # Of glass and roof above the waist; where the cabin begins and ends at the waist; how far its screens lean.
    cabin = {"sedan": (0.1, 0.17), "van": (0.14, 0.24), "pickup": (0.11, 0.17), "flatbed": (0.12, 0.2), "bus": (0.12, 0.22)}[kind]
    bonnet = {"sedan": (0.12, 0.24), "van": (0.28, 0.4), "pickup": (0.14, 0.26), "flatbed": (0.36, 0.465), "bus": (0.465, 0.475)}[
        kind
    ]
    boot = {"sedan": (0.24, 0.36), "van": (0.465, 0.475), "pickup": (-0.02, 0.1), "flatbed": (-0.24, -0.12), "bus": (0.465, 0.475)}[
        kind
    ]
    lean = {"sedan": (0.09, 0.15), "van": (0.06, 0.14), "pickup": (0.05, 0.1), "flatbed": (0.01, 0.05), "bus": (0.005, 0.03)}[kind]
    return _Sizes(
        half_width=u(*width),
        clearance=u(0.055, 0.085),
        waist=waist,
        roof=waist + u(*cabin),
        deck=u(0.155, 0.19) if kind == "flatbed" else waist,
        bonnet=u(*bonnet),
        boot=-u(*boot),
        rake_front=u(*lean),
        rake_back=u(0.06, 0.12) if kind == "sedan" else u(0.0, 0.02),
        wheel=u(0.06, 0.072) if kind == "flatbed" else u(0.065, 0.1),
        wheel_front=u(0.26, 0.34),
        wheel_back=-u(0.24, 0.34),
    )


def _skin(s: _Sizes) -> Box:
    return Box((0, s.middle_y, 0), (s.half_width, s.half_y, _END))


def _along(s: _Sizes) -> tuple[tuple[float, float], ...]:
    """The wheels are the landmarks along a body, whatever stands on it."""
    return (-_END, -1.0), (s.wheel_back, -0.6), (s.wheel_front, 0.6), (_END, 1.0)


def _zones(s: _Sizes, kind: str) -> tuple[Zone, ...]:
    """Sides, ends, underside, and what lies on top in front of the cabin and behind it."""
    chart = Block(_skin(s), _along(s))
    high = s.half_y + 0.1

    def slab(name: str, z: tuple[float, float]) -> Zone:
        """What lies on the waist between two z, with coordinates along it from -1 to 1."""
        middle, half = (z[0] + z[1]) / 2, (z[1] - z[0]) / 2
        own = Block(Box((0, s.waist, middle), (s.half_width, s.half_y, half)))
        return Zone(name, Box((0, s.waist, middle), (s.half_width + 0.1, _SKIN, half + _SKIN)), own, _BODY)

    zones = [
        Zone("underside", Box((0, s.clearance, 0), (1.0, 0.02, 1.0)), chart, _BODY),
        Zone("* side", Box((s.half_width + 0.065, s.middle_y, 0), (0.1, high, 1.0)), chart, _BODY, mirrored=True),
        Zone("front", Box((0, s.middle_y, _END + 0.065), (1.0, high, 0.1)), chart, _BODY),
        Zone("rear", Box((0, s.middle_y, -_END - 0.065), (1.0, high, 0.1)), chart, _BODY),
    ]
    if kind != "bus" and s.bonnet < _END - 0.06:
        zones.append(slab("hood", (s.bonnet, _END - 0.02)))
    if kind == "sedan":
        zones.append(slab("boot", (-_END + 0.02, s.boot)))
    return tuple(zones)


def _bed(s: _Sizes, kind: str) -> tuple[list[Part], tuple[Shape, ...], tuple[Zone, ...]]:
    """What carries the load: hollowed out of a pickup's body, a platform on a flatbed's; solids, carvings, and zones."""
    start, end, wall = -_END + 0.02, s.boot - 0.02, 0.035
    middle, half = (start + end) / 2, (end - start) / 2
    floor = s.clearance + 0.4 * (s.waist - s.clearance) if kind == "pickup" else s.deck
    depth = (s.waist - s.clearance) * 0.6
    chart = Block(Box((0, floor + depth / 2, middle), (s.half_width, depth / 2, half)))
    if kind == "flatbed":
        platform = Box((0, s.deck, middle), (s.half_width * 1.03, 0.018, half), 0.01)
        return [Part(platform, "bed", name="bed", chart=chart)], (), ()
    if kind != "pickup":
        return [], (), ()
    hollow = Box((0, floor + 0.25, middle), (s.half_width - wall, 0.25, half - wall / 2))
    lining = Box(hollow.centre, (hollow.half[0] + 0.012, hollow.half[1] + 0.012, hollow.half[2] + 0.012))
    rim = Box((0, s.waist + 0.09, middle), (s.half_width + 0.1, 0.1, half + 0.02))
    return [], (hollow,), (Zone("bed", rim, chart, _BODY), Zone("bed", lining, chart, _BODY))


def _round(shape: Ellipsoid) -> Block:
    return Block(Box(shape.centre, shape.radii))

"""The categories of the toys benchmark, by name."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from sc3d.datasets.toys.aeroplane import AEROPLANE, aeroplane
from sc3d.datasets.toys.bicycle import BICYCLE
from sc3d.datasets.toys.furniture import CHAIR, TABLE, chair
from sc3d.datasets.toys.mixed_cars import mixed_car
from sc3d.datasets.toys.mixed_quadrupeds import mixed_quadruped
from sc3d.datasets.toys.things import BOTTLE, MUG, QUADRUPED
from sc3d.datasets.toys.toy import Category
from sc3d.datasets.toys.vehicles import BUS, CAR

CATALOGUE: dict[str, Category] = {
    "aeroplane": AEROPLANE,
    "bicycle": BICYCLE,
    "bottle": BOTTLE,
    "bus": BUS,
    "car": CAR,
    "chair": CHAIR,
    "mug": MUG,
    "quadruped": QUADRUPED,
    "table": TABLE,
}
CATEGORIES = tuple(CATALOGUE)

MIXED: dict[str, Category] = {
    "aeroplane": replace(AEROPLANE, build=partial(aeroplane, mixed=True)),
    "car": replace(CAR, build=mixed_car),
    "chair": replace(CHAIR, build=partial(chair, stools=0.25)),
    "quadruped": replace(QUADRUPED, build=mixed_quadruped),
}
"""Categories of which there are instances of mixed build and pose, with dense truth. They have the keypoints of their namesakes."""


def category_named(name: str, mixed: bool = False) -> Category:
    """A category of the catalogue, with instances of mixed build if that is asked for and there are any."""
    return MIXED[name] if mixed and name in MIXED else CATALOGUE[name]

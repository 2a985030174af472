"""The categories of the toys benchmark, by name."""

from __future__ import annotations

from sc3d.datasets.toys.aeroplane import AEROPLANE
from sc3d.datasets.toys.bicycle import BICYCLE
from sc3d.datasets.toys.furniture import CHAIR, TABLE
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

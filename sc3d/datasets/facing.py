"""Which side of its object a photo shows, as a person has said it: a CSV file with an image and a side a line."""

from __future__ import annotations

import math
import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path

from sc3d.datasets.annotation_files import read_lines_of_csv
from sc3d.errors import InputError
from sc3d.records import ImageRecord

SIDES: dict[str, float] = {
    "front": 0.0,
    "front-left": 45.0,
    "left": 90.0,
    "rear-left": 135.0,
    "rear": 180.0,
    "rear-right": 225.0,
    "right": 270.0,
    "front-right": 315.0,
}
"""Side of the object that is turned to the camera -> azimuth of the camera in degrees, from the object's front towards its own left."""

HEADER = ("image_id", "facing")
_SHOWN = 3


def read_facings(path: str | Path) -> dict[str, float]:
    """Image id, or name of a file -> azimuth of the camera in degrees, 0 to 360; what is said last of an image counts.

    A side is a name of :data:`SIDES` or a number of degrees. A header line is passed over.

    Raises:
        InputError: the file cannot be read, or a line holds something else; names the line.
    """
    facings = {}
    for fields, where in read_lines_of_csv(Path(path)):
        if tuple(fields) == HEADER:
            continue
        if len(fields) != len(HEADER):
            raise InputError(f"{where}: {len(fields)} fields; expected an image and a side, such as: bus_1.jpg,front-left")
        facings[fields[0]] = _azimuth(fields[1], where)
    return facings


def _azimuth(text: str, where: str) -> float:
    if text.lower() in SIDES:
        return SIDES[text.lower()]
    try:
        degrees = float(text)
    except ValueError:
        degrees = math.nan
    if not math.isfinite(degrees):
        raise InputError(f"{where}: '{text[:40]}' is no side; expected {', '.join(SIDES)}, or degrees")
    # Twice, since a hair below 0 the first gives 360.
    return degrees % 360 % 360


def with_facings(images: Sequence[ImageRecord], facings: Mapping[str, float], where: str) -> list[ImageRecord]:
    """The images with what was said of them, by their ids or by the names of their files.

    Raises:
        InputError: something was said of an image that is not among them, or of a name that several have; ``where`` begins the message.
    """
    ids = {image.image_id for image in images}
    ids_of: dict[str, list[str]] = {name: [] for name in facings.keys() - ids}
    for image in images:
        if (name := posixpath.basename(image.path)) in ids_of:
            ids_of[name].append(image.image_id)
    unknown = sorted(name for name, found in ids_of.items() if len(found) != 1)
    if unknown:
        listed = ", ".join(f"'{name}'" for name in unknown[:_SHOWN])
        raise InputError(
            f"{where}: {len(unknown):,} names are of no image of the data set, or of several: {listed}; "
            "remove their lines, or write the ids of the images"
        )
    said = {ids_of[name][0] if name in ids_of else name: azimuth for name, azimuth in facings.items()}
    return [image.replace(facing=said.get(image.image_id)) for image in images]

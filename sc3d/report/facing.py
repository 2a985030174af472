"""A page on which a person says which side of its object each photo shows, where the program was not sure."""

from __future__ import annotations

from dataclasses import dataclass

from sc3d.datasets.facing import SIDES
from sc3d.geometry.camera import looking_from
from sc3d.geometry.mesh import Mesh
from sc3d.report.page import render_template
from sc3d.report.pictures import mesh_view, png_uri

_SIDE_PIXELS = 120
_ELEVATION = 15.0


@dataclass(frozen=True)
class SidePicture:
    """A side by its name (:data:`~sc3d.datasets.facing.SIDES`), and the mesh as one sees it, a data URI."""

    name: str
    picture: str


@dataclass(frozen=True)
class FacingPhoto:
    """A photo to be judged: ``photo`` a data URI; ``guess`` the side that the program took it for, ``said`` what a person has said, or
    empty."""

    image_id: str
    name: str
    photo: str
    guess: str
    said: str


@dataclass(frozen=True)
class FacingCategory:
    """The photos of a category, and what its object looks like from each side."""

    name: str
    sides: tuple[SidePicture, ...]
    photos: tuple[FacingPhoto, ...]


@dataclass(frozen=True)
class FacingPage:
    """The page. ``unsure``: photos in all that the program is not sure of; ``command``: what to run with the file."""

    run: str
    categories: tuple[FacingCategory, ...]
    unsure: int
    command: str


def side_pictures(mesh: Mesh) -> tuple[SidePicture, ...]:
    """A canonical mesh from all sides.

    Raises:
        GeometryError: the mesh cannot be drawn.
    """
    rotations = {name: looking_from(azimuth, _ELEVATION, 0.0) for name, azimuth in SIDES.items()}
    return tuple(SidePicture(name, png_uri(mesh_view(mesh, R, _SIDE_PIXELS).picture)) for name, R in rotations.items())


def nearest_side(azimuth: float) -> str:
    """The name of the side that an azimuth in degrees is nearest to."""
    return list(SIDES)[round(azimuth / 45) % len(SIDES)]


def facing_page(page: FacingPage) -> str:
    """The page as one self-contained HTML file."""
    return render_template("facing.html", ("facing.js",), ("style.css", "facing.css"), page=page)
